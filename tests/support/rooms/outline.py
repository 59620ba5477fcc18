"""An HTML parser for tests: checks that all tags are closed in order, and collects the elements with their text."""

from collections import Counter
from html.parser import HTMLParser

VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})
"""Elements without an end tag: the HTML standard, section 13.1.2."""


class Outline(HTMLParser):
    """The elements of a page. Fails if a tag is left open or misnested, or if an attribute or an id is duplicated."""

    def __init__(self, page: str) -> None:
        super().__init__()
        #: The elements in the order of their end tags: tag, attributes, and the text inside.
        self.elements: list[tuple[str, dict[str, str], str]] = []
        #: The number of start tags, by tag.
        self.tags: Counter[str] = Counter()
        self.declaration = ""
        self._open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(page)
        self.close()
        assert not self._open, f"these are not closed: {[tag for tag, *_ in self._open]}"
        ids = [attributes["id"] for _, attributes, _ in self.elements if "id" in attributes]
        assert len(set(ids)) == len(ids), ids

    def texts(self, tag: str, of_class: str = "") -> list[str]:
        """Return the text of each element with this tag, or only of those with this class."""
        return [
            text
            for found, attributes, text in self.elements
            if found == tag and (not of_class or of_class in attributes.get("class", "").split())
        ]

    def handle_decl(self, decl: str) -> None:
        """Keep the document type declaration."""
        self.declaration = decl

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        attributes = {name: value or "" for name, value in attrs}
        assert len(attributes) == len(attrs), attrs
        self.tags[tag] += 1
        if tag not in VOID:
            self._open.append((tag, attributes, []))

    def handle_endtag(self, tag: str) -> None:
        """Close the element that was opened last."""
        assert self._open, f"{tag} is closed, but not open"
        opened, attributes, texts = self._open.pop()
        assert opened == tag, f"{tag} is closed, but {opened} is open"
        self.elements.append((tag, attributes, "".join(texts)))

    def handle_data(self, data: str) -> None:
        """Add the text to every open element."""
        for _, _, texts in self._open:
            texts.append(data)
