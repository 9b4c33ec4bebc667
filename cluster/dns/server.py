"""The cluster DNS server: sockets in, answers out. Plays CoreDNS with the kubernetes, cache,
loadbalance and forward plugins.

An answer is encoded once: the next question with the same bytes (but for its id) gets the kept
ones, until a name changes. Sockets are handed in bound, for they live in a namespace that this room
knows nothing of.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Counter, Histogram

from cluster.api.meta import (
    ENDPOINTSLICES,
    NAMESPACES,
    SERVICES,
    Clock,
    Object,
    parse_rfc3339,
)
from cluster.client import Change, Client, Informer
from cluster.dns import message
from cluster.dns.forward import Forwarder
from cluster.dns.records import Names
from cluster.metrics.dns import DnsMetrics

log = logging.getLogger(__name__)

TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
MAX_CACHED = 20_000
MAX_TURNS = 8
MAX_PACKETS = 64
"""Packets taken at once before the loop gets its turn."""
MAX_TCP_CONNECTIONS = 200
MAX_FORWARDING = 1_000
TCP_IDLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Counters:
    """The children of the metrics of one question, found once."""

    requests: Counter
    responses: Counter
    hits: Counter
    seconds: Histogram
    request_bytes: Histogram
    response_bytes: Histogram

    def count(self, seconds: float, asked: int, answered: int) -> None:
        """A question was answered from kept bytes."""
        self.requests.inc()
        self.responses.inc()
        self.hits.inc()
        self.seconds.observe(seconds)
        self.request_bytes.observe(asked)
        self.response_bytes.observe(answered)


@dataclass(slots=True)
class _Kept:
    """Answers to one question, without their ids, in turn; and what to count for each."""

    question: message.Question
    answers: list[bytes]
    limit: int
    counters: _Counters
    turn: int = field(default=0)


class DnsServer:
    """`run()` follows the API; `start(udp, tcp)` answers."""

    def __init__(
        self,
        client: Client,
        domain: str,
        clock: Clock,
        metrics: DnsMetrics,
        upstreams: Sequence[str] = (),
        *,
        dns_address: str = "",
        rng: random.Random | None = None,
    ) -> None:
        self.names = Names(domain, dns_address)
        self._clock = clock
        self._metrics = metrics
        self._informers = [
            Informer(client, gvr, clock=clock, rng=rng)
            for gvr in (SERVICES, ENDPOINTSLICES, NAMESPACES)
        ]
        handlers = (self.names.handle_service, self._handle_slice, self.names.handle_namespace)
        for informer, handler in zip(self._informers, handlers, strict=True):
            informer.add_handler_batch(_each(handler))
        self._forwarder = Forwarder(upstreams, clock, metrics, rng) if upstreams else None
        self._kept: dict[tuple[bytes, bool], _Kept] = {}
        self._generation = -1
        self._tasks: set[asyncio.Task[None]] = set()
        self._udp: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._connections = 0
        self._zone = self.names.domain + "."

    @property
    def has_synced(self) -> bool:
        return all(i.has_synced for i in self._informers)

    async def wait_synced(self) -> None:
        for informer in self._informers:
            await informer.wait_synced()

    async def run(self) -> None:
        """Follow Services, slices and namespaces until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers:
                group.create_task(informer.run())

    async def start(self, udp: socket.socket | None, tcp: socket.socket | None) -> None:
        """Start answering on bound sockets (several calls: several addresses). Takes them over."""
        loop = asyncio.get_running_loop()
        if udp is not None:
            udp.setblocking(False)
            self._udp.append(udp)
            loop.add_reader(udp.fileno(), self._read_udp, udp)
        if tcp is not None:
            self._servers.append(await asyncio.start_server(self._serve_tcp, sock=tcp))

    async def stop(self) -> None:
        """Stop answering and close the sockets."""
        loop = asyncio.get_running_loop()
        for udp in self._udp:
            loop.remove_reader(udp.fileno())
            udp.close()
        for server in self._servers:
            server.close()
            await server.wait_closed()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._forwarder is not None:
            self._forwarder.close()

    def _handle_slice(self, old: Object | None, new: Object | None) -> None:
        """As upstream, the time from the endpoint's change is told for headless services only."""
        before = self.names.generation
        self.names.handle_slice(old, new)
        if new is None or self.names.generation == before:
            return
        when = (new["metadata"].get("annotations") or {}).get(TRIGGER_TIME)
        if when:
            seconds = max(0.0, self._clock.now() - parse_rfc3339(when))
            metric = self._metrics.programming_seconds
            metric.labels("headless_with_selector").observe(seconds)

    # UDP

    def _read_udp(self, udp: socket.socket) -> None:
        for _ in range(MAX_PACKETS):
            try:
                data, client = udp.recvfrom(4096)
            except (BlockingIOError, ConnectionError, InterruptedError):
                return
            answer = self.answer(data, tcp=False)
            if answer is None:
                self._answer_later(data, False, lambda a, u=udp, c=client: _send(u, a, c))  # type: ignore[misc]
            elif answer:
                _send(udp, answer, client)

    def answer(self, data: bytes, *, tcp: bool) -> bytes | None:
        """The answer to one message: b'' is none at all, None must be asked elsewhere
        (`resolve`)."""
        started = self._clock.monotonic()
        if self._generation != self.names.generation:
            self._kept.clear()
            self._generation = self.names.generation
        kept = self._kept.get((data[2:], tcp))
        if kept is None:
            try:
                found = self._encode(data, tcp)
            except message.BadQuestion as bad:
                return bad.answer
            if found is None:
                return None
            kept = found
        answers = kept.answers
        if len(answers) < kept.limit:
            answers.append(self._rotate(kept, tcp))
        kept.turn += 1
        answer = data[:2] + answers[kept.turn % len(answers)]
        kept.counters.count(self._clock.monotonic() - started, len(data), len(answer))
        return answer

    def _encode(self, data: bytes, tcp: bool) -> _Kept | None:
        question = message.parse(data)
        found = self.names.find(question.name, question.type)
        if self._forwarder is not None and (not found.mine or found.alias):
            return None
        answer = message.encode(
            question, found, self.names.domain, serial=self.names.generation, tcp=tcp
        )
        turns = len(found.answers) if found.answers and found.answers[0].type != 5 else 1
        kept = _Kept(
            question,
            [answer[2:]],
            min(turns, MAX_TURNS),
            self._counters(question, answer, tcp, found.mine),
        )
        self._metrics.cache_misses.labels("dns://:53", ".", "").inc()
        if len(self._kept) >= MAX_CACHED:
            self._kept.clear()
        self._kept[data[2:], tcp] = kept
        self._metrics.cache_entries.labels("dns://:53", "success", ".", "").set(len(self._kept))
        return kept

    def _rotate(self, kept: _Kept, tcp: bool) -> bytes:
        found = self.names.find(kept.question.name, kept.question.type)
        return message.encode(
            kept.question,
            found,
            self.names.domain,
            serial=self.names.generation,
            tcp=tcp,
            turn=len(kept.answers),
        )[2:]

    def _counters(
        self, question: message.Question, answer: bytes, tcp: bool, mine: bool
    ) -> _Counters:
        zone = self._zone if mine else "."
        proto, kind = "tcp" if tcp else "udp", question.type_name
        rcode = message.rcode_of(answer)
        metrics, server = self._metrics, "dns://:53"
        status = "success" if rcode == "NOERROR" else "denial"
        return _Counters(
            metrics.requests.labels(server, zone, "", proto, "1", kind),
            metrics.responses.labels(server, zone, "", rcode, "kubernetes" if mine else ""),
            metrics.cache_hits.labels(server, status, ".", ""),
            metrics.request_seconds.labels(server, zone, "", kind),
            metrics.request_bytes.labels(server, zone, "", proto),
            metrics.response_bytes.labels(server, zone, "", proto),
        )

    # Other names

    def _answer_later(self, data: bytes, tcp: bool, send: Callable[[bytes], None]) -> None:
        if len(self._tasks) >= MAX_FORWARDING:
            send(message.error(message.parse(data), message.SERVFAIL))
            return

        async def work() -> None:
            send(await self.resolve(data, tcp=tcp))

        task = asyncio.ensure_future(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def resolve(self, data: bytes, *, tcp: bool) -> bytes:
        """Ask an upstream resolver; follow an alias that leads out of the cluster."""
        assert self._forwarder is not None
        started = self._clock.monotonic()
        question = message.parse(data)
        found = self.names.find(question.name, question.type)
        if found.alias:
            answer = await self._forwarder.resolve_alias(question, found, self.names, tcp=tcp)
        else:
            answer = await self._forwarder.forward(data, question, tcp=tcp)
        counters = self._counters(question, answer, tcp, found.mine)
        counters.requests.inc()
        counters.seconds.observe(self._clock.monotonic() - started)
        counters.request_bytes.observe(len(data))
        counters.response_bytes.observe(len(answer))
        rcode = message.rcode_of(answer)
        self._metrics.responses.labels("dns://:53", ".", "", rcode, "forward").inc()
        return answer

    # TCP

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= MAX_TCP_CONNECTIONS:
            writer.close()
            return
        self._connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._converse(reader, writer)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._connections -= 1
            self._tasks.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(TCP_IDLE_SECONDS):
                size = int.from_bytes(await reader.readexactly(2), "big")
                data = await reader.readexactly(size)
            answer = self.answer(data, tcp=True)
            if answer is None:
                answer = await self.resolve(data, tcp=True)
            if not answer:
                return
            writer.write(len(answer).to_bytes(2, "big") + answer)
            await writer.drain()


def _each(handler: Callable[..., None]) -> Callable[[Sequence[Change]], None]:
    def handle(changes: Sequence[Change]) -> None:
        for old, new in changes:
            handler(old, new)

    return handle


def _send(udp: socket.socket, answer: bytes, client: Any) -> None:
    """A full send buffer drops the answer, as any network may: the client asks again."""
    try:
        udp.sendto(answer, client)
    except OSError:
        return
