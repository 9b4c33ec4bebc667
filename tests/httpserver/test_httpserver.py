"""The HTTP server over real sockets: order, limits, streams, takeovers, the end."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from cluster.httpserver import (
    HttpServer,
    Limits,
    Request,
    Response,
    StreamResponse,
    server_context,
)

SMALL = Limits(body_bytes=1000, header_bytes=2000, url_bytes=500)


def echo(request: Request) -> Any:
    if request.path == "/slow":
        return slow(request)
    if request.path == "/stream":
        return StreamResponse(producer=three)
    if request.path == "/upgrade":
        return upgrade(request)
    if request.path == "/broken":
        raise RuntimeError("a handler's bug")
    return Response(200, [request.method.encode(), b" ", request.path.encode(), b" ", request.body])


async def slow(request: Request) -> Response:
    await asyncio.sleep(0.01)
    return Response(200, b"slow")


async def three(stream: StreamResponse) -> None:
    for i in range(3):
        await stream.write(b"%d;" % i)


async def upgrade(request: Request) -> None:
    raw = request.upgrade()
    raw.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    while data := await raw.read():
        raw.write(data.upper())
        await raw.drain()
    raw.close()


@asynccontextmanager
async def serving(
    handler: Callable[[Request], Any] = echo, **more: Any
) -> AsyncIterator[HttpServer]:
    server = HttpServer(handler, **more)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0.1)


async def talk(server: HttpServer, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    return answer


def run(steps: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(steps(), 30))


CLOSE = b"Connection: close\r\n\r\n"


def test_pipelined_requests_are_answered_in_order() -> None:
    async def steps() -> None:
        async with serving() as server:
            answer = await talk(
                server,
                b"GET /a HTTP/1.1\r\n\r\nGET /slow HTTP/1.1\r\n\r\nGET /stream HTTP/1.1\r\n\r\n"
                b"POST /b%20c?x=1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
                + CLOSE
                + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            )
            places = [
                answer.index(part) for part in (b"GET /a", b"slow", b"0;", b"POST /b c abcde")
            ]
            assert places == sorted(places)

    run(steps)


def test_a_thousand_pipelined_requests_are_answered() -> None:
    async def steps() -> None:
        async with serving() as server:
            data = b"GET /a HTTP/1.1\r\n\r\n" * 999 + b"GET /slow HTTP/1.1\r\n" + CLOSE
            answer = await talk(server, data)
            assert answer.count(b"HTTP/1.1 200 OK") == 1000

    run(steps)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5000\r\n\r\nabc", 413),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"400\r\n"
            + b"x" * 1024
            + b"\r\n",
            413,
        ),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 3000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 400_000, 431),
        (b"GET /" + b"x" * 600 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /broken HTTP/1.1\r\n" + CLOSE, 500),
    ],
)
def test_what_is_too_much_or_wrong_gets_a_clear_answer(data: bytes, status: int) -> None:
    async def steps() -> None:
        async with serving(limits=SMALL) as server:
            answer = await talk(server, data)
            assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]

    run(steps)


def test_slow_clients_are_told_and_idle_ones_closed() -> None:
    async def steps() -> None:
        limits = Limits(header_seconds=0.0, body_seconds=0.0, idle_seconds=0.0)
        async with serving(limits=limits) as server:
            for data, wanted in (
                (b"GET / HTTP/1.1\r\nA", b"HTTP/1.1 408 "),
                (b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", b"HTTP/1.1 408 "),
                (b"", b""),
            ):
                assert (await talk(server, data)).startswith(wanted)

    run(steps)


def test_an_upgrade_hands_over_every_byte() -> None:
    async def steps() -> None:
        async with serving() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /upgrade HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nearly")
            assert (
                await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
            )
            assert await reader.readexactly(5) == b"EARLY"
            writer.write(b"later" * 100_000)
            assert await reader.readexactly(500_000) == b"LATER" * 100_000
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()

    run(steps)


def test_an_upgrade_nobody_takes_is_an_ordinary_request() -> None:
    async def steps() -> None:
        async with serving() as server:
            answer = await talk(
                server,
                b"GET /slow HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
                b"GET /after HTTP/1.1\r\n" + CLOSE,
            )
            assert answer.index(b"slow") < answer.index(b"GET /after")

    run(steps)


def test_a_stream_waits_for_a_slow_reader_and_is_bounded() -> None:
    async def steps() -> None:
        streams: list[StreamResponse] = []
        written: list[bool] = []

        def handler(request: Request) -> StreamResponse:
            def start(stream: StreamResponse) -> None:
                for _ in range(100):
                    written.append(stream.write_nowait(b"x" * 1_000_000))

            streams.append(StreamResponse(on_start=start))
            return streams[0]

        async with serving(handler, limits=Limits(stream_bytes=8_000_000)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            assert written[0] and not written[-1]
            kept = sum(written)
            streams[0].close()
            data, total = b"", 0
            while not data.endswith(b"0\r\n\r\n"):
                data = await asyncio.wait_for(reader.read(1 << 20), 5)
                total += len(data)
            assert total > kept * 1_000_000
            writer.close()

    run(steps)


def test_a_producer_ends_when_its_client_leaves() -> None:
    async def steps() -> None:
        ended = asyncio.Event()

        async def forever(stream: StreamResponse) -> None:
            try:
                while True:
                    await stream.write(b"tick")
                    await asyncio.sleep(0.001)
            finally:
                ended.set()

        async with serving(lambda r: StreamResponse(producer=forever)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await reader.readuntil(b"tick")
            writer.transport.abort()
            await asyncio.wait_for(ended.wait(), 5)

    run(steps)


def test_stop_finishes_what_is_under_way() -> None:
    async def steps() -> None:
        begun = asyncio.Event()

        async def answer() -> Response:
            begun.set()
            await asyncio.sleep(0.05)
            return Response(200, b"done")

        def handler(request: Request) -> Awaitable[Response]:
            return answer()

        server = HttpServer(handler)
        await server.start()
        talking = asyncio.create_task(talk(server, b"GET / HTTP/1.1\r\n\r\n"))
        await begun.wait()
        await server.stop(5)
        answer_bytes = await talking
        assert b"done" in answer_bytes and b"Connection: close" in answer_bytes
        assert server.connections == 0

    run(steps)


def test_garbage_on_a_tls_port_is_quiet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from cluster.api.meta import SystemClock
    from cluster.apiserver.certificates import CertificateAuthority

    ca = CertificateAuthority.create("test", SystemClock())
    cert, key = ca.issue("localhost", server=True, dns=("localhost",), ips=("127.0.0.1",))
    (tmp_path / "c.crt").write_bytes(cert)
    (tmp_path / "c.key").write_bytes(key)
    (tmp_path / "ca.crt").write_bytes(ca.cert_pem)
    context = server_context(tmp_path / "c.crt", tmp_path / "c.key", tmp_path / "ca.crt")

    async def steps() -> None:
        with caplog.at_level(logging.DEBUG):
            async with serving(ssl_context=context) as server:
                for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x00" * 50):
                    await talk(server, data)
                client = ssl.create_default_context(cadata=ca.cert_pem.decode())
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", server.port, ssl=client, server_hostname="localhost"
                )
                writer.write(b"GET /ok HTTP/1.1\r\n" + CLOSE)
                assert b"GET /ok" in await reader.read()
                writer.close()
        assert not [r for r in caplog.records if r.levelno >= logging.WARNING]

    run(steps)
