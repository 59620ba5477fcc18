"""kvm_exporter.web.credentials: valid and invalid logins, the number of hashes, and a flood of wrong passwords."""

import asyncio
import base64
import subprocess
import sys
import threading
from collections.abc import Iterator

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.web import credentials
from kvm_exporter.web.credentials import Credentials, Login, parse_basic
from kvm_exporter.web.turns import MAX_OF_PEER
from lab.patience import PATIENCE_SECONDS
from lab.proc import wait_until
from tests.support.rooms.loop import in_loop


def basic(user: str | bytes, password: str | bytes) -> str:
    """Return the header of basic authentication."""
    parts = (part.encode() if isinstance(part, str) else part for part in (user, password))
    return "Basic " + base64.b64encode(b":".join(parts)).decode()


def hashed(password: str | bytes, cost: int = 4) -> bytes:
    """Return a bcrypt hash of a password."""
    return bcrypt.hashpw(password.encode() if isinstance(password, str) else password, bcrypt.gensalt(cost))


USERS = {"alice": hashed("wonder"), "böb": hashed("geheim", cost=5)}

RIGHT, WRONG, STRANGER = basic("alice", "wonder"), basic("alice", "wander"), basic("mallory", "wonder")


class Bcrypt:
    """A substitute of bcrypt.checkpw() that notes its calls and can block them."""

    def __init__(self) -> None:
        self.costs: list[int] = []
        self.threads: set[threading.Thread] = set()
        self.door = threading.Event()
        self.door.set()
        self._checkpw = bcrypt.checkpw

    def checkpw(self, password: bytes, hashed: bytes) -> bool:
        """Check a password after the door is open."""
        self.costs.append(int(hashed[4:6]))
        self.threads.add(threading.current_thread())
        assert self.door.wait(PATIENCE_SECONDS)
        return self._checkpw(password, hashed)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bcrypt]:
    """The substitute of bcrypt, for the time of a test."""
    record = Bcrypt()
    monkeypatch.setattr(bcrypt, "checkpw", record.checkpw)
    yield record
    record.door.set()


@in_loop
async def test_users_are_let_in_with_their_passwords() -> None:
    """Users with the right password are accepted; any other user or password is rejected."""
    verifier = Credentials(USERS)
    assert await verifier.verify(RIGHT)
    assert await verifier.verify(basic("böb", "geheim"))
    for user, password in [("alice", "geheim"), ("böb", "wonder"), ("alice", ""), ("", "wonder"), ("Alice", "wonder")]:
        assert not await verifier.verify(basic(user, password))
    assert not await verifier.verify(basic(b"\xff", "wonder"))


@pytest.mark.parametrize("version", ["2a", "2b", "2y"])
@in_loop
async def test_a_hash_that_go_knows(version: str) -> None:
    """Source: golang.org/x/crypto/bcrypt, TestBcryptingIsCorrect."""
    known = f"${version}$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga"
    verifier = Credentials({"gopher": known.encode()})
    assert await verifier.verify(basic("gopher", "allmine"))
    assert not await verifier.verify(basic("gopher", "allmine."))


@in_loop
async def test_a_stranger_costs_as_little_as_the_cheapest_hash(asked: Bcrypt) -> None:
    """An unknown user costs one hash with the lowest cost of any user; where costs are equal, time tells no names."""
    verifier = Credentials(USERS)
    assert not await verifier.verify(basic("böb", "wrong"))
    assert not await verifier.verify(STRANGER)
    assert not await verifier.verify(WRONG)
    assert asked.costs == [5, 4, 4]


@in_loop
async def test_a_stranger_never_has_the_right_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown user is rejected even if the password matches the hash that stands in for a user's."""
    monkeypatch.setattr(bcrypt, "checkpw", lambda *_: True)
    verifier = Credentials(USERS)
    for _ in range(2):
        assert not await verifier.verify(STRANGER)
    assert await verifier.verify(RIGHT)


