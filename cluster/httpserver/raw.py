"""A connection taken over from HTTP: the bytes of a WebSocket, SPDY or tunnelled stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.httpserver.connection import Connection

READ_BUFFER_BYTES = 256 * 1024
"""Unread bytes of one raw stream; past that reading from the socket pauses."""


class RawStream:
    """Reads and writes plain bytes. Ends with b'' at the client's end; `write` after that is
    dropped."""

    def __init__(self, connection: Connection, initial: bytes) -> None:
        self._connection = connection
        self._buffer = bytearray(initial)
        self._eof = False
        self._reader: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    async def read(self, limit: int = 65536) -> bytes:
        """Some bytes, at most `limit`; b'' once the client has ended."""
        while not self._buffer and not self._eof:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = bytes(self._buffer[:limit])
        del self._buffer[:limit]
        if len(self._buffer) <= READ_BUFFER_BYTES // 2:
            self._connection.resume_reading()
        return data

    def write(self, data: bytes) -> None:
        """Send; call `drain` between large pieces."""
        self._connection.write_raw(data)

    async def drain(self) -> None:
        """Wait until the client reads again. Raises ConnectionResetError when it is gone."""
        while self._connection.write_paused and not self._connection.lost:
            if self._writable is None or self._writable.done():
                self._writable = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._writable)
        if self._connection.lost:
            raise ConnectionResetError("the client is gone")

    def close(self) -> None:
        """End the connection once what was written has left."""
        self._connection.close()

    @property
    def closed(self) -> bool:
        return self._connection.lost

    def feed(self, data: bytes) -> None:
        """Bytes came in (the connection calls this)."""
        self._buffer += data
        if len(self._buffer) > READ_BUFFER_BYTES:
            self._connection.pause_reading()
        self._wake(self._reader)

    def feed_eof(self) -> None:
        """The client ended or is gone (the connection calls this)."""
        self._eof = True
        self._wake(self._reader)
        self._wake(self._writable)

    def flush(self) -> None:
        """The client reads again (the connection calls this)."""
        self._wake(self._writable)

    @staticmethod
    def _wake(waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
