"""Addresses out of ranges, in turn.

Plays CNI's host-local plugin. The next address handed out is the one after the last, so a released
address rests for a whole round before it comes back: nobody who still remembers the old owner
reaches the new one. The first two and the last address of a range are never given (network, gateway
by custom, broadcast).
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass, field

from netlab.values import AddressesExhausted, NetlabError


def to_int(ip: str) -> int:
    return int(struct.unpack(">I", socket.inet_aton(ip))[0])


def to_text(value: int) -> str:
    return socket.inet_ntoa(struct.pack(">I", value))


@dataclass(slots=True)
class _Range:
    first: int
    last: int
    cursor: int
    used: set[int] = field(default_factory=set)


class Ipam:
    """Which id holds which address. In memory; the ledger is what persists it."""

    def __init__(self) -> None:
        self._ranges: dict[str, _Range] = {}
        self._held: dict[str, tuple[str, int]] = {}

    def allocate(self, cidr: str, holder: str, ip: str = "") -> str:
        """An address for `holder`; the same again if it has one. Raises AddressesExhausted,
        NetlabError."""
        held = self._held.get(holder)
        if held is not None:
            return to_text(held[1])
        pool = self._range(cidr)
        if ip:
            value = to_int(ip)
            if value in pool.used:
                raise NetlabError(f"address {ip} is in use")
        else:
            value = self._next(pool, cidr)
            pool.cursor = value
        pool.used.add(value)
        self._held[holder] = (cidr, value)
        return to_text(value)

    def hold(self, cidr: str, holder: str, ip: str) -> None:
        """Take note of an address that `holder` has already (from the ledger)."""
        value = to_int(ip)
        self._range(cidr).used.add(value)
        self._held[holder] = (cidr, value)

    def block(self, cidr: str, ip: str) -> None:
        """Never hand out `ip` again: somebody unknown has it."""
        self._range(cidr).used.add(to_int(ip))

    def resume(self, cidr: str, last: str) -> None:
        """Go on after address `last`."""
        self._range(cidr).cursor = to_int(last)

    def release(self, holder: str) -> None:
        """Idempotent."""
        held = self._held.pop(holder, None)
        if held is not None:
            self._ranges[held[0]].used.discard(held[1])

    def _range(self, cidr: str) -> _Range:
        pool = self._ranges.get(cidr)
        if pool is None:
            network = ipaddress.IPv4Network(cidr)
            base, size = int(network.network_address), network.num_addresses
            first, last = (base + 2, base + size - 2) if size > 4 else (base, base + size - 1)
            pool = self._ranges[cidr] = _Range(first, last, first - 1)
        return pool

    def _next(self, pool: _Range, cidr: str) -> int:
        size = pool.last - pool.first + 1
        value = pool.cursor
        for _ in range(size):
            value = value + 1 if pool.first <= value + 1 <= pool.last else pool.first
            if value not in pool.used:
                return value
        raise AddressesExhausted(f"no IP addresses available in range set: {cidr}")
