"""The listening server: connections, their sweep, and the graceful stop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from email.utils import formatdate

from cluster.httpserver.connection import Connection
from cluster.httpserver.messages import Handler, Limits, Response

SWEEP_SECONDS = 1.0
Refusal = Callable[[int, str], Response]


def plain_refusal(status: int, text: str) -> Response:
    """As Go's net/http answers."""
    return Response(status, text.encode(), "text/plain; charset=utf-8")


class HttpServer:
    """Serves `handler` on one or more sockets of the running loop."""

    def __init__(
        self,
        handler: Handler,
        *,
        ssl_context: ssl.SSLContext | None = None,
        limits: Limits | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        """`refusal` words the answer to a request that cannot be read (400, 408, 413, 414, 431)."""
        self.handler = handler
        self.refusal = refusal or plain_refusal
        self.limits = limits or Limits()
        self.draining = False
        self.now = 0.0
        self.date_line = ""
        self._ssl = ssl_context
        self._connections: set[Connection] = set()
        self._listeners: list[asyncio.Server] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._empty: asyncio.Event = asyncio.Event()
        self.port = 0
        self.loop: asyncio.AbstractEventLoop

    async def start(
        self, *, sock: socket.socket | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        """Listen, on `sock` or on host:port (0 picks one, see `port`). May be called for several
        sockets."""
        loop = self.loop = asyncio.get_running_loop()
        self.draining = False
        if self._sweep is None:
            self._tick()
        handshake = 10.0 if self._ssl is not None else None
        if sock is not None:
            listener = await loop.create_server(
                lambda: Connection(self),
                sock=sock,
                ssl=self._ssl,
                backlog=4096,
                ssl_handshake_timeout=handshake,
            )
        else:
            listener = await loop.create_server(
                lambda: Connection(self),
                host,
                port,
                ssl=self._ssl,
                backlog=4096,
                ssl_handshake_timeout=handshake,
                reuse_address=True,
            )
        self._listeners.append(listener)
        self.port = listener.sockets[0].getsockname()[1]

    async def stop(self, grace: float = 5.0) -> None:
        """Take no new connection, let answers finish for `grace` seconds, then cut."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self._connections):
            connection.drain()
        if self._connections and grace > 0:
            self._empty.clear()
            try:
                async with asyncio.timeout(grace):
                    while self._connections:
                        self._empty.clear()
                        await self._empty.wait()
            except TimeoutError:
                pass
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)
        for listener in self._listeners:
            await listener.wait_closed()
        self._listeners.clear()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    @property
    def connections(self) -> int:
        return len(self._connections)

    def admit(self, connection: Connection) -> bool:
        """Count a new connection in; False: there are too many."""
        if len(self._connections) >= self.limits.connections or self.draining:
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def _tick(self) -> None:
        """Once a second: the Date header, and an end for whoever is too slow. One timer for all
        connections: a timer a request would cost more than the request's parsing."""
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        self.date_line = f"Date: {formatdate(usegmt=True)}\r\n"
        for connection in list(self._connections):
            connection.overdue(self.now)
        self._sweep = loop.call_later(SWEEP_SECONDS, self._tick)
