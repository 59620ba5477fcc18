"""The order in which dashboards show machines: those that lost a feature come first, however many gained how much."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from grafana.queries import notable
from problems import PROBLEMS, WEIGHTS

from lab.panels import EVERYTHING, replaced
from tests.support.monitoring.fleet import Machine, input_series, promtool_tests, series

HEALTHY = {"up": 1.0, "kvm_exporter_sample_success": 1}
UNEVEN = {**HEALTHY, "kvm_cpus_divergent": 1}
OF_UNHALT = {"feature": "pv_unhalt", "register": "eax", "bit": "7"}
LOST = {**HEALTHY, series("kvm_boot_feature_changed", **OF_UNHALT): -1}
VIOLATES = {**HEALTHY, series("kvm_baseline_violation", **OF_UNHALT): -1}
DOWN = {"up": 0.0}

MOST = 2_000
"""The number of machines that promtool can evaluate the alerts of: a query may read 10,000 samples there."""


def gained(bits: int) -> Machine:
    """A machine that gained features."""
    return {**HEALTHY, **{series("kvm_boot_feature_changed", register="eax", bit=str(bit)): 1 for bit in range(bits)}}


def verdict(folder: Path, fleet: Mapping[str, Machine], most: int, shown: str) -> str:
    """What promtool has to say against that the machines whose names match a pattern are shown, and no others."""
    query = replaced(notable(most), EVERYTHING)
    right = f'count({query} and on (instance) up{{instance=~"{shown}"}})'
    test = {"expr": right, "eval_time": "5m", "exp_samples": [{"labels": "{}", "value": most}]}
    return promtool_tests(
        folder, {"interval": "1m", "input_series": input_series([(6, fleet)]), "promql_expr_test": [test]}
    )


@pytest.mark.parametrize("bits", [2, 7])
def test_one_that_lost_a_feature_is_before_sixty_that_gained_more(tmp_path: Path, bits: int) -> None:
    """The only one that is shown."""
    fleet = {f"gained-{number}": gained(bits) for number in range(60)} | {"lost": LOST}
    assert verdict(tmp_path, fleet, 1, "lost") == ""


def test_of_thousands_all_that_are_ill_come_first(tmp_path: Path) -> None:
    """Fifty that lost a feature, ten whose CPUs differ, and one that violates its baseline; then one that is down."""
    kinds = {"lost": (50, LOST), "uneven": (10, UNEVEN), "violates": (1, VIOLATES), "gained": (200, gained(7))}
    fleet = {f"{kind}-{number}": machine for kind, (count, machine) in kinds.items() for number in range(count)}
    fleet["down"] = DOWN
    fleet |= {f"healthy-{number}": HEALTHY for number in range(MOST - len(fleet))}
    assert verdict(tmp_path, fleet, 61, "(lost|uneven|violates)-.+") == ""
    assert verdict(tmp_path, fleet, 62, "(lost|uneven|violates)-.+|down") == ""
    assert verdict(tmp_path, fleet, 262, "(lost|uneven|violates|gained)-.+|down") == ""


def test_a_problem_weighs_more_than_all_lesser_ones_together() -> None:
    """In the order of the table, which begins with what was lost and ends with what is harmless, or only rare."""
    weights = list(WEIGHTS.values())
    assert all(weight > sum(weights[place + 1 :]) for place, weight in enumerate(weights))
    names = [problem.name for problem in PROBLEMS]
    assert [*names[:3], *names[-2:]] == ["KVM vanished", "lost, dangerous", "lost", "lost, harmless", "rare"]
