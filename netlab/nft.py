"""nf_tables messages as bytes (linux/netfilter/nf_tables.h): tables, chains, rules, maps, and whole
transactions.

Pure encoders, and `NftSocket.commit`, which sends a transaction: all of it happens or nothing. No
external binary is called.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence

from netlab.netlink import (
    ACK,
    CREATE,
    NETFILTER,
    REQUEST,
    NetlinkError,
    NetlinkSocket,
    attribute,
    be32,
    be64,
    message,
    nested,
    text,
)

_NEWTABLE, _DELTABLE, _NEWCHAIN, _DELCHAIN, _NEWRULE, _DELRULE = 0, 2, 3, 5, 6, 8
_NEWSET, _DELSET, _NEWSETELEM, _GETSETELEM, _DELSETELEM = 9, 11, 12, 13, 14
_SUBSYSTEM = 10 << 8
_HEADER = struct.pack("=BBH", socket.AF_INET, 0, 0)
_BATCH = struct.pack("=BBH", 0, 0, socket.htons(10))
_BATCH_BEGIN, _BATCH_END = 16, 17
_ELEMENTS_BYTES = 60_000

JUMP, GOTO, DROP, ACCEPT = -3, -4, 0, 1
PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = 0, 1, 2, 3, 4
MAP, TIMEOUT, EVAL, INTERVAL = 8, 0x10, 0x20, 4
IPV4, PROTOCOL, PORT, MARK, INTEGER, VERDICT = 7, 12, 13, 19, 4, 0xFFFFFF00
CT_NEW, CT_DNAT, LOCAL_ADDRESS = 8, 32, 2
EQUAL, NOT_EQUAL = 0, 1
_HOST_ORDER = 1
_WIDTH = {IPV4: 4, PROTOCOL: 4, PORT: 4, MARK: 4, INTEGER: 4, VERDICT: 4}
R0, R1, R2, R3, R4 = 8, 9, 10, 11, 12
"""Registers of four bytes each."""


def _nft(kind: int, flags: int, *parts: bytes) -> bytes:
    return message(_SUBSYSTEM | kind, flags, _HEADER, *parts)


def add_table(table: str) -> bytes:
    return _nft(_NEWTABLE, CREATE, text(1, table))


def delete_table(table: str) -> bytes:
    return _nft(_DELTABLE, 0, text(1, table))


def add_chain(table: str, chain: str) -> bytes:
    return _nft(_NEWCHAIN, CREATE, text(1, table), text(3, chain))


def add_base_chain(table: str, chain: str, kind: str, hook: int, priority: int) -> bytes:
    hooked = nested(4, be32(1, hook), be32(2, priority & 0xFFFFFFFF))
    return _nft(_NEWCHAIN, CREATE, text(1, table), text(3, chain), hooked, text(7, kind))


def add_rule(table: str, chain: str, *expressions: bytes) -> bytes:
    return _nft(_NEWRULE, CREATE | 0x800, text(1, table), text(2, chain), nested(4, *expressions))


def flush_chain(table: str, chain: str) -> bytes:
    return _nft(_DELRULE, 0, text(1, table), text(2, chain))


def _concat(types: Sequence[int]) -> int:
    value = 0
    for kind in types:
        value = value << 6 | kind
    return value


def add_map(
    table: str,
    name: str,
    keys: Sequence[int],
    data: Sequence[int],
    *,
    flags: int = 0,
    size: int = 0,
) -> bytes:
    """A set (no `data`) or map; `flags` TIMEOUT and EVAL make one that packets write to."""
    width = [_WIDTH[k] for k in keys]
    parts = [
        text(1, table),
        text(2, name),
        be32(3, flags | (MAP if data else 0)),
        be32(4, _concat(keys)),
        be32(5, sum(width)),
        be32(10, 1),
    ]
    if data:
        parts.append(be32(6, data[0] if data[0] == VERDICT else _concat(data)))
        if data[0] != VERDICT:
            parts.append(be32(7, 4 * len(data)))
    if size:
        parts.append(nested(9, be32(1, size)))
    # For `nft list` only: in which byte order numbers are to be shown.
    orders = [_HOST_ORDER if list(types) == [MARK] else 0 for types in (keys, data)]
    parts.append(attribute(13, struct.pack("=BBIBBI", 0, 4, orders[0], 1, 4, orders[1])))
    return _nft(_NEWSET, CREATE, *parts)


def flush_map(table: str, name: str) -> bytes:
    return _nft(_DELSETELEM, 0, text(1, table), text(2, name))


def element(key: bytes, value: bytes = b"") -> bytes:
    """One element: a key, for maps with a value made by `plain` or `verdict`."""
    return nested(1, nested(1, attribute(1, key)), nested(2, value) if value else b"")


def plain(value: bytes) -> bytes:
    return attribute(1, value)


def verdict(code: int, chain: str = "") -> bytes:
    """Data for a verdict map or an immediate."""
    to = text(2, chain) if chain else b""
    return nested(2, be32(1, code & 0xFFFFFFFF), to)


def add_elements(table: str, name: str, elements: Iterable[bytes]) -> list[bytes]:
    return _elements(_NEWSETELEM, CREATE, table, name, elements)


def delete_elements(table: str, name: str, elements: Iterable[bytes]) -> list[bytes]:
    return _elements(_DELSETELEM, 0, table, name, elements)


def _elements(
    kind: int, flags: int, table: str, name: str, elements: Iterable[bytes]
) -> list[bytes]:
    """As many messages as needed: an attribute holds at most 64 KiB."""
    where = text(1, table) + text(2, name)
    messages: list[bytes] = []
    chunk: list[bytes] = []
    size = 0
    for item in elements:
        if size + len(item) > _ELEMENTS_BYTES:
            messages.append(_nft(kind, flags, where, nested(3, *chunk)))
            chunk, size = [], 0
        chunk.append(item)
        size += len(item)
    if chunk:
        messages.append(_nft(kind, flags, where, nested(3, *chunk)))
    return messages


# Expressions


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *parts))


def load_source(register: int) -> bytes:
    return _payload(register, 1, 12, 4)


def load_destination(register: int) -> bytes:
    return _payload(register, 1, 16, 4)


def load_port(register: int) -> bytes:
    """The destination port of TCP, UDP and SCTP."""
    return _payload(register, 2, 2, 2)


def _payload(register: int, base: int, offset: int, size: int) -> bytes:
    return _expression("payload", be32(1, register), be32(2, base), be32(3, offset), be32(4, size))


def _load_meta(register: int, key: int) -> bytes:
    return _expression("meta", be32(1, register), be32(2, key))


def load_protocol(register: int) -> bytes:
    return _load_meta(register, 16)


def load_mark(register: int) -> bytes:
    return _load_meta(register, 3)


def load_input(register: int) -> bytes:
    return _load_meta(register, 4)


def load_output(register: int) -> bytes:
    return _load_meta(register, 5)


def set_mark(register: int) -> bytes:
    return _expression("meta", be32(2, 3), be32(3, register))


def load_ct(register: int, key: int) -> bytes:
    """Conntrack: key 0 is the state bits, 2 the status bits, 3 the mark."""
    return _expression("ct", be32(1, register), be32(2, key))


def set_ct_mark(register: int) -> bytes:
    return _expression("ct", be32(2, 3), be32(4, register))


def load_address_type(register: int) -> bytes:
    """Of the destination: 2 is local to this namespace."""
    return _expression("fib", be32(1, register), be32(2, 3), be32(3, 2))


def load_back_by_input(register: int) -> bytes:
    """1 if the route to the destination leads out of the interface that the packet came in by."""
    return _expression("fib", be32(1, register), be32(2, 1), be32(3, 2 | 8 | 32))


def compare(register: int, value: bytes, operator: int = EQUAL) -> bytes:
    return _expression("cmp", be32(1, register), be32(2, operator), nested(3, attribute(1, value)))


def mask(register: int, bits: int, flip: int = 0, *, network_order: bool = False) -> bytes:
    """`register = register & bits ^ flip`."""
    pack = ">I" if network_order else "=I"
    return _expression(
        "bitwise",
        be32(1, register),
        be32(2, register),
        be32(3, 4),
        nested(4, attribute(1, struct.pack(pack, bits))),
        nested(5, attribute(1, struct.pack(pack, flip))),
        be32(6, 0),
    )


def load_value(register: int, value: bytes) -> bytes:
    return _expression("immediate", be32(1, register), nested(2, attribute(1, value)))


def go(code: int, chain: str = "") -> bytes:
    return _expression("immediate", be32(1, 0), nested(2, verdict(code, chain)))


def lookup(name: str, source: int, target: int | None = None) -> bytes:
    """In a map `target` gets the value (register 0: the verdict); a miss ends the rule."""
    to = be32(3, target) if target is not None else b""
    return _expression("lookup", text(1, name), be32(2, source), to)


def random(register: int, below: int) -> bytes:
    return _expression("numgen", be32(1, register), be32(2, below), be32(3, 1), be32(4, 0))


def remember(name: str, key: int, data: int, seconds: int) -> bytes:
    """Write key and data to a map, or start its time afresh."""
    return _expression(
        "dynset", text(1, name), be32(3, 1), be32(4, key), be32(5, data), be64(6, seconds * 1000)
    )


def dnat(address: int, port: int) -> bytes:
    return _expression("nat", be32(1, 1), be32(2, socket.AF_INET), be32(3, address), be32(5, port))


def masquerade() -> bytes:
    return _expression("masq")


def reject_tcp() -> bytes:
    return _expression("reject", be32(1, 1), struct.pack("=HHB3x", 5, 2, 0))


def reject_port_unreachable() -> bytes:
    return _expression("reject", be32(1, 0), struct.pack("=HHB3x", 5, 2, 3))


def in_range(register: int, cidr: str, operator: int = EQUAL) -> tuple[bytes, bytes]:
    """Match an address that was loaded to `register` (spoils it)."""
    ip, _, prefix = cidr.partition("/")
    bits = 0xFFFFFFFF << 32 - int(prefix) & 0xFFFFFFFF
    network = struct.unpack(">I", socket.inet_aton(ip))[0] & bits
    return (
        mask(register, bits, network_order=True),
        compare(register, struct.pack(">I", network), operator),
    )


class NftSocket:
    """A netfilter socket of the calling thread's namespace. Not thread-safe."""

    def __init__(self) -> None:
        self._netlink = NetlinkSocket(NETFILTER)
        self._netlink.enlarge(32 << 20)
        self._sequence = 0

    def close(self) -> None:
        self._netlink.close()

    def commit(self, messages: Sequence[bytes]) -> None:
        """One transaction. Raises NetlinkError with the first refusal; then nothing has changed."""
        if not messages:
            return
        out = [struct.pack("=IHHII", 20, _BATCH_BEGIN, REQUEST, self._sequence, 0), _BATCH]
        last = len(messages) - 1
        for i, m in enumerate(messages):
            self._sequence += 1
            flags = m[6:8] if i != last else bytes((m[6] | ACK, m[7]))
            out += (m[:6], flags, struct.pack("=I", self._sequence), m[12:])
        final, first = self._sequence, self._sequence - last
        self._sequence += 1
        out += (struct.pack("=IHHII", 20, _BATCH_END, REQUEST, self._sequence, 0), _BATCH)
        errors = self._netlink.transact(b"".join(out), first, final)
        if errors:
            refused = errors[0]
            index = refused.sequence - first
            raise NetlinkError(refused.errno or 0, f"message {index}: {refused.text}", index)

    def elements(self, table: str, name: str) -> Iterable[bytes]:
        """The raw answers to a dump of a map's elements."""
        kind = _SUBSYSTEM | _GETSETELEM
        return self._netlink.dump(kind, _HEADER, text(1, table), text(2, name))
