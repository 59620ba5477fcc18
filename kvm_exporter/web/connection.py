"""One HTTP/1.1 connection on asyncio, with a deadline on everything that a peer can delay.

Knows nothing of what is served: its owner has a function from a Request to a Response.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Generic, Protocol, TypeVar

from kvm_exporter.web.http import Answer, Http1, Pending, Refusal, Request, Response, plain

C_contra = TypeVar("C_contra", contravariant=True)


class Owner(Protocol[C_contra]):
    """Who keeps account of connections."""

    #: Shared by all connections: filled and emptied within one turn of the event loop.
    buffer: bytearray
    answer: Answer
    deadlines: "Deadlines"
    stopping: bool

    def opened(self, connection: C_contra, peer: Any) -> None:  # noqa: ANN401 - asyncio's "extra info"
        """A connection can be used; ``peer`` is the SSL object where there is TLS, after its handshake."""
        ...

    def served(self, connection: C_contra) -> None:
        """A request was answered."""
        ...

    def closed(self, connection: C_contra) -> None:
        """A connection is over."""
        ...


PIECE_BYTES = 1 << 16


class Outgoing:
    """The way out of one connection."""

    def __init__(self, transport: asyncio.Transport, patience: float) -> None:
        self._transport = transport
        self._patience = patience
        self._free = asyncio.Event()
        self._free.set()

    def pause(self) -> None:
        """The peer does not read as fast as we write."""
        self._free.clear()

    def resume(self) -> None:
        """Everything written is with the kernel."""
        self._free.set()

    def send_at_once(self, data: bytes) -> bool:
        """Write a piece; whether it was all, and the kernel has it."""
        self._transport.write(data[:PIECE_BYTES])
        return len(data) <= PIECE_BYTES and self._free.is_set()

    async def finish(self, data: bytes) -> None:
        """Write what send_at_once() has left: asyncio's TLS encrypts at once what it is given, and keeps all of it."""
        await self._drain()
        for start in range(PIECE_BYTES, len(data), PIECE_BYTES):
            if self._transport.is_closing():
                return
            self._transport.write(data[start : start + PIECE_BYTES])
            await self._drain()

    async def _drain(self) -> None:
        """Wait until the kernel has everything; abort when a whole deadline passes without progress."""
        left = self._transport.get_write_buffer_size()
        while not self._free.is_set() and not self._transport.is_closing():
            try:
                async with asyncio.timeout(self._patience):
                    await self._free.wait()
            except TimeoutError:
                before, left = left, self._transport.get_write_buffer_size()
                if left >= before:
                    self._transport.abort()


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a peer may take, in seconds."""

    #: For a TLS handshake.
    handshake: float = 5.0
    #: For a whole header: from its first byte, or from the connection's begin.
    header: float = 10.0
    #: For a write that makes no progress.
    write: float = 10.0
    #: Between requests.
    idle: float = 75.0
    #: For a refused peer to read why, before the connection is cut.
    linger: float = 1.0


class Deadline:
    """A time by which something has to happen, which is set anew for each request.

    Its timer stays where it is while the time is only put off: it looks again when it goes off. For one event loop.
    """

    def __init__(self, missed: Callable[[], None]) -> None:
        self._missed = missed
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> None:
        """From now on there is so much time."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= self._due:
                return
            self._timer.cancel()
        self._timer = loop.call_at(self._due, self._look)

    def lift(self) -> None:
        """From now on there is any amount of time."""
        self._due = None

    def end(self) -> None:
        """There is none any more, and nothing left of it."""
        self._due = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._due is None:
            return
        if self._due > loop.time():
            self._timer = loop.call_at(self._due, self._look)
        else:
            self._missed()


T = TypeVar("T")


class Begun(Generic[T]):
    """A coroutine after its first step. Raises what it raises there."""

    result: T

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        #: Whether there is a result already.
        self.done = False
        try:
            self._waits_for = coroutine.send(None)
        except StopIteration as end:
            self.result, self.done = end.value, True

    def __await__(self) -> Generator[Any, Any, T]:
        """Go on with it, once: as "yield from" does with a coroutine that has not begun."""
        if self.done:
            return self.result
        waits_for = self._waits_for
        while True:
            failure: BaseException | None = None
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 - it is for the coroutine
                failure = error
            try:
                waits_for = self._coroutine.send(None) if failure is None else self._coroutine.throw(failure)
            except StopIteration as end:
                result: T = end.value
                return result


logger = logging.getLogger(__name__)


