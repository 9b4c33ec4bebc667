"""One client connection: bytes in, requests to the handler, answers out in order.

A plain `asyncio.Protocol` with llhttp callbacks: streams and coroutines cost more than the request
itself. States of a connection: reading a head, reading a body, answering (one request at a time;
pipelined ones wait), streaming, taken over.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from http import HTTPStatus
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

import httptools

from cluster.httpserver.messages import Answer, Request, Response, StreamResponse
from cluster.httpserver.raw import RawStream

if TYPE_CHECKING:
    from cluster.httpserver.server import HttpServer

log = logging.getLogger(__name__)

_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_NAMES: dict[bytes, str] = {}
_NAMES_LIMIT = 2_000
_JOIN_BYTES = 64 * 1024
LINGER_SECONDS = 0.5
"""After a refusal the rest of the request is read and dropped this long: closing a socket with
unread bytes resets it, and the client would never see the answer."""


def _header_name(raw: bytes) -> str:
    name = _NAMES.get(raw)
    if name is None:
        name = raw.decode("latin-1").lower()
        if len(_NAMES) < _NAMES_LIMIT:
            _NAMES[raw] = name
    return name


class Connection(asyncio.Protocol):
    """See the module. Everything here runs on the event loop's thread."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self.limits = server.limits
        self._handler = server.handler
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._peer_cert: bytes | bool | None = False
        self.lost = False
        self.write_paused = False
        self._reading_paused = False
        # The request being read.
        self._url = b""
        self._headers: dict[str, str] = {}
        self._repeated: dict[str, list[str]] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._in_head = True
        self.read_since = (
            server.now
        )  # when the head (or body) being read began; idle since, if nothing came
        self._begun = False
        self._refused: Response | None = None
        self._lingering = False
        # The requests being answered.
        self._waiting: deque[Request] = deque()
        self._answering = False
        self._method = ""
        self._keep_alive = True
        self._task: asyncio.Task[Any] | None = None
        self._stream: StreamResponse | None = None
        self._raw: RawStream | None = None
        self._held = b""

    # -- asyncio.Protocol ----------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._server.admit(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._raw is not None:
            self._raw.feed(data)
            return
        if self._refused is not None or self.lost:
            return
        if self._held:
            self._hold(data)
            return
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._raw is not None:
                self._raw.feed(rest)
            else:
                # An upgrade that the handler has not taken (yet): the rest waits for its answer.
                self._parser = httptools.HttpRequestParser(self)
                self._held = rest
                if not self._answering:
                    self._next()
            return
        except httptools.HttpParserError:
            if self._refused is None:
                self._refuse(400, "400 Bad Request")
            return
        if self._in_head and self._head_bytes > self.limits.header_bytes + self.limits.url_bytes:
            self._refuse(431, "431 Request Header Fields Too Large")
        if len(self._waiting) > self.limits.pipelined:
            self.pause_reading()

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > _JOIN_BYTES:
            self.pause_reading()

    def eof_received(self) -> bool:
        if self._raw is not None:
            self._raw.feed_eof()
        # A client that only closes its writing side still gets its answer; nothing in flight:
        # close.
        return self._answering and self._stream is None

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._server.forget(self)
        if self._raw is not None:
            self._raw.feed_eof()
        if self._stream is not None:
            self._stream.mark_closed()
        if self._task is not None and (self._stream is not None or self._raw is not None):
            self._task.cancel()
        self._waiting.clear()
        self._transport = None

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._stream is not None:
            self._stream.flush()
        if self._raw is not None:
            self._raw.flush()

    # -- llhttp ----------

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._repeated = {}
        self._body = []
        self._body_bytes = 0
        self._in_head = True
        self._begun = True
        self.read_since = self._server.now

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url
        if len(self._url) > self.limits.url_bytes and self._refused is None:
            self._refuse(414, "414 URI Too Long")

    def on_header(self, name: bytes, value: bytes) -> None:
        key = _header_name(name)
        text = value.decode("latin-1")
        if key in self._headers:
            self._repeated.setdefault(key, [self._headers[key]]).append(text)
            text = f"{self._headers[key]}, {text}"
        self._headers[key] = text

    def on_headers_complete(self) -> None:
        self._in_head = False
        self.read_since = self._server.now
        if self._refused is not None:
            return
        headers = self._headers
        size = sum(map(len, headers)) + sum(map(len, headers.values()))
        self._head_bytes = 0
        if size > self.limits.header_bytes:
            self._refuse(431, "431 Request Header Fields Too Large")
            return
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self.limits.body_bytes:
            self._refuse_body()
            return
        if (
            "expect" in headers
            and headers["expect"].lower() == "100-continue"
            and not self._answering
        ):
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._refused is not None:
            return
        if self._body_bytes > self.limits.body_bytes:
            self._refuse_body()
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._begun = False
        self._head_bytes = 0
        self.read_since = self._server.now
        if self._refused is not None:
            return
        try:
            target = self._url.decode("ascii")
        except UnicodeDecodeError:
            target = self._url.decode("utf-8", "replace")
        body = self._body
        request = Request(
            self._parser.get_method().decode("ascii"),
            target,
            self._headers,
            (body[0] if len(body) == 1 else b"".join(body)) if body else b"",
            self,
        )
        request.received = self._server.now
        if self._repeated:
            request.repeated = self._repeated
        request.wants_upgrade = self._parser.should_upgrade()
        if not self._parser.should_keep_alive() and not request.wants_upgrade:
            request.headers["connection"] = "close"
        if self._answering:
            self._waiting.append(request)
        else:
            self._answer(request)

    # -- answers ----------

    def _answer(self, request: Request) -> None:
        self._answering = True
        self._method = request.method
        self._keep_alive = (
            request.headers.get("connection") != "close" and not self._server.draining
        )
        try:
            result = self._handler(request)
        except Exception:
            log.exception("handler failed for %s %s", request.method, request.raw_path)
            result = Response(500, b"internal server error", "text/plain")
        if type(result) is Response:
            self._finish(result)
        elif result is None or isinstance(result, StreamResponse):
            self._settle(result)
        else:
            # Most are coroutines; ensure_future's inspection costs more than the task itself.
            if type(result) is CoroutineType:
                self._task = self._server.loop.create_task(result)
            else:
                self._task = asyncio.ensure_future(cast(Awaitable[Answer], result))
            self._task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[Answer]) -> None:
        self._task = None
        if task.cancelled():
            self.abort()
            return
        error = task.exception()
        if error is not None:
            log.error("handler failed", exc_info=error)
            if self._raw is not None:
                self.close()
                return
            self._settle(Response(500, b"internal server error", "text/plain"))
            return
        self._settle(task.result())

    def _settle(self, result: Answer) -> None:
        if self.lost:
            if isinstance(result, StreamResponse):
                result.mark_closed()
            return
        if self._raw is not None or result is None:
            if self._raw is None:
                log.error("a handler returned nothing and took no upgrade")
                self.abort()
            return
        if isinstance(result, StreamResponse):
            self._start_stream(result)
        else:
            self._finish(result)

    def _finish(self, response: Response) -> None:
        body = response.body
        if not isinstance(body, bytes):
            body = b"".join(body)
        status = response.status
        head = [_STATUS_LINES.get(status) or f"HTTP/1.1 {status} Unknown\r\n".encode()]
        lines = [f"Content-Type: {response.content_type}\r\nContent-Length: {len(body)}\r\n"]
        if response.headers:
            lines.extend(f"{k}: {v}\r\n" for k, v in response.headers.items())
        lines.append(self._server.date_line)
        lines.append("\r\n" if self._keep_alive else "Connection: close\r\n\r\n")
        head.append("".join(lines).encode("latin-1", "replace"))
        if self._method == "HEAD":
            body = b""
        if len(body) < _JOIN_BYTES:
            head.append(body)
            self._write(b"".join(head))
        else:
            self._write(b"".join(head))
            self._write(body)
        self._answered_one()

    def _answered_one(self) -> None:
        self._answering = False
        self._stream = None
        if self._lingering:
            return
        if not self._keep_alive:
            self.close()
            return
        if self._refused is not None and not self._waiting:
            self._finish_refused()
            return
        if self._waiting or self._held:
            # Not recursively: a thousand pipelined requests must not be a thousand frames deep.
            asyncio.get_running_loop().call_soon(self._next)
        elif self._reading_paused:
            self.resume_reading()

    def _next(self) -> None:
        if self._answering or self.lost or self._raw is not None:
            return
        if self._waiting:
            self._answer(self._waiting.popleft())
        elif self._held:
            held, self._held = self._held, b""
            self.resume_reading()
            self._feed(held)
        if self._reading_paused and len(self._waiting) < self.limits.pipelined // 2:
            self.resume_reading()

    # -- streams ----------

    def _start_stream(self, stream: StreamResponse) -> None:
        head = [_STATUS_LINES[stream.status].decode(), f"Content-Type: {stream.content_type}\r\n"]
        if stream.headers:
            head.extend(f"{k}: {v}\r\n" for k, v in stream.headers.items())
        head.append("Transfer-Encoding: chunked\r\n")
        head.append(self._server.date_line)
        head.append("\r\n" if self._keep_alive else "Connection: close\r\n\r\n")
        self._write("".join(head).encode("latin-1", "replace"))
        self._stream = stream
        if stream.closed:
            self.stream_ended(stream)
            return
        stream.bind(self)
        if stream.producer is not None and not stream.closed:
            self._task = asyncio.ensure_future(self._produce(stream))

    async def _produce(self, stream: StreamResponse) -> None:
        assert stream.producer is not None
        try:
            await stream.producer(stream)
        except ConnectionError:
            pass
        except asyncio.CancelledError:
            if not self.lost:
                raise
        except Exception:
            log.exception("a stream's producer failed")
            self.abort()
        finally:
            stream.close()

    def write_chunk(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def stream_ended(self, stream: StreamResponse) -> None:
        if self.lost or self._stream is not stream:
            return
        self._write(b"0\r\n\r\n")
        self._answered_one()

    def take_over(self) -> RawStream:
        if self._raw is None:
            held, self._held = self._held, b""
            self._raw = RawStream(self, held)
            self._answering = True
            self.resume_reading()
        return self._raw

    def write_raw(self, data: bytes) -> None:
        self._write(data)

    # -- refusals and the end ----------

    def _refuse_body(self) -> None:
        self._refuse(413, f"http: request body too large: limit is {self.limits.body_bytes}")

    def _refuse(self, status: int, text: str) -> None:
        """Answer what cannot be read, after what is being answered, and close."""
        self._refused = self._server.refusal(status, text)
        self.read_since = self._server.now
        if not self._answering:
            self._finish_refused()

    def _finish_refused(self) -> None:
        refused = self._refused
        assert refused is not None
        self._keep_alive = False
        self._method = ""
        self._lingering = True
        self._finish(refused)
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self.close)

    def overdue(self, now: float) -> None:
        """The server's sweep: end a connection that reads too slowly or idles too long."""
        if self._answering or self._raw is not None or self._refused is not None:
            return
        waited = now - self.read_since
        limits = self.limits
        if not self._begun:
            if waited > limits.idle_seconds:
                self.close()
        elif waited > (limits.header_seconds if self._in_head else limits.body_seconds):
            self._refuse(408, "408 Request Timeout")

    def drain(self) -> None:
        """The server stops: close now if idle, after the answer otherwise."""
        self._keep_alive = False
        if not self._answering:
            self.close()

    @property
    def idle(self) -> bool:
        return not self._answering

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        if self._transport is not None and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    def peer_cert(self) -> bytes | None:
        if self._peer_cert is False:
            tls = self._transport.get_extra_info("ssl_object") if self._transport else None
            self._peer_cert = tls.getpeercert(True) if tls is not None else None
        return cast("bytes | None", self._peer_cert)

    def peer(self) -> str:
        name = self._transport.get_extra_info("peername") if self._transport else None
        return f"{name[0]}:{name[1]}" if name else ""
