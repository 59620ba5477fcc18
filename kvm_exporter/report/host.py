"""Formats a host's dump as a table for the terminal or as JSON: what its KVM can offer, not what a guest is offered."""

import json
from collections.abc import Iterator

from kvm_exporter.kvm.features import features_of
from kvm_exporter.kvm.host import can_offer, stated
from kvm_exporter.kvm.leaves import Kvm, fingerprint
from kvm_exporter.kvm.words import host_summary
from kvm_exporter.report.columns import yes_no
from kvm_exporter.report.lines import fitting, wrapped

SCOPE = "what a host's KVM can offer to guests; its VMM decides which of that they are offered"


def host_table(host: Kvm, width: int | None = None) -> str:
    """Return the table: every feature bit, and whether KVM can offer it; ``?`` if only a VMM sets it.

    ``width`` is that of the terminal, as for the table of a machine.
    """
    features = fitting(_features(host, meanings=True), _features(host, meanings=False), width)
    return wrapped([f"a host's dump: {SCOPE}", f"  {host_summary(host)}", "", *features], width)


def _features(host: Kvm, *, meanings: bool) -> Iterator[str]:
    yield f"{'BIT':<7} {'FEATURE':<23} {'CAN OFFER':<9}  {'MEANING' * meanings}".rstrip()
    for feature in features_of(host.eax, host.edx):
        position, offer = f"{feature.register} {feature.bit}", yes_no(can_offer(host, feature))
        yield f"{position:<7} {feature.name:<23} {offer:<9}  {feature.meaning * meanings}".rstrip()


def host_json(host: Kvm) -> str:
    """Return one JSON object; unknown values are null."""
    value = {
        "host_dump": True,
        "scope": SCOPE,
        "eax": f"{host.eax:#010x}",
        "edx": f"{host.edx:#010x}",
        "fingerprint": fingerprint(stated(host)),
        "features": [
            {
                "name": feature.name,
                "register": feature.register,
                "bit": feature.bit,
                "can_offer": can_offer(host, feature),
            }
            for feature in features_of(host.eax, host.edx)
        ],
    }
    return json.dumps(value, indent=2) + "\n"
