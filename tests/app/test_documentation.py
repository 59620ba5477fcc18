"""kvm_exporter.app.documentation: links that lead somewhere, or none."""

import tomllib

import pytest

from kvm_exporter.app.documentation import PAGES, documentation, links
from lab.tree import REPOSITORY


@pytest.mark.parametrize("source", ["https://git.example.org/kvm-exporter", "https://git.example.org/kvm-exporter/"])
def test_the_pages_are_below_the_projects_url(source: str) -> None:
    """With or without a slash at its end; each page is a file of this repository."""
    assert links(source)["Runbooks"] == "https://git.example.org/kvm-exporter/docs/runbooks.md"
    assert all((REPOSITORY / path).is_file() for path in PAGES.values())


@pytest.mark.parametrize("source", ["", "https://example.invalid/kvm-exporter", "https://invalid.invalid:443/"])
def test_no_link_leads_nowhere(source: str) -> None:
    """A placeholder has no links."""
    assert links(source) == {}


def test_the_url_is_that_of_the_package() -> None:
    """It is said in pyproject.toml alone."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert documentation() == links(project["urls"]["Source"])
