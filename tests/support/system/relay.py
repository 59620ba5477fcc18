"""A relay between a client and the exporter that passes every byte on and keeps it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

STATUS_LINE = b"HTTP/1.1 "
CONTENT_TYPE = re.compile(rb"\r\nContent-Type: ([^\r]*)\r\n", re.IGNORECASE)


class Relay:
    """What went to and fro on all connections together."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self.requests = b""
        self.responses = b""
        self._passed = asyncio.Condition()

    @property
    def content_types(self) -> set[str]:
        """What the responses were."""
        return {found.decode() for found in CONTENT_TYPE.findall(self.responses)}

    async def answers(self, count: int) -> None:
        """Wait until so many responses have begun."""
        async with self._passed:
            await self._passed.wait_for(lambda: self.responses.count(STATUS_LINE) >= count)

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a connection on."""
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(self._pass(reader, back, "requests"), self._pass(there, writer, "responses"))

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, record: str) -> None:
        try:
            while data := await source.read(1 << 16):
                async with self._passed:
                    setattr(self, record, getattr(self, record) + data)
                    self._passed.notify_all()
                target.write(data)
                await target.drain()
        except ConnectionError:
            pass  # one of them left
        finally:
            target.close()


@asynccontextmanager
async def relay(port: int) -> AsyncIterator[Relay]:
    """A relay to a port of the loopback, on a free one."""
    between = Relay(port)
    async with await asyncio.start_server(between.connect, "127.0.0.1", 0) as server:
        between.port = server.sockets[0].getsockname()[1]
        yield between
