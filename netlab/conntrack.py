"""Forget redirected UDP flows whose endpoint is gone (linux/netfilter/nfnetlink_conntrack.h).

A TCP client notices by itself; a UDP flow would be sent to the dead endpoint for as long as the
client keeps talking. Plays kube-proxy's conntrack cleanup.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from netlab.netlink import NETFILTER, NetlinkError, NetlinkSocket, attributes, message, nested

_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_HEADER = struct.pack("=BBH", socket.AF_INET, 0, 0)
_UDP = 17
_ENOENT = 2
_ORIGINAL, _REPLY = 1, 2


def forget_udp(endpoints: set[tuple[str, int]]) -> int:
    """Delete the flows that were redirected to `endpoints`; in the calling thread's namespace. How
    many."""
    netlink = NetlinkSocket(NETFILTER)
    try:
        found = [*_redirected(netlink, endpoints)]
        messages = [message(_DELETE, 0, _HEADER, nested(_ORIGINAL, t)) for t in found]
        for one in messages:
            try:
                netlink.send_all([one])
            except NetlinkError as error:
                if error.errno != _ENOENT:
                    raise
        return len(messages)
    finally:
        netlink.close()


def _redirected(netlink: NetlinkSocket, endpoints: set[tuple[str, int]]) -> Iterator[bytes]:
    """The original tuples of flows whose answers come from one of `endpoints` and not from where
    the client sent to."""
    for payload in netlink.dump(_GET, _HEADER):
        parts = dict(attributes(payload, 4))
        if _ORIGINAL not in parts or _REPLY not in parts:
            continue
        protocol, _, asked = _read_tuple(parts[_ORIGINAL])
        _, answering, _ = _read_tuple(parts[_REPLY])
        if protocol == _UDP and answering in endpoints and answering != asked:
            yield parts[_ORIGINAL]


def _read_tuple(data: bytes) -> tuple[int, tuple[str, int], tuple[str, int]]:
    """(protocol, source, destination) of a conntrack tuple."""
    parts = dict(attributes(data))
    ip, transport = dict(attributes(parts.get(1, b""))), dict(attributes(parts.get(2, b"")))
    source = socket.inet_ntoa(ip.get(1, b"\0" * 4)), _port(transport.get(2))
    target = socket.inet_ntoa(ip.get(2, b"\0" * 4)), _port(transport.get(3))
    return transport.get(1, b"\0")[0], source, target


def _port(data: bytes | None) -> int:
    return int.from_bytes(data[:2], "big") if data else 0
