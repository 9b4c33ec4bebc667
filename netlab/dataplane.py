"""Virtual servers in nftables: plays kube-proxy's nftables backend.

A service is not a chain: that costs a chain, a set and rules each, and every change a flush. Here
all services share a few maps, and a packet of a new connection takes three look-ups:

    services   address . protocol . port -> number
    node-ports protocol . port -> number, with the masquerade bit
    verdicts   number -> goto random-N, sticky-N-T or reject
    endpoints  number . random(N) -> pod address . port

So a change of one endpoint is a transaction of a few map elements, whatever the number of services.
The number travels in the packet's mark; its top bit asks the fabric's table to masquerade.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from netlab import nft
from netlab.conntrack import forget_udp
from netlab.fabric import Fabric
from netlab.hostports import MASQUERADE, PROTOCOLS
from netlab.netlink import attributes
from netlab.values import NetlabError

TABLE = "kube-proxy"
_SERVICES, _NODE_PORTS, _VERDICTS, _ENDPOINTS = "services", "node-ports", "verdicts", "endpoints"
_NUMBER = MASQUERADE - 1
MAX_ENDPOINTS = 65_536
Endpoint = tuple[str, int]


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """One port of one service. `address` '' means no cluster address. `external` addresses lead to
    it too, masqueraded like its node port. `local_endpoints`: by node address, the only endpoints
    that the node port there may lead to, with the client's address kept (externalTrafficPolicy:
    Local)."""

    address: str
    protocol: str
    port: int
    endpoints: tuple[Endpoint, ...] = ()
    node_port: int = 0
    external: tuple[str, ...] = ()
    affinity_seconds: int = 0
    local_endpoints: Mapping[str, tuple[Endpoint, ...]] | None = None


@dataclass(slots=True)
class _Entry:
    """A number in the maps: who leads to it and where it leads."""

    number: int
    server: VirtualServer
    endpoints: list[Endpoint] = field(default_factory=list)
    verdict: str = ""


class Dataplane:
    """The services of one fabric. Methods block; they are to be run through `fabric.submit` from an
    event loop."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._entries: dict[str, _Entry] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._free: list[int] = []
        self._next = 1
        self._chains: set[str] = set()
        self._ready = False
        self._nft = fabric.call_in("", nft.NftSocket)

    def close(self) -> None:
        """Let go; the rules stay."""
        self._nft.close()

    def replace(self, services: Mapping[str, VirtualServer]) -> None:
        """Exactly these services, in one transaction: also over what a process before this one
        left."""
        if self._ready:
            gone: dict[str, VirtualServer | None] = dict.fromkeys(
                self._names.keys() - services.keys()
            )
            self.apply({**services, **gone})
            return
        self._fabric.submit(self._start, services).result()

    def apply(self, changes: Mapping[str, VirtualServer | None]) -> None:
        """Only these services have changed (None: removed), in one transaction. Raises
        NetlabError."""
        if not self._ready:
            self.replace({k: v for k, v in changes.items() if v is not None})
            return
        self._fabric.submit(self._apply, changes).result()

    # In the fabric's thread

    def _start(self, services: Mapping[str, VirtualServer]) -> None:
        table = [
            nft.add_table(TABLE),
            nft.delete_table(TABLE),
            *_table(self._fabric.config.service_cidr),
        ]
        batch = self._plan(services)
        self._commit([*table, *self._messages(batch)])
        self._ready = True

    def _apply(self, changes: Mapping[str, VirtualServer | None]) -> None:
        batch = self._plan(changes)
        self._commit(self._messages(batch))
        if batch.gone_udp:
            self._fabric.call_in("", forget_udp, batch.gone_udp)

    def _commit(self, messages: list[bytes]) -> None:
        try:
            self._nft.commit(messages)
        except OSError as error:
            self._ready = False
            self._entries.clear()
            self._names.clear()
            self._free.clear()
            self._chains.clear()
            self._next = 1
            raise NetlabError(f"the kernel refused the services: {error}") from error

    def _plan(self, changes: Mapping[str, VirtualServer | None]) -> _Batch:
        """What goes into one transaction; the books are already as they will be."""
        batch = _Batch()
        for key, server in changes.items():
            wanted = dict(_parts(key, server)) if server is not None else {}
            for name in self._names.get(key, ()):
                if name not in wanted:
                    self._remove(batch, name)
            for name, part in wanted.items():
                self._set(batch, name, part)
            if wanted:
                self._names[key] = tuple(wanted)
            else:
                self._names.pop(key, None)
        return batch

    def _remove(self, batch: _Batch, name: str) -> None:
        entry = self._entries.pop(name)
        _lead(batch.removed, entry)
        if entry.server.protocol == "UDP":
            batch.gone_udp.update(entry.endpoints)
        number = struct.pack("=I", entry.number)
        batch.removed[_VERDICTS].append(nft.element(number))
        batch.removed[_ENDPOINTS] += [
            nft.element(number + struct.pack("=I", i)) for i in range(len(entry.endpoints))
        ]
        self._free.append(entry.number)

    def _set(self, batch: _Batch, name: str, server: VirtualServer) -> None:
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _Entry(self._number(), server)
            _lead(batch.added, entry)
        elif entry.server == server:
            return
        elif _addresses(entry.server) != _addresses(server):
            _lead(batch.removed, entry)
            entry.server = server
            _lead(batch.added, entry)
        entry.server = server
        self._set_endpoints(batch, entry)
        self._set_verdict(batch, entry)

    def _set_endpoints(self, batch: _Batch, entry: _Entry) -> None:
        before, after = entry.endpoints, _arrange(entry.endpoints, entry.server.endpoints)
        if before == after:
            return
        number = struct.pack("=I", entry.number)
        removed, added = batch.removed[_ENDPOINTS], batch.added[_ENDPOINTS]
        for i in range(max(len(before), len(after))):
            old = before[i] if i < len(before) else None
            new = after[i] if i < len(after) else None
            if old == new:
                continue
            key = number + struct.pack("=I", i)
            if old is not None:
                removed.append(nft.element(key))
            if new is not None:
                added.append(nft.element(key, nft.plain(_pack_endpoint(new))))
        if entry.server.protocol == "UDP":
            batch.gone_udp.update(set(before) - set(after))
        changed = {i for i, e in enumerate(before) if i >= len(after) or after[i] != e}
        if changed and entry.server.affinity_seconds:
            batch.forget += self._remembered(entry, changed)
        entry.endpoints = after

    def _set_verdict(self, batch: _Batch, entry: _Entry) -> None:
        count, seconds = len(entry.endpoints), entry.server.affinity_seconds
        if not count:
            chain = "reject"
        elif seconds:
            chain = f"sticky-{count}-{seconds}"
        else:
            chain = f"random-{count}"
        if chain == entry.verdict:
            return
        number = struct.pack("=I", entry.number)
        if entry.verdict:
            batch.removed[_VERDICTS].append(nft.element(number))
        batch.added[_VERDICTS].append(nft.element(number, nft.verdict(nft.GOTO, chain)))
        if count and chain not in self._chains:
            self._chains.add(chain)
            if seconds and f"sticky-{seconds}" not in self._chains:
                self._chains.add(f"sticky-{seconds}")
                batch.chains.append(_affinity_map(seconds))
            batch.chains += _pick_chain(chain, count, seconds)
        entry.verdict = chain

    def _remembered(self, entry: _Entry, gone: set[int]) -> list[bytes]:
        """Clients that stick to endpoints which are no more."""
        name = f"sticky-{entry.server.affinity_seconds}"
        if name not in self._chains:
            return []
        number = struct.pack("=I", entry.number)
        found = []
        for payload in self._nft.elements(TABLE, name):
            for key, data in _element_pairs(payload):
                if key[:4] == number and int.from_bytes(data, sys.byteorder) in gone:
                    found.append(nft.element(key))
        return nft.delete_elements(TABLE, name, found)

    def _messages(self, batch: _Batch) -> list[bytes]:
        messages = list(batch.chains)
        for name, elements in batch.removed.items():
            messages += nft.delete_elements(TABLE, name, elements)
        messages += batch.forget
        for name in (_ENDPOINTS, _VERDICTS, _SERVICES, _NODE_PORTS):
            messages += nft.add_elements(TABLE, name, batch.added[name])
        return messages

    def _number(self) -> int:
        if self._free:
            return self._free.pop(0)
        self._next += 1
        return self._next - 1


