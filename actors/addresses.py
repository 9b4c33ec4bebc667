"""Address ranges that are free on this machine, for the settings that the user left open.

Two clusters side by side, or a host whose own networks use the usual ranges, get other ones: the
host's routes to a cluster's ranges must not hide anything.
"""

from __future__ import annotations

import dataclasses
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Network
from pathlib import Path

from actors.configuration import ClusterConfiguration
from actors.errors import UserError

CANDIDATES = 8
SMALL_CLUSTER_NODES = 200
"""Up to here a /16 holds a /24 a node, with a quarter more nodes to come."""


def with_free_ranges(
    settings: ClusterConfiguration, taken: Iterable[IPv4Network]
) -> ClusterConfiguration:
    """Fill in the ranges that are ''. Raises UserError where all candidates are taken, or where
    given ranges overlap each other."""
    used = list(taken)
    chosen: dict[str, str] = {}
    for name in ("service_cidr", "node_cidr", "pod_cidr"):
        given = getattr(settings, name)
        network = IPv4Network(given) if given else _first_free(name, settings.nodes, used)
        for other in chosen.values():
            if network.overlaps(IPv4Network(other)):
                raise UserError(f"{name.replace('_', '-')} {network} overlaps {other}")
        used.append(network)
        chosen[name] = str(network)
    return dataclasses.replace(settings, **chosen)  # type: ignore[arg-type]


def _first_free(name: str, nodes: int, used: list[IPv4Network]) -> IPv4Network:
    for network in _candidates(name, nodes):
        if not any(network.overlaps(other) for other in used):
            return network
    flag = "--" + name.replace("_", "-")
    raise UserError(f"every usual range is in use on this machine: choose one with {flag}")


def _candidates(name: str, nodes: int) -> list[IPv4Network]:
    if name == "service_cidr":
        return [IPv4Network(f"10.{96 + k}.0.0/16") for k in range(CANDIDATES)]
    if name == "node_cidr":
        return [IPv4Network(f"172.{30 - k}.0.0/16") for k in range(CANDIDATES)]
    if nodes <= SMALL_CLUSTER_NODES:
        return [IPv4Network(f"10.{244 - k}.0.0/16") for k in range(CANDIDATES)]
    return [IPv4Network("10.128.0.0/9"), IPv4Network("10.0.0.0/10"), IPv4Network("10.64.0.0/11")]


def host_networks(path: Path = Path("/proc/net/route")) -> list[IPv4Network]:
    """What this machine has routes to, the default route left out."""
    networks = []
    for line in path.read_text().splitlines()[1:]:
        fields = line.split()
        address, mask = (struct.pack("=L", int(fields[i], 16)) for i in (1, 7))
        network = IPv4Network(f"{socket.inet_ntoa(address)}/{socket.inet_ntoa(mask)}")
        if network.prefixlen:
            networks.append(network)
    return networks
