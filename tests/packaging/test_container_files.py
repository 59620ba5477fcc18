"""packaging/container: the files for Kubernetes, the Prometheus operator and Podman, without running any of them."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from kvm_exporter import __version__
from kvm_exporter.app.cli import build_parser
from kvm_exporter.app.flags import DEFAULT_ADDRESS
from kvm_exporter.app.routes import HEALTHY_PATH, READY_PATH
from lab.exporter import exporter
from lab.servers import JOB
from lab.tree import REPOSITORY, UNITS
from tests.support.monitoring.prometheus import Scraped, prometheus
from tests.support.packaging.debian import NAME, run
from tests.support.packaging.podman import (
    CONTAINER_FILES,
    DAEMON_SET,
    EXPORTER,
    INIT,
    POD,
    POD_MONITOR,
    RUNTIME_DIRECTORY,
    SERVICE,
    STATE,
    unit,
)
from tests.support.packaging.readme import TEXT as README
from tests.support.packaging.readme import step
from tests.support.tools import RELEASES

PAGE = (REPOSITORY / "docs/containers.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

PORT = DEFAULT_ADDRESS.port

RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}


def without_host_path() -> dict[str, Any]:
    """The daemon set with the page's volume instead, as the page says."""
    [volumes] = [yaml.safe_load(text) for language, text in SNIPPETS if language == "yaml"]
    pod = {name: value for name, value in POD.items() if name != "initContainers"} | volumes
    template = DAEMON_SET["spec"]["template"] | {"spec": pod}
    return DAEMON_SET | {"spec": DAEMON_SET["spec"] | {"template": template}}


@pytest.mark.parametrize("version", ["1.25", kubernetes_validate.latest_version()])
def test_kubernetes_knows_every_field(version: str) -> None:
    """By the schemas of an old and of a new release, which allow no other fields."""
    for manifest in (DAEMON_SET, SERVICE, without_host_path()):
        kubernetes_validate.validate(manifest, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(SERVICE | {"specs": {}}, version, strict=True)


def test_the_prometheus_operator_knows_every_field() -> None:
    """By a schema made from its types, which allows no others; its comment names the source."""
    schema = json.loads(Path(__file__).with_name("podmonitor.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(POD_MONITOR, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(POD_MONITOR | {"specs": {}}, schema)


def test_no_privileges() -> None:
    """Neither container has any, and the one that is root is so for the directory alone."""
    assert EXPORTER["securityContext"] == RESTRICTED
    assert INIT["securityContext"] == RESTRICTED | {"runAsUser": 0, "runAsNonRoot": False}
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    assert {name for name in POD if name.startswith("host")} == set()
    assert [volume["hostPath"]["path"] for volume in POD["volumes"]] == [STATE]
    assert ["hostPort" in port for port in EXPORTER["ports"]] == [False]


def test_the_names_fit() -> None:
    """What selects the pods, the port, the pages and the directory are what there is."""
    labels = DAEMON_SET["spec"]["template"]["metadata"]["labels"]
    for selector in (DAEMON_SET["spec"]["selector"]["matchLabels"], SERVICE["spec"]["selector"]):
        assert selector == labels
    assert POD_MONITOR["spec"]["selector"]["matchLabels"] == labels
    assert EXPORTER["ports"] == [{"name": "metrics", "containerPort": PORT}]
    assert SERVICE["spec"]["ports"] == [{"name": "metrics", "port": PORT, "targetPort": "metrics"}]
    [endpoint] = POD_MONITOR["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    probes = {name: EXPORTER[name]["httpGet"] for name in EXPORTER if name.endswith("Probe")}
    assert probes == {
        "startupProbe": {"port": "metrics", "path": READY_PATH},
        "readinessProbe": {"port": "metrics", "path": READY_PATH},
        "livenessProbe": {"port": "metrics", "path": HEALTHY_PATH},
    }
    assert EXPORTER["volumeMounts"] == [{"name": "state", "mountPath": RUNTIME_DIRECTORY}]
    texts = "".join(path.read_text(encoding="utf-8") for path in CONTAINER_FILES.iterdir()) + PAGE + README
    assert set(re.findall(rf"{NAME}[:-](\d[\d.]*\d)", texts)) == {__version__}


def test_the_readme_says_what_the_page_says() -> None:
    """Its lines for RHEL-like systems are those that Podman is tested with; Kubernetes gets these manifests."""
    typed = "".join(f"{line}\n" for line in step("**RHEL-like systems:**").lines)
    assert ("sh", typed) in SNIPPETS
    [line] = step("**Kubernetes:**").lines
    assert (REPOSITORY / line.split()[-1]).samefile(CONTAINER_FILES / "kubernetes.yaml")


def test_what_the_pod_monitor_makes_of_a_target(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In a real Prometheus: the rules' job, the node as instance, and nothing that changes with the pod."""
    discovered = {"__meta_kubernetes_pod_node_name": "node-1"}
    added = {"namespace": "monitoring", "pod": "kvm-exporter-x7k2p", "container": "kvm-exporter", "endpoint": "metrics"}
    [endpoint] = POD_MONITOR["spec"]["podMetricsEndpoints"]
    relabelling = [
        {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name): value for name, value in step.items()}
        for step in endpoint["relabelings"]
    ]
    relabelling = [
        *({"target_label": name, "replacement": value} for name, value in (added | discovered).items()),
        *relabelling,
    ]
    folder = tmp_path_factory.mktemp("prometheus")
    settings = yaml.safe_dump({"relabel_configs": relabelling})
    with exporter() as running, prometheus(RELEASES[0], folder, {JOB: Scraped(running.port, settings)}) as asked:
        labels = asked.target()["labels"]
    assert labels == {"job": "kvm", "instance": "node-1", "namespace": "monitoring"}


def test_podmans_unit() -> None:
    """It restarts as the service does, keeps the directory that it mounts, and asks the page that there is."""
    container, service = unit()["Container"], unit()["Service"]
    packaged = (UNITS / f"{NAME}.service").read_text(encoding="utf-8")
    for name in ("Restart", "RestartPreventExitStatus", "RestartSec", "MemoryMax", "RuntimeDirectoryPreserve"):
        assert f"\n{name}={service[name]}\n" in packaged
    assert container["Volume"] == f"/run/{service['RuntimeDirectory']}:{RUNTIME_DIRECTORY}:Z,U"
    assert f"/run/{service['RuntimeDirectory']}" == STATE
    assert container["PublishPort"] == f"{PORT}:{PORT}"
    assert f"http://127.0.0.1:{PORT}{HEALTHY_PATH}" in container["HealthCmd"]


def test_the_pages_commands_are_well_formed() -> None:
    """A shell can read them, and the example in the unit has flags of ours."""
    commands = [text for language, text in SNIPPETS if language == "sh"]
    assert commands
    run("sh", "-n", "-c", "".join(commands))
    [example] = re.findall(
        r"Exec=(--.*?)\.?$", (CONTAINER_FILES / f"{NAME}.container").read_text(encoding="utf-8"), re.MULTILINE
    )
    build_parser().parse_args(["serve", *shlex.split(example)])
