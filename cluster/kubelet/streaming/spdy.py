"""SPDY/3.1, as far as Kubernetes' streaming uses it, over any pair of byte streams.

Plays github.com/moby/spdystream. The client opens streams (SYN_STREAM) with a `streamtype` header;
data flows in frames; each side may half-close. Flow-control windows are kept generous and never
enforced, as spdystream does. Limits: STREAMS at once, frames of FRAME_BYTES.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Protocol

from cluster.kubelet.streaming.spdyheaders import HeaderCodec, HeaderError

STREAMS = 1_000
FRAME_BYTES = 1 << 24
CHUNK_BYTES = 32 * 1024
_SYN_STREAM, _SYN_REPLY, _RST, _SETTINGS, _PING, _GOAWAY, _HEADERS, _WINDOW = 1, 2, 3, 4, 6, 7, 8, 9
_FIN = 1
_VERSION = 3


class ByteStream(Protocol):
    """What SPDY runs over: RawStream, or a WebSocket tunnel."""

    async def read(self, limit: int = 65536) -> bytes: ...

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def close(self) -> None: ...


class SpdyStream:
    """One stream that the client opened."""

    def __init__(self, connection: SpdyConnection, id_: int, headers: dict[str, str]) -> None:
        self.id = id_
        self.headers = headers
        self.remote_closed = False
        self.local_closed = False
        self._connection = connection
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(self) -> bytes:
        """The next piece; b'' once the client has closed its side."""
        if self.remote_closed and self._pieces.empty():
            return b""
        return await self._pieces.get()

    async def write(self, data: bytes) -> None:
        """Raises ConnectionResetError when the client is gone."""
        for at in range(0, len(data), CHUNK_BYTES):
            if self.local_closed:
                raise ConnectionResetError("the stream is closed")
            await self._connection.send_data(self.id, data[at : at + CHUNK_BYTES], False)

    async def close(self) -> None:
        """Close our side."""
        if not self.local_closed:
            self.local_closed = True
            await self._connection.send_data(self.id, b"", True)

    def feed(self, data: bytes, last: bool) -> None:
        if data:
            self._pieces.put_nowait(data)
        if last and not self.remote_closed:
            self.remote_closed = True
            self._pieces.put_nowait(b"")


class SpdyConnection:
    """Reads frames until the client goes; `opened` is called with each new stream."""

    def __init__(
        self, stream: ByteStream, opened: Callable[[SpdyStream], Awaitable[None] | None]
    ) -> None:
        self._stream = stream
        self._opened = opened
        self._codec = HeaderCodec()
        self._streams: dict[int, SpdyStream] = {}
        self._buffer = b""
        self.closed = False

    async def run(self) -> None:
        """Until the connection ends."""
        try:
            while (head := await self._exactly(8)) is not None:
                word, flags_length = struct.unpack(">II", head)
                flags, length = flags_length >> 24, flags_length & 0xFFFFFF
                payload = await self._exactly(length)
                if payload is None:
                    break
                if not word & 0x80000000:
                    self._data(word, flags, payload)
                elif not await self._control(word & 0xFFFF, flags, payload):
                    break
        except (HeaderError, struct.error):
            pass
        finally:
            self.closed = True
            for stream in self._streams.values():
                stream.local_closed = True
                stream.feed(b"", True)
            self._stream.close()

    async def send_data(self, stream_id: int, data: bytes, last: bool) -> None:
        if self.closed:
            raise ConnectionResetError("the client is gone")
        flags = _FIN if last else 0
        self._stream.write(struct.pack(">II", stream_id, flags << 24 | len(data)) + data)
        await self._stream.drain()

    def close(self) -> None:
        """Say goodbye and end the connection."""
        if not self.closed:
            self.closed = True
            last = max(self._streams, default=0)
            self._control_frame(_GOAWAY, 0, struct.pack(">II", last, 0))
            self._stream.close()

    def forget(self, stream: SpdyStream) -> None:
        self._streams.pop(stream.id, None)

    async def _control(self, kind: int, flags: int, payload: bytes) -> bool:
        if kind == _SYN_STREAM:
            return await self._open(flags, payload)
        if kind == _PING:
            self._control_frame(_PING, 0, payload)
        elif kind == _GOAWAY:
            return False
        elif kind == _RST:
            (stream_id,) = struct.unpack_from(">I", payload)
            stream = self._streams.pop(stream_id, None)
            if stream is not None:
                stream.local_closed = True
                stream.feed(b"", True)
        elif kind == _HEADERS:
            # Its block must pass the decoder, whose state all later blocks depend on.
            self._codec.decode(payload[4:])
        return True

    async def _open(self, flags: int, payload: bytes) -> bool:
        (stream_id,) = struct.unpack_from(">I", payload)
        stream_id &= 0x7FFFFFFF
        headers = self._codec.decode(payload[10:])
        if len(self._streams) >= STREAMS:
            self._control_frame(_RST, 0, struct.pack(">II", stream_id, 3))
            return True
        stream = SpdyStream(self, stream_id, headers)
        self._streams[stream_id] = stream
        block = self._codec.encode({})
        self._control_frame(_SYN_REPLY, 0, struct.pack(">I", stream_id) + block)
        if flags & _FIN:
            stream.feed(b"", True)
        outcome = self._opened(stream)
        if outcome is not None:
            await outcome
        return True

    def _data(self, stream_id: int, flags: int, payload: bytes) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.feed(payload, bool(flags & _FIN))
        if payload:
            window = struct.pack(">II", stream_id, len(payload))
            self._control_frame(_WINDOW, 0, window)

    def _control_frame(self, kind: int, flags: int, payload: bytes) -> None:
        word = 0x80000000 | _VERSION << 16 | kind
        self._stream.write(struct.pack(">II", word, flags << 24 | len(payload)) + payload)

    async def _exactly(self, count: int) -> bytes | None:
        while len(self._buffer) < count:
            data = await self._stream.read()
            if not data:
                return None
            self._buffer += data
        piece, self._buffer = self._buffer[:count], self._buffer[count:]
        return piece
