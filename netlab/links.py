"""Route-netlink messages as bytes: links, addresses, routes, neighbours (linux/rtnetlink.h,
if_link.h).

Pure functions. Interface indexes are chosen by the caller, so that all messages of a pod are known
before the first one is sent and travel in one batch.
"""

from __future__ import annotations

import socket
import struct

from netlab.netlink import (
    CREATE,
    EXCLUSIVE,
    REPLACE,
    attribute,
    be16,
    message,
    nested,
    text,
    u8,
    u32,
)

NEWLINK, DELLINK, GETLINK, NEWADDR, DELADDR, GETADDR = 16, 17, 18, 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE, NEWNEIGH, DELNEIGH, GETNEIGH = 24, 25, 26, 28, 29, 30
IFF_UP = 1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFLA_GSO_MAX_SIZE = 41
_MAIN, _STATIC, _UNICAST, _SCOPE_LINK, _ONLINK = 254, 4, 1, 253, 4
_SCOPE_NOWHERE = 255
"""In a deletion: whatever the scope is."""
_AF_BRIDGE, _NUD_PERMANENT, _NTF_SELF = 7, 0x80, 2


def info(index: int, *, up: bool = False, family: int = 0) -> bytes:
    """struct ifinfomsg."""
    return struct.pack("=BxHiII", family, 0, index, IFF_UP if up else 0, IFF_UP if up else 0)


def veth(
    *,
    name: str,
    index: int,
    mac: bytes,
    peer_name: str,
    peer_index: int,
    peer_mac: bytes,
    peer_namespace_fd: int,
    mtu: int,
    up: bool = True,
) -> bytes:
    """A pair: one end here, the other straight in its own namespace. Only this end can be born
    up."""
    peer = nested(
        _VETH_PEER,
        info(peer_index),
        text(_IFLA_IFNAME, peer_name),
        attribute(_IFLA_ADDRESS, peer_mac),
        u32(_IFLA_MTU, mtu),
        u32(_IFLA_NET_NS_FD, peer_namespace_fd),
    )
    return message(
        NEWLINK,
        CREATE | EXCLUSIVE,
        info(index, up=up),
        text(_IFLA_IFNAME, name),
        attribute(_IFLA_ADDRESS, mac),
        u32(_IFLA_MTU, mtu),
        nested(_IFLA_LINKINFO, text(_INFO_KIND, "veth"), nested(_INFO_DATA, peer)),
    )


def vxlan(
    *,
    name: str,
    index: int,
    mac: bytes,
    vni: int,
    local: str,
    port: int,
    mtu: int,
    namespace_fd: int,
) -> bytes:
    """A VXLAN device without learning, created straight in another namespace; its UDP socket stays
    here."""
    data = nested(
        _INFO_DATA,
        u32(1, vni),
        attribute(4, socket.inet_aton(local)),
        u8(7, 0),
        be16(15, port),
    )
    return message(
        NEWLINK,
        CREATE | EXCLUSIVE,
        info(index, up=True),
        text(_IFLA_IFNAME, name),
        attribute(_IFLA_ADDRESS, mac),
        u32(_IFLA_MTU, mtu),
        u32(_IFLA_NET_NS_FD, namespace_fd),
        nested(_IFLA_LINKINFO, text(_INFO_KIND, "vxlan"), data),
    )


def link_up(index: int) -> bytes:
    return message(NEWLINK, 0, info(index, up=True))


def no_ipv6_addresses(index: int) -> bytes:
    """Make no IPv6 address by itself when the link comes up."""
    mode = nested(26, nested(socket.AF_INET6, u8(8, 1)))
    return message(NEWLINK, 0, info(index), mode)


def delete_link(index: int = 0, name: str = "") -> bytes:
    return message(DELLINK, 0, info(index), text(_IFLA_IFNAME, name) if name else b"")


def address(index: int, ip: str, *, delete: bool = False, prefix: int = 32) -> bytes:
    """An address of an interface; by default a /32 in global scope."""
    packed = socket.inet_aton(ip)
    return message(
        DELADDR if delete else NEWADDR,
        0 if delete else CREATE | REPLACE,
        struct.pack("=BBBBI", socket.AF_INET, prefix, 0, 0, index),
        attribute(2, packed),
        attribute(1, packed),
    )


def route(
    cidr: str, index: int, *, via: str = "", source: str = "", delete: bool = False, mtu: int = 0
) -> bytes:
    """A route to `cidr` ('' is the default route) out of an interface, by a gateway taken as
    on-link."""
    ip, _, prefix = cidr.partition("/")
    length = int(prefix) if prefix else (32 if ip else 0)
    scope = _SCOPE_NOWHERE if delete else 0 if via else _SCOPE_LINK
    parts = [
        struct.pack(
            "=BBBBBBBBI", 2, length, 0, 0, _MAIN, _STATIC, scope, _UNICAST, _ONLINK if via else 0
        ),
        u32(4, index),
    ]
    if length:
        parts.append(attribute(1, socket.inet_aton(ip)))
    if via:
        parts.append(attribute(5, socket.inet_aton(via)))
    if source:
        parts.append(attribute(7, socket.inet_aton(source)))
    if mtu:
        parts.append(nested(8, u32(2, mtu)))
    return message(DELROUTE if delete else NEWROUTE, 0 if delete else CREATE | REPLACE, *parts)


def unreachable(cidr: str) -> bytes:
    """Refuse what no better route leads to."""
    ip, _, prefix = cidr.partition("/")
    return message(
        NEWROUTE,
        CREATE | REPLACE,
        struct.pack("=BBBBBBBBI", 2, int(prefix), 0, 0, _MAIN, _STATIC, 0, 7, 0),
        attribute(1, socket.inet_aton(ip)),
        u32(6, 4096),
    )


def neighbour(index: int, ip: str, mac: bytes, *, delete: bool = False) -> bytes:
    """A permanent ARP entry."""
    return message(
        DELNEIGH if delete else NEWNEIGH,
        0 if delete else CREATE | REPLACE,
        struct.pack("=BxxxiHBB", socket.AF_INET, index, _NUD_PERMANENT, 0, 0),
        attribute(1, socket.inet_aton(ip)),
        attribute(2, mac),
    )


def forwarding_entry(index: int, mac: bytes, underlay: str, *, delete: bool = False) -> bytes:
    """A static VXLAN forwarding entry: frames to `mac` go to host `underlay`."""
    return message(
        DELNEIGH if delete else NEWNEIGH,
        0 if delete else CREATE | REPLACE,
        struct.pack("=BxxxiHBB", _AF_BRIDGE, index, _NUD_PERMANENT, _NTF_SELF, 0),
        attribute(2, mac),
        attribute(1, socket.inet_aton(underlay)),
    )
