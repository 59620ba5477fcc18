"""Marks of both dashboards at the moments at which features were first seen to be lost or gained."""

from labels import OF_MACHINE

from grafana.board import Annotation
from grafana.queries import SHOWN
from grafana.values import BAD, NEWS


def moments(value: int) -> str:
    """Return an expression: when the features that have changed so were first seen to, in milliseconds."""
    return f"""
1000 * (
  0 * (kvm_boot_feature_changed{{{SHOWN}}} == {value})
  + on ({OF_MACHINE}) group_left ()
  max by ({OF_MACHINE}) (kvm_boot_change_timestamp_seconds{{{SHOWN}}})
)
"""


LOST = Annotation("Lost", moments(-1), BAD, "{{instance}} lost {{feature}}", is_time=True)
GAINED = Annotation("Gained", moments(1), NEWS, "{{instance}} gained {{feature}}", is_time=True, shown=False)
