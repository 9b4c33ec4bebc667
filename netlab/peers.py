"""Other hosts of the cluster: what must change when hosts join, leave or get other nodes. Pure.

Flannel's way with VXLAN: no learning, no broadcast. Each host's tunnel MAC follows from its address
in the node range, so the forwarding entry, the neighbour and the routes of a peer are known without
a single packet.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from netlab import links
from netlab.hostlink import UPLINK, VXLAN, vxlan_mac
from netlab.netlink import NetlinkSocket, attributes
from netlab.values import FabricConfig, Peer


@dataclass(slots=True)
class PeerPlan:
    """`device`: the VXLAN device is needed."""

    device: bool = False
    removals: list[bytes] = field(default_factory=list)
    additions: list[bytes] = field(default_factory=list)


def plan_peers(
    config: FabricConfig, current: Mapping[str, Peer], wanted: Mapping[str, Peer]
) -> PeerPlan:
    """Messages from `current` to `wanted`, both by host address."""
    plan = PeerPlan(device=any(not p.direct for p in wanted.values()))
    for key, old in current.items():
        new = wanted.get(key)
        if new is None or _tunnel(new) != _tunnel(old):
            plan.removals += [links.route(d, _device(old), delete=True) for d in _behind(old)]
            plan.removals += _tunnel_messages(old, delete=True)
        else:
            gone = set(_behind(old)) - set(_behind(new))
            plan.removals += [links.route(d, _device(old), delete=True) for d in sorted(gone)]
    for key, new in wanted.items():
        before = current.get(key)
        known: set[str] = set()
        if before is None or _tunnel(before) != _tunnel(new):
            plan.additions += _tunnel_messages(new, delete=False)
        else:
            known = set(_behind(before))
        plan.additions += [_route(config, d, new) for d in _behind(new) if d not in known]
    return plan


def stale_routes(netlink: NetlinkSocket, wanted: Mapping[str, Peer]) -> list[bytes]:
    """Removals of tunnel routes that a process before this one left and nobody wants."""
    known = {_with_length(d) for p in wanted.values() if not p.direct for d in _behind(p)}
    stale = []
    for payload in netlink.dump(links.GETROUTE, struct.pack("=B11x", socket.AF_INET)):
        found = dict(attributes(payload, 12))
        if found.get(4) == struct.pack("=I", VXLAN) and 1 in found:
            cidr = f"{socket.inet_ntoa(found[1])}/{payload[1]}"
            if cidr not in known:
                stale.append(links.route(cidr, VXLAN, delete=True))
    return stale


def _with_length(cidr: str) -> str:
    return cidr if "/" in cidr else f"{cidr}/32"


def _tunnel(peer: Peer) -> tuple[str, bool]:
    return peer.underlay_ip, peer.direct


def _device(peer: Peer) -> int:
    return UPLINK if peer.direct else VXLAN


def _behind(peer: Peer) -> list[str]:
    """Every destination of a peer: its host address first, for the others go through it."""
    return [f"{peer.host_address}/32", *peer.cidrs, *(f"{a}/32" for a in peer.node_addresses)]


def _route(config: FabricConfig, destination: str, peer: Peer) -> bytes:
    if peer.direct:
        return links.route(destination, UPLINK, via=config.host_address)
    return links.route(destination, VXLAN, via=peer.host_address)


def _tunnel_messages(peer: Peer, *, delete: bool) -> list[bytes]:
    if peer.direct:
        return []
    mac = vxlan_mac(peer.host_address)
    return [
        links.forwarding_entry(VXLAN, mac, peer.underlay_ip, delete=delete),
        links.neighbour(VXLAN, peer.host_address, mac, delete=delete),
    ]
