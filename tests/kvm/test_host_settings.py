"""kvm_exporter.kvm.host_settings: QEMU's property and libvirt's element for each bit, and other causes."""

import pytest

from kvm_exporter.kvm.features import FEATURES, feature_named
from kvm_exporter.kvm.host_settings import HostSetting, host_setting
from tests.support.rooms.pages import table

LIBVIRT = {
    # name: element that offers, element that withholds
    "clocksource": ("<timer name='kvmclock' present='yes'/>", "<timer name='kvmclock' present='no'/>"),
    "clocksource2": ("<timer name='kvmclock' present='yes'/>", "<timer name='kvmclock' present='no'/>"),
    "pv_eoi": ("<apic eoi='on'/>", "<apic eoi='off'/>"),
    "pv_unhalt": ("<pvspinlock state='on'/>", "<pvspinlock state='off'/>"),
    "pv_send_ipi": (None, "<pv-ipi state='off'/>"),
    "poll_control": ("<poll-control state='on'/>", None),
    "hints_realtime": ("<hint-dedicated state='on'/>", "<hint-dedicated state='off'/>"),
}
"""Elements of libvirt's docs/formatdomain.rst whose states src/qemu/qemu_command.c passes on to QEMU's -cpu."""

TDX = {1, 7, 9, 11, 12, 13, 15}
"""The bits of EAX that QEMU offers to TDX guests: its target/i386/kvm/tdx.c."""


NO_ELEMENT = "libvirt has no element for it, use <qemu:commandline>"


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
@pytest.mark.parametrize("offered", [True, False], ids=["offered", "withheld"])
def test_each_feature_has_its_setting(feature: object, *, offered: bool) -> None:
    """QEMU's property is switched on or off; libvirt has an element for a few of them."""
    [bit] = [one for one in FEATURES if one is feature]
    found = host_setting(bit, offered=offered)
    if not bit.qemu:
        assert found == HostSetting(None, None)
        return
    assert found.qemu == f"{bit.qemu}={'on' if offered else 'off'}"
    element = LIBVIRT.get(bit.name, (None, None))[0 if offered else 1]
    assert (found.libvirt is None) == (element is None)
    assert (element or "") in (found.libvirt or "")
    assert ("a TDX guest" in found.causes) == (offered and bit.register == "eax" and bit.bit not in TDX)


@pytest.mark.parametrize(
    ("name", "offered", "expected"),
    [
        (
            "steal_time",
            True,
            [
                f"host setting: QEMU kvm-steal-time=on; {NO_ELEMENT}",
                "other causes: a host kernel without CONFIG_SCHED_INFO; a TDX guest",
            ],
        ),
        (
            "pv_unhalt",
            True,
            [
                "host setting: QEMU kvm-pv-unhalt=on; libvirt <features><pvspinlock state='on'/></features>",
                "other causes: QEMU's -overcommit cpu-pm=on; QEMU's -machine kernel-irqchip=off",
            ],
        ),
        ("async_pf_int", False, [f"host setting: QEMU kvm-asyncpf-int=off; {NO_ELEMENT}"]),
        ("migration_control", True, ["host setting: QEMU has no property for it"]),
        ("eax_bit_30", False, ["host setting: QEMU has no property for it"]),
    ],
)
def test_a_setting_in_words(name: str, *, offered: bool, expected: list[str]) -> None:
    """People read what to set, and what else can be the cause."""
    assert list(host_setting(feature_named(name), offered=offered).lines()) == expected


def test_the_page_has_each_setting() -> None:
    """docs/host-settings.md has a row for each feature, with the settings that the commands print."""
    rows = {}
    for feature in FEATURES:
        on, off = (host_setting(feature, offered=offered) for offered in (True, False))
        cells = (feature.name, feature.qemu, on.libvirt, off.libvirt, "; ".join(on.causes))
        rows[f"{feature.register} {feature.bit}"] = tuple(cell or "-" for cell in cells)
    assert table("host-settings.md", "bit") == rows
