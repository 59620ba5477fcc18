"""``decode`` of a host's dump: table, JSON and metrics of what its KVM can offer, not of what a guest is offered."""

import json
from pathlib import Path

import pytest

from kvm_exporter.app.cli import main
from kvm_exporter.kvm.leaves import Kvm
from kvm_exporter.report.host import SCOPE, host_json, host_table
from lab.readers import BASE
from lab.scrape import Scrape
from lab.tree import HOST_DUMPS

[DUMP] = HOST_DUMPS

HOST = Kvm(BASE, 0x0103_FEDB, 0x21)
"""KVM without steal time, and every bit that only a VMM sets, which says nothing."""


def test_the_table_says_that_it_is_a_hosts() -> None:
    """Each bit is yes or no, or ``?`` if only a VMM sets it; there is no column of what is offered."""
    scope, words, empty, titles, *rows = host_table(HOST).splitlines()
    assert (scope, empty) == (f"a host's dump: {SCOPE}", "")
    assert words.startswith("  features EAX 0x0103fedb, EDX 0x00000021, fingerprint ")
    assert titles.split() == ["BIT", "FEATURE", "CAN", "OFFER", "MEANING"]
    cells = {tuple(row.split()[:3]): row.split()[3] for row in rows}
    assert cells["eax", "3", "clocksource2"] == "yes"
    assert cells["eax", "5", "steal_time"] == "no"
    assert cells["edx", "5", "edx_bit_5"] == "yes"
    assert [name for (*_, name), cell in cells.items() if cell == "?"] == [
        "msi_ext_dest_id",
        "hc_map_gpa_range",
        "migration_control",
        "hints_realtime",
    ]


def test_json_has_null_for_what_is_unknown() -> None:
    """And says that it is a host's, with the fingerprint of kvm_host_fingerprint_info."""
    value = json.loads(host_json(HOST))
    assert (value["host_dump"], value["eax"], value["edx"]) == (True, "0x0103fedb", "0x00000021")
    offers = {feature["name"]: feature["can_offer"] for feature in value["features"]}
    assert (offers["clocksource2"], offers["steal_time"], offers["msi_ext_dest_id"]) == (True, False, None)


def test_a_hosts_dump_decodes_to_a_hosts_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    """In every format; of the metrics of a guest there is none."""
    assert main(["decode", str(DUMP)]) == 0
    assert capsys.readouterr().out == host_table(Kvm(BASE, 0x0100_7EFB, 0))
    assert main(["decode", "--format=json", str(DUMP)]) == 0
    assert capsys.readouterr().out == host_json(Kvm(BASE, 0x0100_7EFB, 0))
    assert main(["decode", "--format=prometheus", str(DUMP)]) == 0
    scrape = Scrape(capsys.readouterr().out)
    assert scrape.names == {"kvm_host_feature_supported", "kvm_host_fingerprint_info"}
    assert scrape.value("kvm_host_fingerprint_info", fingerprint="a56f971aee6ec7ef") == 1


def test_a_hosts_dump_without_a_signature_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """KVM always states its signature: the dump is not whole."""
    path = tmp_path / "host.txt"
    path.write_text("".join(line for line in DUMP.read_text().splitlines(keepends=True) if "0x40000000 0x" not in line))
    assert main(["decode", str(path)]) == 2
    problem = "is a host's dump without KVM's signature; record it again with kvm-exporter dump --host"
    assert capsys.readouterr() == ("", f"kvm-exporter: {path}: {problem}\n")
