"""The service in a booted Debian: started, reloaded, watched, killed and stopped by systemd, in its whole sandbox."""

import os
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import TextIO

import pytest

from lab.exporter import exporter
from lab.proc import scrape_until, wait_until
from lab.scrape import Scrape
from lab.secure import HASH, MUTUAL, REFUSED, TLS, USERS, Reply, ask_on, basic, client, make_server
from lab.tree import UNITS
from tests.support.packaging.container import CommandError, Container
from tests.support.packaging.deploying import UNIT_FILES
from tests.support.packaging.installed import DEFAULTS, arguments
from tests.support.packaging.unit import PORT, Unit, ask, connection, journal, scrape, scrape_at
from tests.support.system.hog import hog
from tests.support.tools import kvm_device, missing

ONLINE = os.sysconf("SC_NPROCESSORS_ONLN")
ALL_CPUS = {("sampled",): ONLINE, ("retained",): 0, ("skipped",): 0, ("failed",): 0}

BASELINE = "/etc/baseline.yml"
WEB_CONFIG = "/etc/web.yml"


def says(service: Unit) -> str:
    """What ``systemctl status`` shows in its own line."""
    status = service.system.run("systemctl", "status", "--no-pager", "--full", service.name)
    [line] = [line for line in status.splitlines() if line.strip().startswith("Status: ")]
    return line.strip().removeprefix("Status: ").strip('"')


# Start.


def test_it_is_active_when_it_is_ready(service: Unit) -> None:
    """While the start is held up it is activating, and nothing listens; when it is active, it answers."""
    service.stop()
    service.system.run("mkfifo", "-m", "644", WEB_CONFIG)
    with arguments(service.system, f"--web.config.file={WEB_CONFIG}"):
        service.system.run("systemctl", "start", "--no-block", service.name)
        with when_read(service.system.root / WEB_CONFIG.lstrip("/")) as fifo:
            assert (service.show("ActiveState"), service.show("SubState")) == ("activating", "start")
            with pytest.raises(ConnectionRefusedError):
                service.system.connect(PORT)
            fifo.write("{}")
        service.system.remove(WEB_CONFIG)
        service.system.write(WEB_CONFIG, "{}")
        service.wait_for("ActiveState", "active")
    assert scrape(service.system).value("kvm_exporter_sample_success") == 1


def when_read(fifo: Path) -> TextIO:
    """A FIFO to write to, once a process reads from it."""
    descriptors: list[int] = []

    def is_read() -> bool:
        with suppress(OSError):  # ENXIO: nobody does, fifo(7)
            descriptors.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return bool(descriptors)

    wait_until(is_read)
    return os.fdopen(descriptors[0], "w")


def test_status_shows_the_summary(service: Unit) -> None:
    """In one line: what the hypervisor offers, and on how many CPUs."""
    [(fingerprint,)] = whole(service).values("kvm_fingerprint_info", "fingerprint")
    assert f", fingerprint {fingerprint}; {ONLINE} of {ONLINE} CPUs sampled, 0 differ" in says(service)


def whole(service: Unit) -> Scrape:
    """The first scrape with every CPU: on a busy machine one may be held for too long, and is there the next time."""
    scrapes = [scrape(service.system)]

    def complete() -> bool:
        if scrapes[-1].values("kvm_cpus", "state") != ALL_CPUS:
            service.reload()
            scrapes.append(scrape(service.system))
        return scrapes[-1].values("kvm_cpus", "state") == ALL_CPUS

    wait_until(complete)
    return scrapes[-1]


def machine(found: Scrape) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """What metrics say of the machine, and not of the exporter, its start, or what it may open."""
    others = ("kvm_exporter_", "kvm_boot_reference_", "kvm_host_")
    return {name: found.series(name) for name in found.names if name.startswith("kvm_") and not name.startswith(others)}


def test_the_metrics_inside_are_those_outside(service: Unit) -> None:
    """In the sandbox it reads the same leaves, and the same evidence in /proc and /sys; process_* are there, too."""
    inside = whole(service)
    with exporter("--sample.max-age=1us") as running:
        outside = scrape_until(running.scrape, lambda found: found.values("kvm_cpus", "state") == ALL_CPUS)
    assert machine(inside) == machine(outside)
    assert inside.value("kvm_exporter_sample_success") == 1
    assert {name for name in outside.names if name.startswith("process_")} <= inside.names


def test_wrong_flags_are_not_tried_again(service: Unit) -> None:
    """They do not get better; the log says what is wrong."""
    with arguments(service.system, "--nonsense"), pytest.raises(CommandError):
        service.start()
    assert (service.show("ActiveState"), service.show("ExecMainStatus"), service.show("NRestarts")) == (
        "failed",
        "2",
        "0",
    )
    assert service.log("--priority=err").startswith("unknown arguments: --nonsense; ")


