"""The sockets of every emulated server, served from one event loop.

A listening socket costs one entry in one epoll set that the loop watches as a single descriptor: no
task, no handle, no buffer until somebody connects. Accepted connections become ordinary asyncio
transports. Limits: ACCEPTS_A_TURN a socket and turn; HTTP heads of 64 KiB and bodies of 8 MiB, then
the connection is closed.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cluster.runtime import answers
from cluster.runtime.answers import HttpAnswer, HttpHandler, HttpRequest, Identity

ACCEPTS_A_TURN = 64
HEAD_BYTES = 64 * 1024
BODY_BYTES = 8 * 1024 * 1024
Speech = Literal["http", "redis", "echo", "udp-echo", "udp-netexec", "auto"]


@dataclass(slots=True)
class Endpoint:
    """One port of one container: how it speaks and who answers. `observed` is told of each HTTP
    exchange."""

    port: int
    kind: socket.SocketKind
    speech: Speech
    who: Identity
    http: HttpHandler = answers.generic
    server: str = "kubestage"
    observed: Callable[[HttpRequest, HttpAnswer], None] | None = None

    def answer(self, request: HttpRequest) -> HttpAnswer:
        result = self.http(self.who, request)
        if self.observed is not None:
            self.observed(request, result)
        return result


class PortServer:
    """Listens on any number of sockets for one loop."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._sockets: dict[int, tuple[socket.socket, Endpoint]] = {}
        self._connections: dict[Endpoint_, set[asyncio.BaseTransport]] = {}
        self._accepting: set[asyncio.Task[None]] = set()

    def open(self, sock: socket.socket, endpoint: Endpoint) -> None:
        """Serve `endpoint` on a bound, non-blocking socket, which is ours from here on."""
        if self._epoll is None:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._ready)
        fd = sock.fileno()
        self._sockets[fd] = (sock, endpoint)
        self._epoll.register(fd, select.EPOLLIN)

    def close(self, sock: socket.socket) -> None:
        """Stop listening and cut the connections of that port."""
        fd = sock.fileno()
        held = self._sockets.pop(fd, None)
        if held is None:
            return
        assert self._epoll is not None
        self._epoll.unregister(fd)
        sock.close()
        for transport in self._connections.pop(id(held[1]), ()):
            transport.abort() if isinstance(transport, asyncio.Transport) else transport.close()

    def shut_down(self) -> None:
        for sock, _ in list(self._sockets.values()):
            self.close(sock)
        for task in self._accepting:
            task.cancel()
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def __len__(self) -> int:
        return len(self._sockets)

    def _ready(self) -> None:
        assert self._epoll is not None
        for fd, _ in self._epoll.poll(0, 256):
            held = self._sockets.get(fd)
            if held is None:
                continue
            sock, endpoint = held
            if endpoint.kind == socket.SOCK_DGRAM:
                self._receive(sock, endpoint)
            else:
                self._accept(sock, endpoint)

    def _receive(self, sock: socket.socket, endpoint: Endpoint) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                data, peer = sock.recvfrom(65535)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue
            answer = data
            if endpoint.speech == "udp-netexec":
                answer = answers.netexec_udp(endpoint.who, data, f"{peer[0]}:{peer[1]}")
            try:
                sock.sendto(answer, peer)
            except OSError:
                continue

    def _accept(self, sock: socket.socket, endpoint: Endpoint) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPTS_A_TURN):
            try:
                connection, _peer = sock.accept()
            except OSError:
                return
            connection.setblocking(False)
            task = loop.create_task(self._connect(loop, connection, endpoint))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    async def _connect(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, endpoint: Endpoint
    ) -> None:
        try:
            await loop.connect_accepted_socket(lambda: Speaker(endpoint, self), sock)
        except OSError:
            sock.close()

    async def join(self, sock: socket.socket, endpoint: Endpoint) -> None:
        """Let an endpoint answer on a connection that is there already."""
        await self._connect(asyncio.get_running_loop(), sock, endpoint)

    def track(self, endpoint: Endpoint, transport: asyncio.BaseTransport) -> None:
        self._connections.setdefault(id(endpoint), set()).add(transport)

    def untrack(self, endpoint: Endpoint, transport: asyncio.BaseTransport) -> None:
        held = self._connections.get(id(endpoint))
        if held is not None:
            held.discard(transport)
            if not held:
                del self._connections[id(endpoint)]


