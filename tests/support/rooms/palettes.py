"""The colours of the landing page, light and dark, as its stylesheet declares them."""

import re

from kvm_exporter.report.page import STYLE


def _palette(scheme: str) -> dict[str, str]:
    """The custom properties of the :root rule with a color-scheme, by name without the dashes."""
    match = re.search(rf":root \{{\s*color-scheme: {scheme};([^}}]*)\}}", STYLE)
    assert match is not None
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", match[1]))


LIGHT, DARK = _palette("light"), _palette("dark")