def test_an_address_that_comes_later_is_found(service: Unit) -> None:
    """Each start that fails has its reason in one line of priority err; the exporter is started until it can listen."""
    system, reason = service.system, f"cannot listen on :{PORT}: Address already in use"
    assert service.show("RestartUSec") == "30s"
    service.stop()
    with service.drop_in("[Service]\nRestartSec=3s\n"):
        system.run("systemd-run", "--unit=holder", f"--socket-property=ListenStream={PORT}", "/bin/true")
        try:
            system.run("systemctl", "start", "--no-block", service.name)
            service.wait_for("NRestarts", "2")
            of_it = ("--lines=2", f"_SYSTEMD_UNIT={service.name}")
            lines = [journal(system, *of_it), journal(system, *of_it, "--priority=err")]
        finally:
            system.run("systemctl", "stop", "holder.socket")
        service.wait_for("ActiveState", "active")
    assert lines[0] == lines[1]
    assert [line.startswith(reason) for line in lines[0].splitlines()] == [True, True]
    assert scrape(system).value("kvm_exporter_sample_success") == 1


def test_without_the_file_of_flags(service: Unit) -> None:
    """It starts, and systemd has nothing to warn of: the unit sets its variables. systemd 252 would not warn."""
    file = service.system.root / DEFAULTS.lstrip("/")
    before = file.read_text()
    file.unlink()
    try:
        service.start()
        assert scrape(service.system).value("kvm_exporter_sample_success") == 1
        assert "Referenced but unset environment variable" not in service.log()
    finally:
        file.write_text(before)


# Addresses.

LET_SYSTEMD = "let a .socket unit listen there (--web.systemd-socket), or choose another with --web.listen-address"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (":80", f"Permission denied; give the user access, or {LET_SYSTEMD}"),
        ("unix:/run/kvm.sock", f"Read-only file system; {LET_SYSTEMD}"),
        ("vsock://:10401", "Address family not supported by protocol; allow its family in the unit "),
    ],
    ids=["low port", "unix", "vsock"],
)
def test_an_address_that_the_sandbox_refuses(service: Unit, address: str, reason: str) -> None:
    """The log says what would allow it: the settings in this unit, or another unit that listens."""
    with arguments(service.system, f"--web.listen-address={address}"), pytest.raises(CommandError):
        service.start()
    assert service.log("--priority=err").startswith(f"cannot listen on {address}: {reason}")


def test_a_port_of_vsock(service: Unit) -> None:
    """With the drop-in of docs/deploying.md, it listens there, where the kernel has vsock."""
    if not Path("/dev/vsock").exists():
        missing("/dev/vsock")
    with socket.socket(socket.AF_VSOCK) as probe:
        probe.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
        port = probe.getsockname()[1]
    [drop_in] = [text for path, text in UNIT_FILES.items() if path.endswith("/vsock.conf")]
    with arguments(service.system, f"--web.listen-address=vsock://:{port}"), service.drop_in(drop_in):
        service.start()
        assert f"listening on vsock://:{port} " in service.log()
        with socket.socket(socket.AF_VSOCK) as taken, pytest.raises(OSError, match="Address already in use"):
            taken.bind((socket.VMADDR_CID_ANY, port))


def test_a_socket_in_its_runtime_directory(service: Unit) -> None:
    """The only folder where it can create one, and root alone can enter. It replaces that of a killed service."""
    with arguments(service.system, "--web.listen-address=unix:/run/prometheus-kvm-exporter/kvm.sock"):
        service.start()
        service.signal("KILL")
        service.start()
        path = "/run/private/prometheus-kvm-exporter/kvm.sock"
        assert scrape_at(service.system, path).value("kvm_exporter_sample_success") == 1
        assert service.system.run("stat", "--format=%a", "/run/private") == "700\n"


# CPUs.


def test_an_affinity_does_not_keep_it_from_other_cpus(service: Unit) -> None:
    """CPUAffinity=0 says where the process runs; the reading thread goes to every CPU all the same."""
    with service.drop_in("[Service]\nCPUAffinity=0\n"):
        service.start()
        assert "Cpus_allowed_list:\t0\n" in service.system.run("cat", f"/proc/{service.pid}/status")
        found = whole(service)
    assert {int(cpu) for (cpu, register) in found.values("kvm_cpu_register", "cpu", "register")} == set(range(ONLINE))