class Connection(asyncio.BufferedProtocol):
    """One peer, from accept to close. At most one request is being answered, and meanwhile nothing is read."""

    _transport: asyncio.Transport
    _deadline: Deadline
    _out: Outgoing

    def __init__(self, owner: "Owner[Connection]") -> None:
        self._owner = owner
        self._http = Http1()
        #: The task that accepts it; over TLS, the handshake.
        self.opening: asyncio.Task[None] | None = None
        self._made = False
        self._reply: asyncio.Task[None] | None = None
        self._idle = False
        self._refused = False

    def stop(self) -> None:
        """Close; a request that is being answered is answered first."""
        if not self._made:
            self.cut()
        elif self.idle:
            self._close()

    def cut(self) -> None:
        """End at once, whatever is going on."""
        if self._made:
            self._transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self._reply is None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The peer is there."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's promise, told to the type checker
        self._transport, self._made = transport, True
        self._deadline = Deadline(transport.abort)
        self._out = Outgoing(transport, self._owner.deadlines.write)
        # pause_writing() says when the kernel has not everything, resume_writing() when it has again. With 0 as the
        # mark, asyncio's TLS would say both of an empty buffer, in turns.
        transport.set_write_buffer_limits(high=1, low=0)
        self._deadline.within(self._owner.deadlines.header)
        self._owner.opened(self, transport.get_extra_info("ssl_object"))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The peer is gone, or we are."""
        self._deadline.end()
        if self._reply is not None:
            self._reply.cancel()
        self._owner.closed(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Where to put what arrives: a view, because asyncio's TLS fills slices of it."""
        return memoryview(self._owner.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        """So much arrived."""
        if not self._refused:
            self._http.receive(bytes(memoryview(self._owner.buffer)[:nbytes]))
            self._advance(at_once=True)

    def eof_received(self) -> bool:
        """The peer sends no more, but may still wait for an answer: True keeps the connection open for that."""
        if self._refused:
            return False
        self._http.receive(b"")
        self._advance()
        # Over TLS, which has no half-closed connections, asyncio does not listen to it, and complains.
        return self._transport.can_write_eof() and (self._reply is not None or self._refused)

    def pause_writing(self) -> None:
        """The peer does not read as fast as we write."""
        self._out.pause()

    def resume_writing(self) -> None:
        """Everything written is with the kernel."""
        self._out.resume()

    # Requests, one after the other.

    def _advance(self, *, at_once: bool = False) -> None:
        """Go on with what was received; ``at_once``: in this turn of the event loop, if nothing has to wait."""
        if self._reply is not None:
            return
        taken = self._http.take()
        if isinstance(taken, Request):
            self._deadline.lift()
            response = Begun(self._response(taken))
            if at_once and response.done:
                self._send_at_once(response.result)
            else:
                self._go_on_in_task(self._answer(response))
        elif isinstance(taken, Refusal):
            self._refuse(taken.response)
        elif taken is Pending.CLOSED:
            self._close()
        elif taken is Pending.HEADER and self._idle:
            self._idle = False
            self._deadline.within(self._owner.deadlines.header)

    async def _response(self, request: Request) -> Response:
        try:
            return await self._owner.answer(request)
        except Exception:
            logger.exception("no answer to %s %s", request.method, request.path)
            return plain(HTTPStatus.INTERNAL_SERVER_ERROR, "The exporter failed; its log says how.")

    def _send_at_once(self, response: Response) -> None:
        data = self._http.send(response, last=self._owner.stopping)
        if self._out.send_at_once(data):
            self._answered()
        else:
            self._go_on_in_task(self._finish(data))

    def _go_on_in_task(self, rest: Coroutine[Any, Any, None]) -> None:
        # What the peer sends ahead waits in its own kernel.
        self._transport.pause_reading()
        self._reply = asyncio.get_running_loop().create_task(rest)

    async def _answer(self, response: Begun[Response]) -> None:
        data = self._http.send(await response, last=self._owner.stopping)
        del response  # a slow peer's costs memory once
        self._out.send_at_once(data)
        await self._finish(data)

    async def _finish(self, data: bytes) -> None:
        await self._out.finish(data)
        self._reply = None
        self._answered()

    def _answered(self) -> None:
        self._owner.served(self)
        if self._transport.is_closing():
            return
        if self._owner.stopping or not self._http.go_on():
            self._close()
            return
        self._transport.resume_reading()
        self._idle = True
        self._deadline.within(self._owner.deadlines.idle)
        self._advance()

    def _refuse(self, response: Response) -> None:
        """Say what is wrong and end the connection, leaving the peer a moment to read it.

        Closing at once, with something of the peer's unread, would make its kernel throw the answer away.
        """
        self._refused = True
        self._transport.write(self._http.send(response, last=True))
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._deadline.within(self._owner.deadlines.linger)
        else:
            self._close()

    def _close(self) -> None:
        """End the connection when what was written is with the kernel, or after a moment."""
        self._transport.close()
        # asyncio's TLS waits for ever for a peer that left, without saying so, while it was being answered.
        self._deadline.within(self._owner.deadlines.linger)
