"""``python bare_server.py PORT FILE``: a bare loop of asyncio and h11 that serves one file whatever is asked for.

What a server in Python does with these two at least: it has no deadline, no limit and no choice.
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
        """The peer is there."""
        if isinstance(transport, asyncio.WriteTransport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that has arrived."""
        self._parser.receive_data(data)
        while True:
            event = self._parser.next_event()
            if isinstance(event, h11.EndOfMessage):
                self._answer()
                self._parser.start_next_cycle()
            elif not isinstance(event, h11.Request):
                return

    def _answer(self) -> None:
        headers = [
            ("Content-Type", "text/plain; version=0.0.4; charset=utf-8"),
            ("Content-Encoding", "gzip"),
            ("Content-Length", str(len(self._body))),
        ]
        events = (h11.Response(status_code=200, headers=headers), h11.Data(data=self._body), h11.EndOfMessage())
        self._transport.write(b"".join(self._parser.send(event) or b"" for event in events))


async def serve(port: int, body: bytes) -> None:
    """Until it is stopped."""
    server = await asyncio.get_running_loop().create_server(lambda: Bare(body), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
