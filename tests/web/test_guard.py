"""kvm_exporter.web.guard: the order of rate limit and password, added headers, and reloads of the file."""

import logging
import re
from http import HTTPStatus
from pathlib import Path

import pytest

from kvm_exporter.report.page import HEADERS
from kvm_exporter.web import turns
from kvm_exporter.web.guard import RETRY_SECONDS, Guard, watch_web_config
from kvm_exporter.web.http import Request, Response, text_response
from lab.secure import TLS, USERS, basic, web_config
from tests.support.rooms.certificates import certificates
from tests.support.rooms.loop import in_loop

ADDED = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    Content-Security-Policy: default-src 'none'\n"
ONCE = "rate_limit:\n  interval: 1h\n  burst: 1\n"

RIGHT = {"authorization": basic("prometheus")["Authorization"]}
WRONG = {"authorization": basic("prometheus", "wrong")["Authorization"]}


async def site(request: Request) -> Response:
    """Answer / with a page that has its own headers, and any other path with 404."""
    if request.path == "/":
        return Response(HTTPStatus.OK, b"page", list(HEADERS))
    return text_response(HTTPStatus.NOT_FOUND, "Nothing here.")


def test_a_policy_that_lets_in_strangers_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The warning is logged when the configuration is applied."""
    certificates(tmp_path)
    path = web_config(tmp_path, f"{TLS}  client_auth_type: VerifyClientCertIfGiven\n")
    Guard(site, watch_web_config(path, None))
    assert "client_auth_type VerifyClientCertIfGiven without client_ca_file accepts" in caplog.text


class Guarded:
    """A site behind a guard, and the guard's file."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self.write(text)
        self._guard = Guard(site, watch_web_config(path, None))

    def write(self, text: str) -> None:
        """Replace the file."""
        new = self._path.with_name("replacement")
        new.write_text(text)
        new.replace(self._path)

    async def ask(self, path: str = "/", headers: dict[str, str] | None = None) -> Response:
        """Return the response to a request."""
        self._guard.refresh()
        return self._guard.with_headers(await self._guard.handle(Request("GET", path, headers or {})))

    async def statuses(self, *headers: dict[str, str]) -> list[int]:
        """Return the status of each of several requests."""
        return [(await self.ask(headers=one)).status for one in headers]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the configuration."""
    return tmp_path / "web.yml"


@in_loop
async def test_without_a_password_nothing_is_shown(path: Path) -> None:
    """Without a valid login every path gets 401 with WWW-Authenticate."""
    guarded = Guarded(path, USERS)
    for place in ("/", "/nowhere"):
        for headers in ({}, WRONG):
            response = await guarded.ask(place, headers)
            assert (response.status, response.body) == (401, b"Unauthorized\n")
            assert ("WWW-Authenticate", "Basic") in response.headers
    assert (await guarded.ask("/", RIGHT)).status == 200
    assert (await guarded.ask("/nowhere", RIGHT)).status == 404


@in_loop
async def test_the_rate_limit_comes_before_the_password(path: Path) -> None:
    """A request counts for the rate limit before its password is verified, so that guessing is limited."""
    guarded = Guarded(path, USERS + ONCE)
    assert await guarded.statuses(WRONG, WRONG, RIGHT, {}) == [401, 429, 429, 429]


@in_loop
async def test_a_login_that_cannot_wait_may_come_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was neither right nor wrong: 503 with Retry-After, and no 401, which would make a client ask its user."""
    monkeypatch.setattr(turns, "MAX_OF_PEER", 0)
    guarded = Guarded(path, USERS)
    response = await guarded.ask("/", RIGHT)
    assert (response.status, response.body) == (503, b"Too many logins wait to be checked.\n")
    assert ("Retry-After", str(RETRY_SECONDS)) in response.headers
    monkeypatch.undo()
    assert (await guarded.ask("/", RIGHT)).status == 200


@pytest.mark.parametrize(("place", "headers", "status"), [("/nowhere", RIGHT, 404), ("/", WRONG, 401), ("/", {}, 401)])
@in_loop
async def test_headers_are_added_to_every_answer(path: Path, place: str, headers: dict[str, str], status: int) -> None:
    """Configured headers are added to every response, including refusals."""
    response = await Guarded(path, USERS + ADDED).ask(place, headers)
    assert response.status == status
    assert {("X-Frame-Options", "deny"), ("Content-Security-Policy", "default-src 'none'")} <= set(response.headers)


@in_loop
async def test_headers_are_added_where_there_were_too_many_requests(path: Path) -> None:
    """Configured headers are added to the response 429."""
    guarded = Guarded(path, ADDED + ONCE)
    await guarded.ask()
    response = await guarded.ask()
    assert response.status == 429
    assert ("X-Frame-Options", "deny") in response.headers


@in_loop
async def test_configured_headers_replace_those_of_the_page(path: Path) -> None:
    """A configured header is on every response, the page's too, and none is there twice."""
    response = await Guarded(path, ADDED).ask("/")
    names = [name.lower() for name, _ in response.headers]
    assert len(names) == len(set(names))
    assert ("Content-Security-Policy", "default-src 'none'") in response.headers
    assert set(dict(HEADERS)) <= set(dict(response.headers))


@in_loop
async def test_changes_are_followed(path: Path) -> None:
    """Each request uses the users, headers and rate limit of the file as it is then."""
    guarded = Guarded(path, "{}")
    assert await guarded.statuses({}, WRONG) == [200, 200]
    guarded.write(USERS)
    assert await guarded.statuses({}, RIGHT) == [401, 200]
    guarded.write(USERS.replace("prometheus", "someone") + ADDED)
    response = await guarded.ask("/", RIGHT)
    assert (response.status, ("X-Frame-Options", "deny") in response.headers) == (401, True)
    guarded.write(ONCE)
    assert await guarded.statuses({}, {}) == [200, 429]
    guarded.write("{}")
    assert await guarded.statuses({}, {}) == [200, 200]


@in_loop
async def test_a_limit_that_stays_keeps_its_count(path: Path) -> None:
    """A change that keeps the rate limit does not refill the bucket."""
    guarded = Guarded(path, ONCE)
    assert await guarded.statuses({}) == [200]
    guarded.write(ONCE + ADDED)
    assert await guarded.statuses({}) == [429]


@in_loop
async def test_a_broken_file_opens_nothing(path: Path) -> None:
    """An invalid file leaves the previous configuration in force."""
    guarded = Guarded(path, USERS)
    for broken in ("", "nonsense", "basic_auth_users: 5"):
        guarded.write(broken)
        assert await guarded.statuses({}, RIGHT) == [401, 200]


@in_loop
async def test_the_certificate_that_is_served_is_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At the start and after each change: names and end. A change that fails leaves the one that was said last."""
    caplog.set_level(logging.INFO, "kvm_exporter.web.guard")
    made = certificates(path.parent)
    web_config(path.parent, TLS)
    guard = Guard(site, watch_web_config(path, None))
    for name in ("rsa", "nonsense", "alone"):
        for kind in ("crt", "key"):
            content = (made / f"{name}.{kind}").read_bytes() if name != "nonsense" else b"nonsense"
            made.folder.joinpath("new").write_bytes(content)
            made.folder.joinpath("new").replace(made / f"server.{kind}")
        guard.refresh()
    served = [record.getMessage() for record in caplog.records if record.name == "kvm_exporter.web.guard"]
    assert [re.sub("until .*", "until", line) for line in served] == [
        f"serving the certificate of CN={name}, issued by CN={issuer}, valid until"
        for name, issuer in (("server", "ca"), ("rsa", "ca"), ("alone", "alone"))
    ]
