"""Names of the world outside: asked of upstream resolvers. Plays CoreDNS's forward plugin (and its
cache, for 30 s)."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from collections.abc import Sequence

from dnslib import QTYPE, DNSError, DNSRecord

from cluster.api.meta import Clock
from cluster.dns import message
from cluster.dns.records import Found, Names, Record
from cluster.metrics.dns import DnsMetrics

TRY_SECONDS = 2.0
MAX_CACHED = 10_000
MAX_AGE_SECONDS = 30.0
NEGATIVE_AGE_SECONDS = 5.0


def read_resolv_conf(text: str) -> tuple[str, ...]:
    """The usable name servers of a resolv.conf."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                ipaddress.ip_address(words[1])
            except ValueError:
                continue
            found.append(words[1])
    return tuple(found)


class Forwarder:
    """Asks each upstream once, in turn, until one answers."""

    def __init__(
        self,
        upstreams: Sequence[str],
        clock: Clock,
        metrics: DnsMetrics,
        rng: random.Random | None = None,
    ) -> None:
        self._upstreams = tuple(upstreams)
        self._clock = clock
        self._metrics = metrics
        self._rng = rng or random.Random(0)
        self._cache: dict[bytes, tuple[float, bytes]] = {}

    def close(self) -> None:
        self._cache.clear()

    async def forward(self, data: bytes, question: message.Question, *, tcp: bool) -> bytes:
        """The upstream's answer, or SERVFAIL."""
        kept = self._cache.get(data[2:])
        now = self._clock.monotonic()
        if kept is not None and kept[0] > now:
            return data[:2] + kept[1]
        for upstream in self._rng.sample(self._upstreams, len(self._upstreams)):
            answer = await self._ask(upstream, data, tcp)
            if answer is not None:
                code = answer[3] & 15
                if code in (message.NOERROR, message.NXDOMAIN) and not answer[2] & 2:
                    age = MAX_AGE_SECONDS if code == message.NOERROR else NEGATIVE_AGE_SECONDS
                    self._keep(data[2:], now + _ttl(answer, age), answer[2:])
                return answer
        return message.error(question, message.SERVFAIL)

    async def resolve_alias(
        self, question: message.Question, found: Found, names: Names, *, tcp: bool
    ) -> bytes:
        """An ExternalName Service whose target is outside: the CNAME, and what it leads to."""
        ask = DNSRecord.question(found.alias, QTYPE[question.type])
        answer = await self.forward(bytes(ask.pack()), question, tcp=tcp)
        rows = [*found.answers]
        try:
            rows += [
                Record(str(r.rname).rstrip("."), r.rtype, str(r.rdata).rstrip("."))
                for r in DNSRecord.parse(answer).rr
                if r.rtype in (QTYPE.A, QTYPE.CNAME)
            ]
        except (DNSError, ValueError):
            return message.error(question, message.SERVFAIL)
        return message.encode(
            question, Found(answers=rows), names.domain, serial=names.generation, tcp=tcp
        )

    def _keep(self, key: bytes, until: float, answer: bytes) -> None:
        if len(self._cache) >= MAX_CACHED:
            self._cache.clear()
        self._cache[key] = (until, answer)

    async def _ask(self, upstream: str, data: bytes, tcp: bool) -> bytes | None:
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(TRY_SECONDS):
                answer = await (_ask_tcp if tcp else _ask_udp)(upstream, data)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return None
        self._metrics.forward_requests.labels(f"{upstream}:53").inc()
        self._metrics.forward_seconds.labels(f"{upstream}:53", message.rcode_of(answer)).observe(
            self._clock.monotonic() - started
        )
        return answer


def _ttl(answer: bytes, limit: float) -> float:
    try:
        return min([limit, *(float(r.ttl) for r in DNSRecord.parse(answer).rr)])
    except (DNSError, ValueError):
        return 0.0


async def _ask_udp(upstream: str, data: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in upstream else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        made.setblocking(False)
        made.connect((upstream, 53))
        await loop.sock_sendall(made, data)
        while True:
            answer = await loop.sock_recv(made, 4096)
            if len(answer) >= 12 and answer[:2] == data[:2]:
                return answer


async def _ask_tcp(upstream: str, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(upstream, 53)
    try:
        writer.write(len(data).to_bytes(2, "big") + data)
        size = int.from_bytes(await reader.readexactly(2), "big")
        return await reader.readexactly(size)
    finally:
        writer.close()
