"""Questions and answers over real sockets of the loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
from dnslib import EDNS0, QTYPE, DNSRecord
from prometheus_client import CollectorRegistry

from cluster.api.meta import SystemClock
from cluster.dns import DnsServer, read_resolv_conf
from cluster.dns.message import FORMERR, NOTIMP, NXDOMAIN, REFUSED, SERVFAIL
from cluster.metrics.dns import DnsMetrics
from tests.dns.test_records import piece, service

REGISTRY_SERVER = "dns://:53"


def make(upstreams: tuple[str, ...] = ()) -> tuple[DnsServer, CollectorRegistry]:
    registry = CollectorRegistry()
    made = DnsServer(
        None,  # type: ignore[arg-type]
        "cluster.local",
        SystemClock(),
        DnsMetrics(registry),
        upstreams,
        dns_address="10.96.0.10",
    )
    made.names.handle_namespace(None, {"metadata": {"name": "default"}})
    made.names.handle_service(None, service("web", "10.96.1.1"))
    made.names.handle_service(None, service("db", "None"))
    endpoints = [{"addresses": [f"10.1.0.{i}"]} for i in range(2, 62)]
    made.names.handle_slice(None, piece("db", *endpoints))
    return made, registry


def question(name: str, kind: str = "A", *, edns: bool = False) -> bytes:
    record = DNSRecord.question(name, kind)
    if edns:
        record.add_ar(EDNS0(udp_len=4096))
    return bytes(record.pack())


def parse(data: bytes | None) -> DNSRecord:
    assert data
    return DNSRecord.parse(data)


def test_the_same_question_is_answered_from_kept_bytes_with_its_own_id() -> None:
    server, registry = make()
    for number in (1, 2, 77):
        asked = number.to_bytes(2, "big") + question("web.default.svc.cluster.local")[2:]
        answer = parse(server.answer(asked, tcp=False))
        assert answer.header.id == number
        assert [str(r.rdata) for r in answer.rr] == ["10.96.1.1"]
    labels = {"server": REGISTRY_SERVER, "zones": ".", "view": ""}
    assert registry.get_sample_value("coredns_cache_misses_total", labels) == 1


def test_a_changed_name_is_answered_anew() -> None:
    server, _ = make()
    asked = question("web.default.svc.cluster.local")
    server.answer(asked, tcp=False)
    server.names.handle_service(None, service("web", "10.96.1.2"))
    assert str(parse(server.answer(asked, tcp=False)).rr[0].rdata) == "10.96.1.2"


def test_addresses_take_turns() -> None:
    server, _ = make()
    asked = question("db.default.svc.cluster.local", edns=True)
    first = {str(parse(server.answer(asked, tcp=False)).rr[0].rdata) for _ in range(16)}
    assert len(first) > 3


def test_a_name_that_is_not_there_has_the_zones_soa() -> None:
    server, _ = make()
    answer = parse(server.answer(question("no.default.svc.cluster.local"), tcp=False))
    assert (answer.header.rcode, answer.header.aa) == (NXDOMAIN, 1)
    assert QTYPE[answer.auth[0].rtype] == "SOA"


def test_what_does_not_fit_is_cut_and_said_so() -> None:
    server, _ = make()
    plain = server.answer(question("db.default.svc.cluster.local"), tcp=False)
    assert plain is not None and len(plain) <= 512
    assert parse(plain).header.tc == 1 and parse(plain).rr
    more = server.answer(question("db.default.svc.cluster.local", edns=True), tcp=False)
    assert more is not None and 512 < len(more) <= 1232
    whole = parse(server.answer(question("db.default.svc.cluster.local"), tcp=True))
    assert (whole.header.tc, len(whole.rr)) == (0, 60)


def test_edns_is_answered_with_edns() -> None:
    server, _ = make()
    asked = question("web.default.svc.cluster.local", edns=True)
    assert [r.rtype for r in parse(server.answer(asked, tcp=False)).ar] == [QTYPE.OPT]


@pytest.mark.parametrize("garbage", [b"", b"x", b"\0" * 11, b"\0\0\x80" + b"\0" * 20])
def test_garbage_and_answers_are_not_answered(garbage: bytes) -> None:
    assert make()[0].answer(garbage, tcp=False) == b""


def test_broken_questions_get_their_code() -> None:
    server, _ = make()
    update = bytearray(question("web.default.svc.cluster.local"))
    update[2] = 5 << 3
    cut = question("web.default.svc.cluster.local")[:-6]
    for data, code in ((bytes(update), NOTIMP), (cut, FORMERR)):
        answer = server.answer(data, tcp=False)
        assert answer and answer[3] & 15 == code


def test_foreign_names_are_refused_without_an_upstream() -> None:
    answer = parse(make()[0].answer(question("example.org"), tcp=False))
    assert answer.header.rcode == REFUSED


def serve(work: Callable[[DnsServer, int], Awaitable[None]]) -> None:
    async def run() -> None:
        server, _ = make()
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        port = udp.getsockname()[1]
        tcp = socket.create_server(("127.0.0.1", port))
        await server.start(udp, tcp)
        try:
            await work(server, port)
        finally:
            await server.stop()

    asyncio.run(run())


def test_udp_and_tcp_answer_on_handed_in_sockets() -> None:
    async def work(server: DnsServer, port: int) -> None:
        asked = question("db.default.svc.cluster.local")
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(("127.0.0.1", port))
            await loop.sock_sendall(client, asked)
            assert parse(await loop.sock_recv(client, 4096)).header.tc == 1
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(len(asked).to_bytes(2, "big") + asked)
            size = int.from_bytes(await reader.readexactly(2), "big")
            assert len(parse(await reader.readexactly(size)).rr) == 60
        writer.close()
        await writer.wait_closed()

    serve(work)


def test_an_upstream_that_does_not_answer_is_servfail() -> None:
    async def run() -> None:
        server, _ = make(("127.0.0.254",))
        asked = question("example.org")
        assert server.answer(asked, tcp=False) is None
        answer = await server.resolve(asked, tcp=True)
        assert parse(answer).header.rcode == SERVFAIL
        await server.stop()

    asyncio.run(run())


def test_name_servers_are_read_from_resolv_conf() -> None:
    text = "# x\nsearch a b\nnameserver 192.0.2.53\nnameserver bad\nnameserver fd00::1\n"
    assert read_resolv_conf(text) == ("192.0.2.53", "fd00::1")
