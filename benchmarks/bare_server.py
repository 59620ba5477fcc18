"""``python bare_server.py PORT FILE``: a bare server of asyncio and h11 that responds to every request with one file.

This is the least that a server with these two libraries does: it has no deadlines, no limits and no routes.
"""

import asyncio
import sys
from pathlib import Path

import h11


class Bare(asyncio.Protocol):
    """One connection."""

    _transport: asyncio.WriteTransport

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._parser = h11.Connection(h11.SERVER)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport of the new connection."""
        if isinstance(transport, asyncio.WriteTransport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Respond to each request that has arrived completely."""
        self._parser.receive_data(data)
        while True:
            event = self._parser.next_event()
            if isinstance(event, h11.EndOfMessage):
                self._respond()
                self._parser.start_next_cycle()
            elif not isinstance(event, h11.Request):
                return

    def _respond(self) -> None:
        headers = [
            ("Content-Type", "text/plain; version=0.0.4; charset=utf-8"),
            ("Content-Encoding", "gzip"),
            ("Content-Length", str(len(self._body))),
        ]
        events = (h11.Response(status_code=200, headers=headers), h11.Data(data=self._body), h11.EndOfMessage())
        self._transport.write(b"".join(self._parser.send(event) or b"" for event in events))


async def serve(port: int, body: bytes) -> None:
    """Serve on a port of the loopback until the task is cancelled."""
    server = await asyncio.get_running_loop().create_server(lambda: Bare(body), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
