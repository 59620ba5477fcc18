"""The landing page: what this machine's hypervisor offers, for a person with a browser."""

from collections.abc import Iterator
from html import escape

from kvm_exporter import __version__
from kvm_exporter.report import divergence, summary
from kvm_exporter.sample import Sample

_STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid #8886; }
"""


def landing_page(sample: Sample | None, telemetry_path: str) -> str:
    """One HTML page without scripts; everything that came from CPUID is escaped."""
    content = _sample(sample) if sample is not None else ("<p>No sample yet: the log says why.</p>",)
    return "\n".join(
        (
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>kvm-exporter</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}</style></head><body><h1>kvm-exporter</h1>",
            *content,
            f'<p><a href="{escape(telemetry_path)}">Metrics</a></p><p>Version {escape(__version__)}</p>',
            "</body></html>\n",
        )
    )


def _sample(sample: Sample) -> Iterator[str]:
    yield f"<p>{escape(summary(sample.common))}</p>"
    kvm = sample.common.kvm
    if kvm is not None:
        yield "<table><thead><tr>"
        yield "".join(f'<th scope="col">{title}</th>' for title in ("Bit", "Feature", "Offered", "CPUs", "Meaning"))
        yield "</tr></thead><tbody>"
        for feature in sample.features:
            offered = "yes" if kvm.offers(feature) else "no"
            cells = (
                f"{feature.register} {feature.bit}",
                feature.name,
                offered,
                sample.offering(feature),
                feature.meaning,
            )
            yield "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>"
        yield "</tbody></table>"
    for cpu in sample.divergent:
        yield f"<p>CPU {cpu} differs: {escape(divergence(sample, cpu))}</p>"
    for cpu, why in sorted(sample.failed.items()):
        yield f"<p>CPU {cpu} failed: {escape(why)}</p>"
