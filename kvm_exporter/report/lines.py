"""Lines of text for a person, in the width of a terminal or whole."""

import textwrap
from collections.abc import Iterable


def fitting(full: Iterable[str], short: Iterable[str], width: int | None) -> Iterable[str]:
    """Return the full lines if all of them fit the width in characters (None: any width), otherwise the short ones."""
    lines = [*full]
    return lines if width is None or all(len(line) <= width for line in lines) else short


def wrapped(lines: Iterable[str], width: int | None) -> str:
    """Return the text of the lines, those wrapped that are longer than the width in characters (None: none)."""
    return "".join(f"{part}\n" for line in lines for part in _wrapped(line, width))


def _wrapped(line: str, width: int | None) -> list[str]:
    if width is None or len(line) <= width:
        return [line]
    return textwrap.wrap(line, width, subsequent_indent="    ", break_on_hyphens=False, break_long_words=False)
