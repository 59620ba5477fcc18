"""VictoriaMetrics and vmalert of a Debian release on the loopback, started by the commands of docs/scaling.md."""

import re
import socket
from contextlib import closing
from pathlib import Path

from lab.pace import hurried
from lab.process import MORTAL, LogError, Process
from lab.scaling import FILES, rules
from lab.servers import Server, tool

_COPY = {"bookworm": "rules-debian-12.sh", "sid": "rules.sh"}
"""The page's command that copies the rules, for the release of vmalert."""

_DELAY = "1s"
"""How long both programs hold back what has just arrived; by default half a minute."""

_LOOKBACK = "10s"
"""How old a value may be for vmalert; by default five minutes, as in Prometheus. Shards write every five seconds."""

_EVALUATION = {"bookworm": (), "sid": (f"-rule.evalDelay={_DELAY}",)}
"""The flags of vmalert for the delay; the older one has none."""

_READY = "pprof handlers are exposed"
"""What both programs log when they are ready for requests."""


def start_victoria(release: str, folder: Path) -> Server:
    """Start a VictoriaMetrics that keeps its files in a folder. Raises MissingToolError, LogError."""
    script = FILES["victoria-metrics.sh"].replace("/var/lib/victoria-metrics", str(folder))
    return _start(release, "victoria-metrics", script, f"-search.latencyOffset={_DELAY}")


def start_vmalert(release: str, folder: Path, victoria: str, alertmanager: str, pace: float, evaluate: float) -> Server:
    """Start a vmalert that evaluates every so many seconds, with waits divided by ``pace``; arguments are addresses.

    Its rule files are in a folder, which is made. Raises MissingToolError, LogError.
    """
    shared, own = folder / "shared", folder / "own"
    for path in (shared / "cohort-rules.yaml", own / "kvm-shards-written.yml"):
        path.parent.mkdir(parents=True)
        path.write_text(hurried(rules(path.name), pace))
    script = FILES[_COPY[release]] + FILES["vmalert.sh"]
    for before, after in {
        "/usr/share/prometheus-kvm-exporter": str(shared),
        "/etc/victoria-metrics": str(own),
        "127.0.0.1:8428": victoria,
        "alertmanager.example.org:9093": alertmanager,
    }.items():
        script = script.replace(before, after)
    flags = (f"-evaluationInterval={round(evaluate * 1000)}ms", f"-datasource.queryStep={_LOOKBACK}")
    return _start(release, "vmalert", script, *flags, *_EVALUATION[release])


def _start(release: str, name: str, script: str, *flags: str) -> Server:
    """Run a script that ends with a program, on a free port of the loopback and with more flags."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    script = re.sub(rf"^{name} ", f"exec {tool(release, name)} ", script, flags=re.MULTILINE)
    command = " ".join((script.rstrip(), f"-httpListenAddr={address}", *flags))
    process = Process([*MORTAL, "sh", "-ec", command], group=0)
    try:
        process.wait_for_log(_READY)
    except LogError:
        process.stop()
        raise
    return Server(process, address)