@dataclass(slots=True)
class _Batch:
    chains: list[bytes] = field(default_factory=list)
    removed: dict[str, list[bytes]] = field(default_factory=lambda: _empty())
    added: dict[str, list[bytes]] = field(default_factory=lambda: _empty())
    forget: list[bytes] = field(default_factory=list)
    gone_udp: set[Endpoint] = field(default_factory=set)


def _empty() -> dict[str, list[bytes]]:
    return {name: [] for name in (_SERVICES, _NODE_PORTS, _VERDICTS, _ENDPOINTS)}


def _parts(key: str, server: VirtualServer) -> Iterable[tuple[str, VirtualServer]]:
    """What takes a number of its own: the server, and each node's own choice of endpoints."""
    if server.local_endpoints is None:
        yield key, server
        return
    yield (
        key,
        VirtualServer(
            server.address,
            server.protocol,
            server.port,
            server.endpoints,
            0,
            (),
            server.affinity_seconds,
        ),
    )
    for node, endpoints in server.local_endpoints.items():
        yield (
            f"{key}@{node}",
            VirtualServer(
                node, server.protocol, server.node_port, endpoints, 0, (), server.affinity_seconds
            ),
        )


def _addresses(server: VirtualServer) -> tuple[object, ...]:
    return server.address, server.protocol, server.port, server.node_port, server.external


