"""A running API server and a small client for its tests."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from cluster.api.meta import SystemClock
from cluster.apiserver import ApiServer, ApiServerConfig
from cluster.etcd.sqlite import SqliteStore
from cluster.metrics.apiserver import ApiServerMetrics
from cluster.metrics.etcd import StoreMetrics

ADMIN = "admin-token"
NOBODY = "nobody-token"
_TOKENS = f'{ADMIN},admin,u1,"system:masters"\n{NOBODY},nobody,u2\n'


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])


class Api:
    """Requests to one server; the default identity is an administrator."""

    def __init__(self, server: ApiServer, store: SqliteStore) -> None:
        self.server = server
        self.store = store

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str = ADMIN,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        data = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        reader, writer = await self.connect()
        try:
            writer.write(
                head(method, path, data, token=token, content_type=content_type, headers=headers)
            )
            return await read_answer(reader, method)
        finally:
            writer.close()
            await writer.wait_closed()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.server.port, limit=1 << 26)

    async def ok(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        answer = await self(method, path, body, **more)
        assert answer.status < 300, (method, path, answer.status, answer.body)
        return answer.json

    async def namespace(self) -> str:
        """A fresh namespace with a default service account; its URL prefix."""
        name = f"t-{uuid.uuid4().hex[:8]}"
        await self.ok("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        prefix = f"/api/v1/namespaces/{name}"
        await self.ok("POST", f"{prefix}/serviceaccounts", {"metadata": {"name": "default"}})
        return prefix

    @asynccontextmanager
    async def watch(self, path: str, **more: Any) -> AsyncIterator[Events]:
        reader, writer = await self.connect()
        try:
            writer.write(head("GET", path, b"", token=ADMIN, **more))
            status, _ = await read_head(reader)
            assert status == 200, await reader.read(2000)
            yield Events(reader)
        finally:
            writer.close()
            await writer.wait_closed()


class Events:
    """The events of one watch."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._lines: list[bytes] = []
        self._rest = b""

    async def next(self, timeout: float = 5.0) -> Any:
        async with asyncio.timeout(timeout):
            while not self._lines:
                chunk = await read_chunk(self._reader)
                if chunk is None:
                    return None
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                self._lines.extend(lines)
        return orjson.loads(self._lines.pop(0))

    async def take(self, count: int) -> list[Any]:
        return [await self.next() for _ in range(count)]


def head(
    method: str,
    path: str,
    data: bytes,
    *,
    token: str = ADMIN,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "User-Agent: test/1", "Connection: close"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if data:
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(data)}"]
    lines += [f"{k}: {v}" for k, v in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + data


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    raw = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode("latin-1")
    first, *rest = raw.strip().split("\r\n")
    headers = {}
    for line in rest:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return int(first.split(" ")[1]), headers


async def read_answer(reader: asyncio.StreamReader, method: str = "GET") -> Answer:
    status, headers = await read_head(reader)
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while (chunk := await read_chunk(reader)) is not None:
            body += chunk
    else:
        length = 0 if method == "HEAD" else int(headers["content-length"])
        body = await asyncio.wait_for(reader.readexactly(length), 10)
    return Answer(status, headers, body)


async def read_chunk(reader: asyncio.StreamReader) -> bytes | None:
    size = int(await reader.readline() or b"0", 16)
    if size == 0:
        return None
    data = await reader.readexactly(size)
    await reader.readexactly(2)
    return data


@asynccontextmanager
async def running(directory: Path, **config: Any) -> AsyncIterator[Api]:
    """A server over `directory`, stopped at the end."""
    tokens = directory / "tokens.csv"
    tokens.write_text(_TOKENS)
    clock, registry = SystemClock(), CollectorRegistry()
    store = await SqliteStore.open(directory / "store.db", clock, StoreMetrics(registry))
    settings = ApiServerConfig(token_file=str(tokens), node_token_key=b"k" * 32, **config)
    server = ApiServer(
        settings,
        store,
        clock,
        random.Random(7),
        lambda: str(uuid.uuid4()),
        ApiServerMetrics(registry, "1.37"),
    )
    await server.start()
    try:
        yield Api(server, store)
    finally:
        await server.stop(0.2)
        await store.close()