@in_loop
async def test_each_login_is_hashed_once(asked: Bcrypt) -> None:
    """A login is hashed once; later its result is remembered, right or wrong."""
    verifier = Credentials(USERS)
    for header, let_in in ((RIGHT, True), (WRONG, False), (STRANGER, False)) * 3:
        assert await verifier.verify(header) is let_in
    assert len(asked.costs) == 3


@in_loop
async def test_the_same_login_at_once_is_hashed_once(asked: Bcrypt) -> None:
    """Concurrent requests with the same login share one hash; cancelling one of them does not cancel it."""
    verifier = Credentials(USERS)
    asked.door.clear()
    waiting = [asyncio.create_task(verifier.verify(RIGHT)) for _ in range(3 * MAX_OF_PEER)]
    await asyncio.sleep(0)
    waiting.pop(0).cancel()
    await asyncio.sleep(0)
    asked.door.set()
    assert all(await asyncio.gather(*waiting))
    assert len(asked.costs) == 1


@in_loop
async def test_what_is_remembered_has_a_bound(asked: Bcrypt, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of wrong logins that are remembered is limited, oldest first out; the right login of a user stays."""
    monkeypatch.setattr(credentials, "MAX_WRONG", 4)
    verifier = Credentials(USERS)
    assert await verifier.verify(RIGHT)
    for number in range(6):
        assert not await verifier.verify(basic("alice", f"wrong {number}"))
    assert len(asked.costs) == 7
    assert await verifier.verify(RIGHT)
    assert not await verifier.verify(basic("alice", "wrong 5"))
    assert not await verifier.verify(basic("alice", "wrong 2"))
    assert len(asked.costs) == 7
    assert not await verifier.verify(basic("alice", "wrong 1"))
    assert len(asked.costs) == 8


def flood(verifier: Credentials, peer: str, count: int, user: str = "alice") -> list[asyncio.Task[bool | None]]:
    """Start to verify logins of a peer, each with another wrong password."""
    return [asyncio.create_task(verifier.verify(basic(user, f"{peer} {number}"), peer)) for number in range(count)]


@in_loop
async def test_a_flood_holds_up_nobody_who_is_known(asked: Bcrypt) -> None:
    """While wrong logins wait, a remembered login is accepted, and one too many is told so, both without waiting."""
    verifier = Credentials(USERS)
    assert await verifier.verify(RIGHT)
    asked.door.clear()
    waiting = flood(verifier, "a", 1 + MAX_OF_PEER)
    await asyncio.sleep(0)
    assert await verifier.verify(RIGHT, "a")
    assert await verifier.verify(basic("alice", "one more"), "a") is None
    assert not any(task.done() for task in waiting)
    asked.door.set()
    assert await asyncio.gather(*waiting) == [False] * len(waiting)
    assert len(asked.costs) == 2 + MAX_OF_PEER
    assert await verifier.verify(basic("alice", "one more"), "a") is False


@pytest.mark.parametrize("user", ["böb", "alice", "mallory"], ids=["the same name", "another name", "no name"])
@in_loop
async def test_a_right_password_comes_before_the_flood(asked: Bcrypt, user: str) -> None:
    """The first right login after the start is compared next, although the flood's came before, from two addresses."""
    verifier = Credentials(USERS)
    asked.door.clear()
    waiting = [task for peer in "ab" for task in flood(verifier, peer, MAX_OF_PEER, user)]
    await asyncio.sleep(0)
    right = asyncio.create_task(verifier.verify(basic("böb", "geheim"), "c"))
    await asyncio.sleep(0)
    asked.door.set()
    assert await right
    # One of each address of the flood may have been before it, and one more may have been compared since.
    assert len(asked.costs) <= 4
    assert set(await asyncio.gather(*waiting)) == {False}


@in_loop
async def test_names_that_exist_come_first_at_one_address(asked: Bcrypt) -> None:
    """Of the logins of one address, the first is the one that may be right; a stranger gives up its place for it."""
    verifier = Credentials(USERS)
    assert await verifier.verify(RIGHT)
    asked.door.clear()
    strangers = flood(verifier, "a", 1 + MAX_OF_PEER, "mallory")
    await asyncio.sleep(0)
    wrong = asyncio.create_task(verifier.verify(WRONG, "a"))
    right = asyncio.create_task(verifier.verify(basic("böb", "geheim"), "a"))
    await asyncio.sleep(0)
    asked.door.set()
    assert (await right, await wrong) == (True, False)
    assert asked.costs[2:4] == [5, 4]
    assert (await asyncio.gather(*strangers))[-2:] == [None, None]


@in_loop
async def test_hashing_has_one_thread_of_its_own(asked: Bcrypt) -> None:
    """Hashes are computed one at a time in a daemon thread, which is not the thread of the event loop."""
    verifier = Credentials(USERS)
    await asyncio.gather(*(verifier.verify(basic("alice", f"wrong {number}")) for number in range(MAX_OF_PEER)))
    [thread] = asked.threads
    assert (thread.name, thread.daemon) == ("kvm-bcrypt", True)
    assert thread is not threading.current_thread()


@in_loop
async def test_where_there_is_no_thread_to_hash_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no thread can be started, verify() raises an error, and the next call tries again."""
    checked = Credentials(USERS)
    with monkeypatch.context() as patched:
        patched.setattr(threading, "_start_new_thread", out_of_threads)
        for header in (RIGHT, WRONG):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await checked.verify(header)
    assert [await checked.verify(header) for header in (RIGHT, WRONG)] == [True, False]
    checked.close()


def out_of_threads(*_: object) -> None:
    """Raise the error that threading raises when the kernel refuses a thread."""
    raise RuntimeError("can't start new thread")


@in_loop
async def test_72_bytes_of_a_password_count() -> None:
    """Only the first 72 bytes of a password count, as in Go, whatever Python's bcrypt does with longer ones."""
    verifier = Credentials({"alice": hashed("a" * 72), "bob": hashed("b" * 71)})
    assert await verifier.verify(basic("alice", "a" * 72))
    assert await verifier.verify(basic("alice", "a" * 72 + "b" * 1000))
    assert not await verifier.verify(basic("alice", "a" * 71 + "b"))
    assert not await verifier.verify(basic("alice", "a" * 71))
    assert await verifier.verify(basic("bob", "b" * 71))
    assert not await verifier.verify(basic("bob", "b" * 72))


@in_loop
async def test_a_password_with_nul_is_refused(asked: Bcrypt) -> None:
    """A password with NUL is rejected without a hash, because versions of bcrypt treat it differently."""
    assert not await Credentials({"alice": hashed("")}).verify(basic("alice", "\0"))
    assert asked.costs == []


@in_loop
async def test_other_users_from_now_on(asked: Bcrypt) -> None:
    """After a change of the users, changed and removed logins are rejected; unchanged ones are not hashed again."""
    verifier = Credentials(USERS)
    for header in (RIGHT, basic("böb", "geheim")):
        assert await verifier.verify(header)
    verifier.use({"alice": hashed("new"), "böb": USERS["böb"]})
    assert await verifier.verify(basic("böb", "geheim"))
    assert len(asked.costs) == 2
    assert not await verifier.verify(RIGHT)
    assert await verifier.verify(basic("alice", "new"))
    verifier.use({"alice": USERS["alice"]})
    assert not await verifier.verify(basic("böb", "geheim"))
    assert await verifier.verify(RIGHT)
    verifier.use({})
    assert not await verifier.verify(RIGHT)


@in_loop
async def test_a_hash_that_is_none_has_no_password() -> None:
    """An invalid hash matches no password, and raises no exception."""
    verifier = Credentials({"alice": b"$2b$04$" + b"!" * 53})
    for number in range(2):
        assert not await verifier.verify(basic("alice", str(number)))


def test_what_is_remembered_is_no_password() -> None:
    """No password is kept, and two instances keep different digests of the same login."""

    async def remembered() -> str:
        verifier = Credentials(USERS)
        await verifier.verify(RIGHT)
        await verifier.verify(WRONG)
        return repr({name: value for name, value in vars(verifier).items() if name not in {"_secret", "_hashes"}})

    first, second = asyncio.run(remembered()), asyncio.run(remembered())
    assert "wonder" not in first
    assert "wander" not in first
    assert first != second


def test_a_hash_may_outlive_its_event_loop(asked: Bcrypt) -> None:
    """A hash that ends after its event loop raises nothing in the thread."""
    asked.door.clear()

    async def leave() -> None:
        task = asyncio.create_task(Credentials(USERS).verify(WRONG))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    [thread] = [thread for thread in threading.enumerate() if thread.name == "kvm-bcrypt" and thread in living(asked)]
    asked.door.set()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def living(asked: Bcrypt) -> set[threading.Thread]:
    """Wait until a thread computes a hash, and return the threads that do."""
    wait_until(lambda: bool(asked.threads))
    return asked.threads


def test_bcrypt_is_not_loaded_for_nobody() -> None:
    """Without users bcrypt is not imported, which saves memory and time."""
    program = (
        "import sys; from kvm_exporter.web.credentials import Credentials; nobody = Credentials({}); "
        "assert 'bcrypt' not in sys.modules; nobody.use({'a': b'$2b$04$' + b'.' * 53}); assert 'bcrypt' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("header", "login"),
    [
        ("Basic YTpi", Login(b"a", b"b")),
        ("basic YTpi", Login(b"a", b"b")),
        ("BASIC  YTpi ", Login(b"a", b"b")),
        ("Basic YTo=", Login(b"a", b"")),
        ("Basic Og==", Login(b"", b"")),
        ("Basic YTpiOmM=", Login(b"a", b"b:c")),
        ("Basic YTr/", Login(b"a", b"\xff")),
        *[
            (header, None)
            for header in (
                *(
                    "",
                    "Basic",
                    "Basic ",
                    "Bearer YTpi",
                    "BasicYTpi",
                    "Basic YQ==",
                    "Basic YTo",
                    "Basic YTpi=",
                    "Basic YTpi====",
                    "Basic YT==YTpi",
                    "Basic =",
                    "Basic ====",
                ),
                *(
                    "Basic YTpi, Basic YTpi",
                    "Basic YT pi",
                    "Basic \tYTpi",
                    "Basic YTpi\n",
                    "Basic Y-_i",
                    "Basic ä",
                    "Basic \ud800",
                ),
            )
        ],
    ],
)
def test_headers_and_their_logins(header: str, login: Login | None) -> None:
    """A header is parsed as RFC 7617 section 2 says; an invalid one gives None."""
    assert parse_basic(header) == login


@given(
    st.text()
    | st.text().map("Basic {}".format)
    | st.binary().map(lambda data: "Basic " + base64.b64encode(data).decode())
)
def test_any_header_is_a_login_or_none(header: str) -> None:
    """Any header is parsed to a login that can be hashed, or to None; no exception is raised."""
    login = parse_basic(header)
    assert login is None or (len(login.password) <= 72 and b"\0" not in login.password and b":" not in login.user)


@given(
    st.binary().filter(lambda user: b":" not in user),
    st.binary(max_size=72).filter(lambda password: b"\0" not in password),
)
def test_a_login_comes_out_as_it_went_in(user: bytes, password: bytes) -> None:
    """The bytes of user and password are returned unchanged, whatever their encoding."""
    assert parse_basic(basic(user, password)) == Login(user, password)


@given(st.text())
def test_any_header_is_answered(header: str) -> None:
    """Without users any header is rejected."""
    assert asyncio.run(Credentials({}).verify(header)) is False