def test_a_cpuset_that_leaves_a_cpu_out(service: Unit) -> None:
    """That CPU's failure is shown, all else goes on; when the cpuset is widened, the next sample has the CPU again."""
    left_out = ONLINE - 1
    with service.system.cgroups.only_on(f"0-{left_out - 1}"):
        service.reload()
        wait_until(lambda: scrape(service.system).value("kvm_cpus", state="failed") == 1)
        narrow = scrape(service.system)
        page = ask(service.system, "/").body
        status = says(service)
    assert narrow.value("kvm_cpus", state="sampled") == ONLINE - 1
    assert narrow.value("kvm_exporter_sample_success") == 1
    assert f"CPU {left_out} failed: it is outside this process&#x27;s cpuset, or it went offline" in page
    assert f"{ONLINE - 1} of {ONLINE} CPUs sampled" in status
    service.reload()
    wait_until(lambda: scrape(service.system).values("kvm_cpus", "state") == ALL_CPUS)
    assert (service.show("ActiveState"), service.show("NRestarts")) == ("active", "0")


# Reload.


def test_a_reload_samples_again(service: Unit) -> None:
    """It returns, and the same process has read the machine again."""
    pid = service.pid
    assert scrape(service.system).value("kvm_exporter_samples_total", reason="signal") == 0
    service.reload()
    wait_until(lambda: scrape(service.system).value("kvm_exporter_samples_total", reason="signal") > 0)
    service.wait_for("ActiveState", "active")
    assert service.pid == pid


def test_a_broken_configuration_on_reload(service: Unit) -> None:
    """The last good one holds, and status, metrics and log say so, without any secret, until it is mended."""
    system = service.system

    def files(web: str, baseline: str) -> None:
        system.write(WEB_CONFIG, web)
        system.write(BASELINE, baseline)

    def reload() -> Reply:
        service.reload()
        service.wait_for("ActiveState", "active")
        return ask(system, login=basic("prometheus"))

    files(USERS, "features: {required: [clocksource2]}")
    with arguments(system, f"--web.config.file={WEB_CONFIG}", f"--baseline.file={BASELINE}"):
        service.start()
        files(f"{USERS}  {HASH}\n", "features: {required: [no_such_thing]}")
        found = Scrape(reload().body)
        holds = "is invalid, keeping the previous one"
        assert says(service).endswith(f"; the baseline file {holds}; the web configuration {holds}")
        assert found.value("kvm_exporter_web_config_last_reload_successful") == 0
        assert found.value("kvm_exporter_collector_success", collector="baseline") == 0
        assert found.value("kvm_feature_expected", feature="clocksource2") == 1
        assert ask(system).status == 401
        files(USERS, "features: {required: [clocksource2]}")
        mended = Scrape(reload().body)
        assert mended.value("kvm_exporter_web_config_last_reload_successful") == 1
        assert "invalid" not in says(service)
    log = service.log("--output=export")
    assert "could not reload the web configuration, keeping the previous one: " in log
    assert "no_such_thing" in log
    assert not [secret for secret in (HASH, HASH[-20:], *basic("prometheus").values()) if secret in log]


# Restart.


def test_one_that_hangs_is_ended_and_started_again(service: Unit) -> None:
    """The watchdog notices; the log says where it hung."""
    with service.drop_in("[Service]\nWatchdogSec=2s\nRestartSec=100ms\n"):
        service.start()
        before = service.pid
        service.signal("STOP")
        service.wait_for("NRestarts", "1")
        service.wait_for("ActiveState", "active")
        assert service.pid != before
        assert scrape(service.system).value("kvm_exporter_sample_success") == 1
        assert "Fatal Python error: Aborted" in journal(service.system, f"_PID={before}")
    assert "Watchdog timeout" in journal(service.system, f"--unit={service.name}")


def test_one_that_is_killed_is_started_again(service: Unit) -> None:
    """With the reference that was taken when this boot was first sampled."""
    with service.drop_in("[Service]\nRestartSec=100ms\n"):
        service.start()
        before, pid = scrape(service.system), service.pid
        service.signal("KILL")
        service.wait_for("NRestarts", "1")
        service.wait_for("ActiveState", "active")
        after = scrape(service.system)
        assert service.pid != pid
    name = "kvm_boot_reference_timestamp_seconds"
    assert after.value(name) == before.value(name) < before.value("kvm_exporter_sample_timestamp_seconds")
    assert after.value("kvm_boot_feature_changes", change="lost") == 0


