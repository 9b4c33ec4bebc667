"""A transport without a network: scripted answers, remembered requests; a clock moved by hand."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson

from cluster.api.errors import StatusError
from cluster.client import Answer

Respond = Callable[[str, str, Any], tuple[int, Any]]


class FakeClock:
    def __init__(self) -> None:
        self.time = 1_767_323_045.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class FakeTransport:
    """`respond(method, path, body)` gives (status, object) or raises; `streams` are watches."""

    host = "fake"

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.requests: list[tuple[str, str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.streams: deque[list[bytes | StatusError]] = deque()
        self.stream_paths: list[str] = []
        self.hold: asyncio.Event | None = None

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        decoded = orjson.loads(body) if body else None
        self.requests.append((method, path, decoded))
        self.headers.append(headers)
        if self.hold is not None:
            await self.hold.wait()
        status, found = self.respond(method, path, decoded)
        return Answer(status, {}, found if isinstance(found, bytes) else orjson.dumps(found))

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.stream_paths.append(path)
        if not self.streams:
            await asyncio.Event().wait()  # nothing more happens
        script = self.streams.popleft()

        async def chunks() -> AsyncIterator[bytes]:
            for chunk in script:
                if isinstance(chunk, StatusError):
                    raise chunk
                yield chunk

        yield chunks()

    async def close(self) -> None:
        pass


def accept(method: str, path: str, body: Any) -> tuple[int, Any]:
    """Answer 201 to everything, each item of a batch with its own body."""
    if path.endswith("/batch"):
        return 200, [{"s": 201, "b": item.get("b", {})} for item in body]
    return 201, body or {}


def pod(name: str, version: int = 1, **labels: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "resourceVersion": str(version)}
    return {"metadata": {**meta, "labels": labels}}


def event(kind: str, obj: Any) -> bytes:
    return orjson.dumps({"type": kind, "object": obj}) + b"\n"


async def turns(count: int = 10) -> None:
    """Let the loop run what is ready."""
    for _ in range(count):
        await asyncio.sleep(0)
