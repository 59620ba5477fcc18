"""What a connection sends: in pieces, each with the kernel before the next, and a deadline for who does not read."""

import asyncio

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
