"""How a request reaches an API server: one interface, and HTTPS over aiohttp behind it.

Plays k8s.io/client-go/transport. Every failure that is the network's own (refused, reset, timed
out) leaves here as `Unreachable`, a kind of ServiceUnavailable, so that callers know one tree of
errors only.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple, Protocol

import aiohttp
import orjson
from yarl import URL

from cluster.api.errors import ServiceUnavailable, StatusError, from_status

SILENCE_SECONDS = 150.0
"""A stream without a byte (a bookmark comes each minute) for this long is dead: `Unreachable`."""
REQUEST_SECONDS = 60.0
"""A request that is not a stream ends after this long with `Unreachable`."""


class Unreachable(ServiceUnavailable):
    """No answer. `refused`: the request never reached a server, so repeating it is always safe."""

    def __init__(self, message: str, *, refused: bool) -> None:
        super().__init__(message)
        self.refused = refused


class Answer(NamedTuple):
    """Status, lower-case headers and body of one response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """One way to one API server."""

    @property
    def host(self) -> str:
        """Who is asked, for metrics and messages."""

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        """One request, whole answer. `path` is already escaped and may have a query. Raises
        Unreachable."""

    def stream(
        self, method: str, path: str, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The body as it arrives. Raises StatusError for a status of 400 and more, Unreachable
        while reading."""

    async def close(self) -> None:
        """Idempotent."""


class HttpTransport:
    """HTTP/1.1 with a pool of connections. Made anywhere; the pool opens inside the running loop
    at first use."""

    def __init__(
        self, server_url: str, ssl_context: ssl.SSLContext | None = None, *, pool_size: int = 100
    ) -> None:
        self._base = server_url.rstrip("/")
        self._ssl = ssl_context
        self._pool_size = pool_size
        self._session: aiohttp.ClientSession | None = None

    @property
    def host(self) -> str:
        return self._base.partition("://")[2]

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        try:
            async with self._open().request(
                method, self._url(path), headers=headers, data=body, timeout=timeout
            ) as response:
                raw = await response.read()
                found = {k.lower(): v for k, v in response.headers.items()}
                return Answer(response.status, found, raw)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unreachable(self.host, error) from error

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_SECONDS)
        try:
            async with self._open().request(
                method, self._url(path), headers=headers, timeout=timeout, read_bufsize=2**20
            ) as response:
                if response.status >= 400:
                    raise error_of(response.status, await response.read())
                yield response.content.iter_any()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unreachable(self.host, error) from error

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
            await asyncio.sleep(0)  # aiohttp closes TLS transports one turn later

    def _url(self, path: str) -> URL:
        return URL(self._base + path, encoded=True)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(
                limit=self._pool_size, ssl=True if self._ssl is None else self._ssl,
                keepalive_timeout=30,
            )  # fmt: skip
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
            )
        return self._session


def error_of(status: int, body: bytes) -> StatusError:
    """The exception for an answer of 400 and more."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or found.get("kind") != "Status":
        text = body[:500].decode(errors="replace").strip()
        return from_status(status, None, text)
    return from_status(status, found)


def _unreachable(host: str, error: BaseException) -> Unreachable:
    refused = isinstance(error, aiohttp.ClientConnectorError)
    what = str(error) or type(error).__name__
    return Unreachable(f"{host}: {what}", refused=refused)
