"""The real transport over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cluster.api.errors import Forbidden
from cluster.client import HttpTransport, Unreachable

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-One: 1\r\n\r\n{}"
REFUSAL = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 77\r\n\r\n"
    b'{"kind":"Status","code":403,"reason":"Forbidden","message":"no, you may not"}'
)


@asynccontextmanager
async def server(*replies: bytes) -> AsyncIterator[str]:
    """Answers each connection with the replies, one a request, then closes it."""
    handlers = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        for reply in replies:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply)
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


def test_a_request_gets_status_headers_and_body() -> None:
    async def go() -> None:
        async with server(ANSWER, ANSWER) as url:
            transport = HttpTransport(url)
            for _ in range(2):
                answer = await transport.request("GET", "/x?y=%2F", {}, None)
                assert (answer.status, answer.body, answer.headers["x-one"]) == (200, b"{}", "1")
            await transport.close()

    asyncio.run(go())


def test_a_port_where_nobody_listens_is_refused_and_a_dropped_connection_is_not() -> None:
    async def go() -> None:
        async with server() as url:
            transport = HttpTransport(url)
            with pytest.raises(Unreachable) as dropped:
                await transport.request("POST", "/", {}, b"{}")
            assert not dropped.value.refused
        with pytest.raises(Unreachable) as refused:
            await transport.request("POST", "/", {}, b"{}")
        assert refused.value.refused
        await transport.close()

    asyncio.run(go())


def test_a_stream_gives_chunks_as_they_come_and_raises_the_servers_own_error() -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )

    async def go() -> None:
        async with server(chunked) as url:
            transport = HttpTransport(url)
            async with transport.stream("GET", "/", {}) as chunks:
                assert b"".join([chunk async for chunk in chunks]) == b"abcde"
            await transport.close()
        async with server(REFUSAL) as url:
            transport = HttpTransport(url)
            with pytest.raises(Forbidden, match="no, you may not"):
                async with transport.stream("GET", "/", {}):
                    pass
            await transport.close()

    asyncio.run(go())


def test_a_stream_that_breaks_off_is_unreachable() -> None:
    cut = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n9\r\nd"

    async def go() -> None:
        async with server(cut) as url:
            transport = HttpTransport(url)
            with pytest.raises(Unreachable):
                async with transport.stream("GET", "/", {}) as chunks:
                    async for _ in chunks:
                        pass
            await transport.close()

    asyncio.run(go())
