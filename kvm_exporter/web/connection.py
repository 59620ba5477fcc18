"""One HTTP/1.1 connection on asyncio, with a deadline on everything that a peer can delay.

Knows nothing of what is served: its owner has a function from a Request to a Response.
"""

import asyncio
import logging
from collections.abc import Coroutine
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from kvm_exporter.begun import Begun
from kvm_exporter.deadlines import Deadline
from kvm_exporter.messages import Request, Response, plain
from kvm_exporter.outgoing import Outgoing
from kvm_exporter.web.http import Http1, Pending, Refusal

if TYPE_CHECKING:
    from kvm_exporter.owner import Owner

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