def _lead(target: dict[str, list[bytes]], entry: _Entry) -> None:
    """Elements that lead to an entry. (Deleting one ignores its value.)"""
    server = entry.server
    protocol = struct.pack("=B3x", PROTOCOLS[server.protocol])
    number = nft.plain(struct.pack("=I", entry.number))
    masqueraded = nft.plain(struct.pack("=I", entry.number | MASQUERADE))
    port = protocol + struct.pack(">H2x", server.port)
    if server.address:
        target[_SERVICES].append(nft.element(socket.inet_aton(server.address) + port, number))
    for address in server.external:
        target[_SERVICES].append(nft.element(socket.inet_aton(address) + port, masqueraded))
    if server.node_port:
        key = protocol + struct.pack(">H2x", server.node_port)
        target[_NODE_PORTS].append(nft.element(key, masqueraded))


def _pack_endpoint(endpoint: Endpoint) -> bytes:
    return socket.inet_aton(endpoint[0]) + struct.pack(">H2x", endpoint[1])


def _arrange(before: list[Endpoint], wanted: tuple[Endpoint, ...]) -> list[Endpoint]:
    """`wanted` in an order that leaves as many places as they were as it can."""
    assert len(wanted) <= MAX_ENDPOINTS
    unique = dict.fromkeys(wanted)
    places: list[Endpoint | None] = [e if e in unique else None for e in before[: len(unique)]]
    kept = {e for e in places if e is not None}
    fresh = [e for e in unique if e not in kept]
    places += [None] * (len(unique) - len(places))
    rest = iter(fresh)
    return [e if e is not None else next(rest) for e in places]


