"""What operators have: Prometheus with the rules and alerts, Alertmanager, and a place where its messages arrive."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from lab.patience import PATIENCE_SECONDS
from lab.servers import start_alertmanager, start_prometheus
from lab.webhook import Message, webhook
from tests.support.monitoring.prometheus import Prometheus
from tests.support.tools import monitoring_program

PACE = 120
"""A minute of the rules' and Alertmanager's waits takes half a second."""

T = TypeVar("T")


class Stack:
    """Two servers of one release of Debian, and the messages as they come."""

    def __init__(self, prometheus: Prometheus, messages: list[Message]) -> None:
        self.prometheus = prometheus
        self.messages = messages

    def wait_until_known(self, machines: int) -> None:
        """Return when all machines are scraped and the rules have counted them."""
        query = f"cohort:kvm_present:sum == {machines}"
        assert until(lambda: self.prometheus.query(query), bool), f"the rules have not counted {machines} machines"

    def take(self) -> list[Message]:
        """The messages since the last time."""
        taken = self.messages[:]
        del self.messages[: len(taken)]
        return taken


@contextmanager
def stack(release: str, folder: Path, machines: Mapping[str, str]) -> Iterator[Stack]:
    """The servers of a release; they know machines by instance, where addresses are host:port."""
    for name in ("prometheus", "prometheus-alertmanager"):
        monitoring_program(release, name)
    messages: list[Message] = []
    with ExitStack() as running:
        url = running.enter_context(webhook(messages.append))
        alertmanager = start_alertmanager(release, folder / f"{release}-alertmanager", url, PACE)
        running.callback(alertmanager.process.stop)
        prometheus = start_prometheus(release, folder / f"{release}-prometheus", machines, alertmanager.address, PACE)
        running.callback(prometheus.process.stop)
        yield Stack(Prometheus(prometheus.address), messages)


def until(ask: Callable[[], T], enough: Callable[[T], bool]) -> T:
    """The first answer that is enough; the last one if none is in time, so that the caller shows what is missing."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not enough(answer := ask()) and time.monotonic() < end:
        time.sleep(0.2)
    return answer
