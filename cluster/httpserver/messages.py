"""What a handler gets and gives: Request, Response, StreamResponse, and the limits of a
connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

if TYPE_CHECKING:
    from cluster.httpserver.connection import Connection
    from cluster.httpserver.raw import RawStream


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may ask for, and the answer when it asks for more."""

    body_bytes: int = 3 * 1024 * 1024  # 413
    header_bytes: int = 64 * 1024  # 431
    url_bytes: int = 256 * 1024  # 414; own components list the names of their nodes in a query
    header_seconds: float = 10.0  # 408: from a request's first byte to the end of its headers
    body_seconds: float = 60.0  # 408: from there to the end of its body
    idle_seconds: float = 180.0  # closed: a kept-alive connection without a request
    connections: int = 20_000  # closed at once
    pipelined: int = 64  # reading pauses
    stream_bytes: int = 8 * 1024 * 1024  # StreamResponse.write_nowait answers False


class Request:
    """One HTTP request with its whole body. `path` is decoded, `raw_path` is as sent, without the
    query."""

    __slots__ = (
        "_connection",
        "_query",
        "body",
        "headers",
        "method",
        "path",
        "query_string",
        "raw_path",
        "received",
        "repeated",
        "wants_upgrade",
    )

    def __init__(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes = b"",
        connection: Connection | None = None,
    ) -> None:
        self.method = method
        raw, _, query = target.partition("?")
        self.raw_path = raw
        self.path = unquote(raw) if "%" in raw else raw
        self.query_string = query
        self._query: dict[str, list[str]] | None = None
        self.headers = headers
        self.repeated: dict[str, list[str]] = {}
        self.body = body
        self.received = 0.0
        self.wants_upgrade = False
        self._connection = connection

    @property
    def query(self) -> dict[str, list[str]]:
        if self._query is None:
            text = self.query_string
            try:
                self._query = parse_qs(text, keep_blank_values=True) if text else {}
            except ValueError:
                self._query = {}
        return self._query

    def parameter(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        if not self.query_string:
            return default
        values = self.query.get(name)
        return values[0] if values else default

    @property
    def peer_cert(self) -> bytes | None:
        """The client's certificate in DER, if TLS verified one."""
        return self._connection.peer_cert() if self._connection is not None else None

    @property
    def peer(self) -> str:
        """The client's address, `host:port`."""
        return self._connection.peer() if self._connection is not None else ""

    @property
    def closing(self) -> bool:
        """True once the client is gone."""
        return self._connection is not None and self._connection.lost

    def upgrade(self) -> RawStream:
        """Take the connection over. The handler writes `101 Switching Protocols` (or anything else)
        itself and closes the stream; what it returns is ignored."""
        if self._connection is None:
            raise RuntimeError("a request without a connection cannot be upgraded")
        return self._connection.take_over()


class Response:
    """A whole answer. `body` may be given in pieces: they are joined once."""

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self,
        status: int = 200,
        body: bytes | Sequence[bytes] = b"",
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers


class StreamResponse:
    """An answer whose body comes over time, chunked. Give a `producer` coroutine that writes and
    returns at the end (it is cancelled when the client goes away), or `on_start`, called once the
    head is sent, and write from anywhere. `on_close` is called exactly once, whoever ended the
    stream. Writes before the start are kept."""

    __slots__ = (
        "_backlog",
        "_backlog_bytes",
        "_connection",
        "_room",
        "closed",
        "content_type",
        "headers",
        "on_close",
        "on_start",
        "producer",
        "status",
    )

    def __init__(
        self,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        *,
        producer: Callable[[StreamResponse], Awaitable[None]] | None = None,
        on_start: Callable[[StreamResponse], None] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.content_type = content_type
        self.producer = producer
        self.on_start = on_start
        self.on_close = on_close
        self.closed = False
        self._connection: Connection | None = None
        self._backlog: list[bytes] = []
        self._backlog_bytes = 0
        self._room: asyncio.Future[None] | None = None

    def bind(self, connection: Connection) -> None:
        """The head is sent: let out what was kept (the connection calls this)."""
        self._connection = connection
        if self.on_start is not None:
            self.on_start(self)
        self.flush()

    @property
    def blocked(self) -> bool:
        """The client reads slower than we write: what is written now waits in memory."""
        return self._connection is None or self._connection.write_paused

    def write_nowait(self, data: bytes) -> bool:
        """Send, or keep while the client is slow. False (nothing kept) when closed or past
        Limits.stream_bytes."""
        if self.closed:
            return False
        connection = self._connection
        if connection is not None and not connection.write_paused and not self._backlog:
            connection.write_chunk(data)
            return True
        limit = connection.limits.stream_bytes if connection is not None else 1 << 26
        if self._backlog_bytes + len(data) > limit:
            return False
        self._backlog.append(data)
        self._backlog_bytes += len(data)
        return True

    async def write(self, data: bytes) -> None:
        """Send, waiting while the client is slow. Raises ConnectionResetError when it is gone."""
        while not self.closed and self.blocked and self._connection is not None:
            if self._room is None or self._room.done():
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)
        if not self.write_nowait(data):
            raise ConnectionResetError("the client is gone")

    def flush(self) -> None:
        """The client reads again (the connection calls this)."""
        connection = self._connection
        if connection is None or self.closed:
            return
        if self._backlog and not connection.write_paused:
            data = b"".join(self._backlog)
            self._backlog.clear()
            self._backlog_bytes = 0
            connection.write_chunk(data)
        if self._room is not None and not self._room.done() and not connection.write_paused:
            self._room.set_result(None)

    def close(self) -> None:
        """End the body; the connection serves the next request."""
        if self.closed:
            return
        if self._connection is not None:
            if self._backlog:
                self._connection.write_chunk(b"".join(self._backlog))
                self._backlog.clear()
            self.mark_closed()
            self._connection.stream_ended(self)
        else:
            self.mark_closed()

    def mark_closed(self) -> None:
        """No more bytes can leave: wake whoever waits."""
        if self.closed:
            return
        self.closed = True
        self._backlog.clear()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        if self.on_close is not None:
            self.on_close()


Answer = Response | StreamResponse | None
Handler = Callable[[Request], Answer | Awaitable[Answer]]
"""A plain (non-async) Response return is the fast path. None only after Request.upgrade()."""