def _element_pairs(payload: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Keys and values in an answer to a dump of elements."""
    for kind, elements in attributes(payload, 4):
        if kind != 3:
            continue
        for _, item in attributes(elements):
            parts = dict(attributes(item))
            key = dict(attributes(parts.get(1, b""))).get(1, b"")
            data = dict(attributes(parts.get(2, b""))).get(1, b"")
            yield key, data


def _table(service_cidr: str) -> list[bytes]:
    destination = (nft.load_destination(nft.R0), nft.load_protocol(nft.R1), nft.load_port(nft.R2))
    local = (
        nft.load_address_type(nft.R0),
        nft.compare(nft.R0, struct.pack("=I", nft.LOCAL_ADDRESS)),
    )
    number = (nft.load_mark(nft.R0), nft.mask(nft.R0, _NUMBER))
    take = (nft.set_mark(nft.R0), *number, nft.lookup(_VERDICTS, nft.R0, 0))
    jump = nft.go(nft.JUMP, "services")
    address = (nft.IPV4, nft.PROTOCOL, nft.PORT)
    return [
        nft.add_table(TABLE),
        nft.add_map(TABLE, _SERVICES, address, (nft.MARK,)),
        nft.add_map(TABLE, _NODE_PORTS, (nft.PROTOCOL, nft.PORT), (nft.MARK,)),
        nft.add_map(TABLE, _VERDICTS, (nft.MARK,), (nft.VERDICT,)),
        nft.add_map(TABLE, _ENDPOINTS, (nft.MARK, nft.MARK), (nft.IPV4, nft.PORT)),
        nft.add_chain(TABLE, "services"),
        nft.add_chain(TABLE, "reject"),
        nft.add_base_chain(TABLE, "prerouting", "nat", nft.PREROUTING, -100),
        nft.add_base_chain(TABLE, "output", "nat", nft.OUTPUT, -100),
        nft.add_rule(TABLE, "prerouting", jump),
        nft.add_rule(TABLE, "output", jump),
        nft.add_rule(TABLE, "services", *destination, nft.lookup(_SERVICES, nft.R0, nft.R0), *take),
        nft.add_rule(
            TABLE,
            "services",
            *local,
            nft.load_protocol(nft.R0),
            nft.load_port(nft.R1),
            nft.lookup(_NODE_PORTS, nft.R0, nft.R0),
            *take,
        ),
        nft.add_rule(
            TABLE,
            "services",
            nft.load_destination(nft.R0),
            *nft.in_range(nft.R0, service_cidr),
            nft.go(nft.GOTO, "reject"),
        ),
        nft.add_rule(
            TABLE,
            "reject",
            nft.load_protocol(nft.R0),
            nft.compare(nft.R0, b"\x06"),
            nft.reject_tcp(),
        ),
        nft.add_rule(TABLE, "reject", nft.reject_port_unreachable()),
    ]


def _affinity_map(seconds: int) -> bytes:
    return nft.add_map(
        TABLE,
        f"sticky-{seconds}",
        (nft.MARK, nft.IPV4),
        (nft.MARK,),
        flags=nft.TIMEOUT | nft.EVAL,
        size=262_144,
    )


def _pick_chain(chain: str, count: int, seconds: int) -> list[bytes]:
    """Choose one of `count` endpoints of the service whose number is in the mark, and go there."""
    number = (nft.load_mark(nft.R0), nft.mask(nft.R0, _NUMBER))
    if not seconds:
        pick = (*number, nft.random(nft.R1, count), nft.lookup(_ENDPOINTS, nft.R0, nft.R2))
        rule = nft.add_rule(TABLE, chain, *pick, nft.dnat(nft.R2, nft.R3))
        return [nft.add_chain(TABLE, chain), rule]
    name = f"sticky-{seconds}"
    client = (*number, nft.load_source(nft.R1), nft.load_mark(nft.R3), nft.mask(nft.R3, _NUMBER))
    arrive = (
        nft.remember(name, nft.R0, nft.R4, seconds),
        nft.lookup(_ENDPOINTS, nft.R3, nft.R3),
        nft.dnat(nft.R3, nft.R4),
    )
    # By way of the conntrack mark: nft 1.0 cannot list a rule that writes to a map what it has
    # read from one.
    known = (nft.lookup(name, nft.R0, nft.R4), nft.set_ct_mark(nft.R4), nft.load_ct(nft.R4, 3))
    return [
        nft.add_chain(TABLE, chain),
        nft.add_rule(TABLE, chain, *client, *known, *arrive),
        nft.add_rule(TABLE, chain, *client, nft.random(nft.R4, count), *arrive),
    ]
