"""Tables of the pages in docs, for tests that hold them against the code."""

from itertools import takewhile

from lab.tree import REPOSITORY


def table(page: str, head: str) -> dict[str, tuple[str, ...]]:
    """Return the table whose first column has this head: the cells of each row by its first, without backquotes."""
    lines = (REPOSITORY / "docs" / page).read_text(encoding="utf-8").splitlines()
    [start] = (number for number, line in enumerate(lines) if line.startswith(f"| {head} |"))
    rows = takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    cells = ([cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows)
    return {first: tuple(others) for first, *others in cells}