@pytest.mark.alone
def test_no_scrape_is_cut_off(service: Unit) -> None:
    """Scrapers ask without a pause while the service is restarted: each that was accepted gets a whole answer."""
    system, stop, replies = service.system, Event(), list[Reply]()
    # A scrape takes long: a real-time task holds a CPU that every one of them visits.
    with arguments(system, "--sample.max-age=1ms"), hog(ONLINE - 1), ThreadPoolExecutor(4) as pool:
        service.start()
        scrapers = [pool.submit(keep_asking, system, stop, replies) for _ in range(4)]
        try:
            for _ in range(2):
                more = len(replies) + 2 * len(scrapers)
                wait_until(lambda: len(replies) >= more or any(one.done() for one in scrapers))  # noqa: B023 - at once
                service.start()
        finally:
            stop.set()
        for scraper in scrapers:
            scraper.result()
    assert {reply.status for reply in replies} == {200}
    assert all("kvm_exporter_samples_total" in reply.body for reply in replies)
    # Those that were being answered when the end came were told not to ask again on that connection.
    assert [reply for reply in replies if reply.headers.get("connection") == "close"]


def keep_asking(system: Container, stop: Event, replies: list[Reply]) -> None:
    """Scrape until the event. Raises ConnectionError or IncompleteRead if an answer does not come, or is cut off."""
    while not stop.is_set():
        try:
            connected = connection(system)
        except ConnectionRefusedError:
            time.sleep(0.01)
            continue
        with closing(connected):
            replies.append(ask_on(connected))


# Drop-ins.


def test_the_host_collector_may_open_kvm(service: Unit) -> None:
    """With host.conf, which creates the group; /dev/kvm is there for that alone, and in the sandbox not at all."""
    kvm_device()
    system, opened = service.system, (UNITS / "host.conf").read_text()
    device = system.root / "dev/kvm"
    os.mknod(device, 0o660 | stat.S_IFCHR, os.makedev(10, 232))
    try:
        assert ("host",) not in scrape(system).values("kvm_exporter_collector_success", "collector")
        with service.drop_in(opened):
            service.start()
            system.run("chgrp", "kvm", "/dev/kvm")
            service.reload()
            wait_until(lambda: scrape(system).value("kvm_exporter_collector_success", collector="host") == 1)
            found = scrape(system)
        assert found.values("kvm_host_feature_supported", "feature")
        with service.drop_in(opened.replace("DeviceAllow=/dev/kvm rw", "")):
            service.start()
            assert scrape(system).value("kvm_exporter_collector_success", collector="host") == 0
    finally:
        device.unlink()


@contextmanager
def secured(service: Unit, files: Mapping[str, str]) -> Iterator[None]:
    """With tls.conf, and files that root and its group can read, the service is started."""
    system, folder, group = service.system, "/etc/prometheus-kvm-exporter", "prometheus-kvm-exporter-tls"
    for name, text in files.items():
        system.write(f"{folder}/{name}", text, 0o640)
    system.run("groupadd", "--system", "--force", group)
    system.run("chgrp", "-R", group, folder)
    try:
        with service.drop_in((UNITS / "tls.conf").read_text()):
            service.start()
            yield
    finally:
        system.run("rm", "-r", folder)


def test_keys_that_root_and_a_group_can_read(service: Unit, tmp_path: Path) -> None:
    """With tls.conf the service is in the group; nothing of the keys is left anywhere."""
    made = make_server(tmp_path)
    keys = {name: (made / name).read_text() for name in ("server.crt", "server.key")}
    with secured(service, keys | {"web.yml": TLS + USERS}):
        assert ask(service.system, context=client(made)).status == 401
        reply = ask(service.system, context=client(made), login=basic("prometheus"))
        assert (reply.status, "kvm_present 1" in reply.body) == (200, True)
        # Nothing stays of the files that the keys were handed to OpenSSL in.
        assert service.system.run("ls", "-A", "/run/prometheus-kvm-exporter").split() == ["boot-reference.json"]
    log = service.log("--output=export")
    assert f":{PORT} (with TLS, with passwords)" in log
    assert not [line for line in keys["server.key"].splitlines() if line in log]


def test_certificates_of_clients(service: Unit, tmp_path: Path) -> None:
    """With tls.conf, and an authority in the same folder: a client without a certificate of it is refused."""
    made = make_server(tmp_path)
    made.make("scraper", signer="ca", sans="DNS:scraper")
    files = {name: (made / name).read_text() for name in ("server.crt", "server.key", "ca.crt")}
    with secured(service, files | {"web.yml": MUTUAL}):
        with pytest.raises(REFUSED):
            ask(service.system, context=client(made))
        assert ask(service.system, context=client(made, "scraper")).status == 200


def test_passwords_without_tls(service: Unit) -> None:
    """With tls.conf, and neither keys nor certificates."""
    with secured(service, {"web.yml": USERS}):
        assert ask(service.system).status == 401
        assert ask(service.system, login=basic("prometheus")).status == 200
    assert f":{PORT} (without TLS, with passwords)" in service.log()
