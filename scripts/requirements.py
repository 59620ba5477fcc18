"""``requirements.py EXTRA``: print what an extra of pyproject.toml lists, and the package's own dependencies.

With this list, pip installs them without building the package, as it would for ``.[EXTRA]``.
"""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]


def listed(project: dict[str, Any], extra: str) -> Iterator[str]:
    """Yield the requirements of an extra, and of the extras of this project that it names. Raises KeyError."""
    for requirement in project["optional-dependencies"][extra]:
        name, _, other = requirement.partition("[")
        if name == project["name"]:
            yield from listed(project, other.rstrip("]"))
        else:
            yield requirement


def main() -> None:
    """Print one requirement on each line."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    print("\n".join((*project["dependencies"], *listed(project, sys.argv[1]))))


if __name__ == "__main__":
    main()
