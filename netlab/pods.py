"""Pods onto the fabric and off it: plays what a CNI plugin does for one pod, for many at once.

A pod gets a namespace of its own (bind-mounted, so that it outlives this process), a veth whose
ends are created straight where they stay, a /32 address and one default route; the fabric gets one
route and one permanent neighbour a pod. No bridge (it ends at 1,023 ports), no ARP, no IPv6
duplicate-address detection (up to 3 s).
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from netlab import links
from netlab.ipam import to_int
from netlab.namespaces import bind_mount, unmount, unshare_net
from netlab.netlink import NetlinkSocket
from netlab.values import GATEWAY, GATEWAY_MAC

_LO, _ETH0 = 1, 2
_FIRST_INDEX = 0x100000
_GATEWAY_ROUTE = links.route("", _ETH0, via=GATEWAY)
_GATEWAY_NEIGHBOUR = links.neighbour(_ETH0, GATEWAY, GATEWAY_MAC)
_LO_UP = links.link_up(_LO)
_NO_IPV6 = "/proc/sys/net/ipv6/conf/default/disable_ipv6"


@dataclass(frozen=True, slots=True)
class Wire:
    """Where one pod's things go. Index, name and MAC follow from the address, which is unique in a
    cluster: so they are known beforehand, and two processes that share a fabric never collide."""

    ip: str
    netns_path: str
    borrowed: bool = False

    @property
    def index(self) -> int:
        return _FIRST_INDEX + (to_int(self.ip) & 0x0FFFFFFF)

    @property
    def interface(self) -> str:
        return f"pod{to_int(self.ip):08x}"

    @property
    def mac(self) -> bytes:
        return b"\x0a\x4b" + socket.inet_aton(self.ip)


def make_pod_end(wire: Wire, fabric_fd: int, mtu: int, *, ipv6: bool) -> None:
    """Create the namespace and all that is inside it. The calling thread is left inside the new
    namespace."""
    os.close(os.open(wire.netns_path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    unshare_net()
    bind_mount("/proc/thread-self/ns/net", wire.netns_path)
    if ipv6:
        fd = os.open(_NO_IPV6, os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"1")
        os.close(fd)
    netlink = NetlinkSocket()
    try:
        pair = _pair(wire, "eth0", _ETH0, fabric_fd, mtu)
        address = links.address(_ETH0, wire.ip)
        netlink.send_all((pair, address, _GATEWAY_NEIGHBOUR, _GATEWAY_ROUTE, _LO_UP))
    finally:
        netlink.close()


def make_borrowed_end(wire: Wire, ifname: str, fabric_fd: int, mtu: int) -> None:
    """The same in a namespace that is there already, with the calling thread inside it."""
    index = wire.index
    netlink = NetlinkSocket()
    try:
        netlink.send_all(
            (
                _pair(wire, ifname, index, fabric_fd, mtu),
                links.address(index, wire.ip),
                links.neighbour(index, GATEWAY, GATEWAY_MAC),
                links.route("", index, via=GATEWAY),
                _LO_UP,
            )
        )
    finally:
        netlink.close()


def _pair(wire: Wire, name: str, index: int, fabric_fd: int, mtu: int) -> bytes:
    return links.veth(
        name=name,
        index=index,
        mac=wire.mac,
        peer_name=wire.interface,
        peer_index=wire.index,
        peer_mac=GATEWAY_MAC,
        peer_namespace_fd=fabric_fd,
        mtu=mtu,
    )


def fabric_messages(wire: Wire) -> tuple[bytes, bytes, bytes]:
    """The fabric's side of one pod: its link up, its route and its neighbour."""
    index = wire.index
    return (
        links.link_up(index),
        links.route(f"{wire.ip}/32", index),
        links.neighbour(index, wire.ip, wire.mac),
    )


def unroute_message(wire: Wire) -> bytes:
    """Stop traffic at once; the link follows when the kernel has freed the namespace."""
    return links.route(f"{wire.ip}/32", wire.index, delete=True)


def remove_pod_end(netns_path: str) -> None:
    """Let go of the namespace: the kernel then frees it with its links, in its own time.
    Idempotent."""
    unmount(netns_path)
    Path(netns_path).unlink(missing_ok=True)