Endpoint_ = int
"""id() of an Endpoint: endpoints are mutable and compare by value."""


class Speaker(asyncio.Protocol):
    """One accepted connection of any emulated TCP server."""

    __slots__ = ("_buffer", "_endpoint", "_server", "_speech", "_transport")

    def __init__(self, endpoint: Endpoint, server: PortServer) -> None:
        self._endpoint = endpoint
        self._server = server
        self._speech: Speech = endpoint.speech
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        self._server.track(self._endpoint, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._server.untrack(self._endpoint, self._transport)
            self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._speech == "auto":
            first = data.split(b" ", 1)[0]
            self._speech = "http" if first in _METHODS else "echo"
        if self._speech == "echo":
            self._write(data)
            return
        self._buffer += data
        while self._transport is not None and self._buffer:
            taken = self._http() if self._speech == "http" else self._redis()
            if taken == 0:
                if len(self._buffer) > HEAD_BYTES + BODY_BYTES:
                    self._transport.abort()
                return
            self._buffer = self._buffer[taken:]

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _http(self) -> int:
        """Answer one request of the buffer; its length, 0 when it is not whole."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return 0
        head = self._buffer[:end].decode("latin-1").split("\r\n")
        words = head[0].split(" ")
        if len(words) != 3:
            self._write(
                answers.encode(
                    HttpAnswer(400, b"400 Bad Request"), self._endpoint.server, close=True
                )
            )
            self._close()
            return len(self._buffer)
        headers = {}
        for line in head[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        body_end = self._body_end(headers, end + 4)
        if body_end == 0:
            return 0
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        request = HttpRequest(
            words[0],
            words[1],
            headers,
            self._buffer[end + 4 : body_end],
            f"{peer[0]}:{peer[1]}" if peer else "",
        )
        close = headers.get("connection", "").lower() == "close" or words[2] == "HTTP/1.0"
        answer = self._endpoint.answer(request)
        self._write(
            answers.encode(answer, self._endpoint.server, head=words[0] == "HEAD", close=close)
        )
        if close:
            self._close()
        return body_end

    def _body_end(self, headers: dict[str, str], start: int) -> int:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            last = self._buffer.find(b"0\r\n\r\n", start)
            return last + 5 if last >= 0 else 0
        length = headers.get("content-length", "0")
        end = start + (int(length) if length.isdigit() else 0)
        return end if len(self._buffer) >= end else 0

    def _redis(self) -> int:
        parsed = parse_resp(self._buffer)
        if parsed is None:
            return 0
        words, taken = parsed
        if words:
            self._write(answers.redis(self._endpoint.who, words))
            if words[0].upper() == b"QUIT":
                self._close()
        return taken

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def parse_resp(data: bytes) -> tuple[list[bytes], int] | None:
    """One redis command (an array of bulk strings, or an inline line) and its length; None when not
    whole."""
    line_end = data.find(b"\r\n")
    if not data.startswith(b"*"):
        newline = data.find(b"\n")
        return (data[:newline].split(), newline + 1) if newline >= 0 else None
    if line_end < 0:
        return None
    try:
        count, at, words = int(data[1:line_end]), line_end + 2, []
        for _ in range(count):
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                return None
            length = int(data[at + 1 : line_end])
            at = line_end + 2
            if len(data) < at + length + 2:
                return None
            words.append(data[at : at + length])
            at += length + 2
    except ValueError:
        return [b""], len(data)
    return words, at


_METHODS = {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"}
