"""From a bit that is lost to the message: exporters, a real Prometheus, a real Alertmanager, and who is told."""

import json
import queue
import re
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import yaml
from support.drifting import DriftingHost
from support.exporter import Exporter
from support.fleet import ALERTS, DASHBOARDS, RULES
from support.layouts import kvm
from support.tools import monitoring_program, program

ALL, STOLEN = kvm(0x0100_7EFB), kvm(0x0100_7EDB)
"""With steal time and without."""

LISTENING = re.compile(r"address=(127\.0\.0\.1:\d+)")

SCRIPT = 'mount --bind "$0" /usr/share && exec "$@"'
"""Alertmanager looks for its templates in /usr/share, where only an installed one has them."""

READY = {"prometheus": "ready to receive web requests", "prometheus-alertmanager": "Listening on"}
"""What a server logs when it can be asked."""

MOST_SECONDS = 25


@contextmanager
def webhook() -> Iterator[tuple[str, "queue.Queue[Any]"]]:
    """Where messages can be sent, and the messages as they come."""
    messages: queue.Queue[Any] = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        """Takes a message."""

        def do_POST(self) -> None:
            """Keep it."""
            messages.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", messages
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def started(name: str, *flags: str) -> Iterator[str]:
    """The address of one of Debian 12's servers, to which /usr/share is what its package brings."""
    server = Path(monitoring_program("bookworm", name))
    inside = [program("unshare"), "--map-root-user", "--mount", "sh", "-c", SCRIPT, str(server.parents[1] / "share")]
    process = Exporter([*inside, str(server), *flags, "--web.listen-address=127.0.0.1:0"])
    try:
        found = LISTENING.search(process.wait_for_log('msg="Listening on"', 20))
        assert found is not None
        process.wait_for_log(READY[name], 20)
        yield found[1]
    finally:
        process.stop()


def impatient(path: Path) -> str:
    """The alerts, those on drift without their waits."""
    rules = yaml.safe_load(path.read_text(encoding="utf-8"))
    for group in rules["groups"]:
        if group["name"] == "kvm-drift":
            for rule in group["rules"]:
                del rule["for"]
    return yaml.safe_dump(rules)


def alertmanager_configuration(url: str) -> str:
    """The example, without its waits."""
    example = (DASHBOARDS / "alertmanager.example.yaml").read_text(encoding="utf-8")
    return re.sub(r"(group_wait|group_interval): \w+", r"\1: 1s", example).replace("http://127.0.0.1:9095", url)


def prometheus_configuration(targets: list[str], alertmanager: str, alerts: Path) -> str:
    """Everything happens every second."""
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES), str(alerts)],
        "scrape_configs": [{"job_name": "kvm", "static_configs": [{"targets": targets}]}],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
    }
    return yaml.safe_dump(configuration)


def wait_until_scraped(prometheus: str, machines: int) -> None:
    """Return when Prometheus knows so many machines on KVM."""
    query = urllib.parse.urlencode({"query": f"cohort:kvm_present:sum == {machines}"})
    end = time.monotonic() + MOST_SECONDS
    while time.monotonic() < end:
        with urllib.request.urlopen(f"http://{prometheus}/api/v1/query?{query}", timeout=10) as response:
            if json.load(response)["data"]["result"]:
                return
        time.sleep(0.2)
    raise AssertionError(f"Prometheus knows no {machines} machines after {MOST_SECONDS} s")


def labels_and_receiver(message: Mapping[str, Any]) -> list[tuple[str, str, dict[str, str]]]:
    """What a message is about."""
    return [(message["receiver"], alert["status"], alert["labels"]) for alert in message["alerts"]]


def test_one_machine_loses_a_bit_and_one_message_says_so(tmp_path: Path) -> None:
    """The message names the machine and the feature, and there is no other message."""
    with ExitStack() as stack:
        hosts = []
        for name in ("changing", "steady"):
            (tmp_path / name).mkdir()
            hosts.append(DriftingHost(tmp_path / name, {0: ALL, 1: ALL}))
        targets = [f"127.0.0.1:{stack.enter_context(host.daemon()).port}" for host in hosts]
        url, messages = stack.enter_context(webhook())
        settings = tmp_path / "alertmanager.yaml"
        settings.write_text(alertmanager_configuration(url))
        alertmanager = stack.enter_context(
            started(
                "prometheus-alertmanager",
                f"--config.file={settings}",
                f"--storage.path={tmp_path / 'alertmanager'}",
                "--cluster.listen-address=",
            )
        )
        alerts = tmp_path / "alerts.yaml"
        alerts.write_text(impatient(ALERTS))
        configuration = tmp_path / "prometheus.yaml"
        configuration.write_text(prometheus_configuration(targets, alertmanager, alerts))
        prometheus = stack.enter_context(
            started(
                "prometheus",
                f"--config.file={configuration}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
            )
        )
        wait_until_scraped(prometheus, 2)
        assert messages.empty()
        hosts[0].change({0: STOLEN, 1: STOLEN})
        message = messages.get(timeout=MOST_SECONDS)
        time.sleep(3)
        assert messages.empty()
    expected = {
        "alertname": "KvmFeatureLost",
        "severity": "warning",
        "job": "kvm",
        "instance": targets[0],
        "feature": "steal_time",
        "register": "eax",
        "bit": "5",
    }
    assert labels_and_receiver(message) == [("operators", "firing", expected)]
    assert message["alerts"][0]["annotations"]["summary"] == f"{targets[0]} lost steal_time"
