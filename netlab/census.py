"""What the kernel really has in a fabric: links, addresses, routes, read back with pyroute2.

The fabric writes its messages by hand, for speed (pods.py, links.py); this is the independent look
at what came of them, through a library that knows nothing of ours. For `status`, tests, checkers:
about a tenth of a millisecond a link.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from pyroute2 import IPRoute

from netlab.fabric import Fabric


@dataclass(frozen=True, slots=True)
class Census:
    """Names of pod links, addresses of nodes (on the loopback), and where /32 routes lead."""

    pod_links: tuple[str, ...]
    other_links: tuple[str, ...]
    node_addresses: tuple[str, ...]
    pod_routes: dict[str, str]


def take_census(fabric: Fabric) -> Census:
    """Read the fabric's namespace. Blocks; may be called from any thread."""
    return fabric.call_in("", _read)


def _read() -> Census:
    """In the fabric's thread and namespace: no process is forked, unlike pyroute2's own NetNS."""
    with IPRoute() as netlink:
        names = {link["index"]: link.get("ifname") for link in netlink.get_links()}
        addresses = [
            a.get("address")
            for a in netlink.get_addr(family=socket.AF_INET)
            if names.get(a["index"]) == "lo" and a["prefixlen"] == 32
        ]
        routes = {
            route.get("dst"): names.get(route.get("oif"), "")
            for route in netlink.get_routes(family=socket.AF_INET)
            if route["dst_len"] == 32
        }
    pods = sorted(name for name in names.values() if name.startswith("pod"))
    others = sorted(name for name in names.values() if not name.startswith("pod"))
    kept = {dst: link for dst, link in routes.items() if link.startswith("pod")}
    return Census(tuple(pods), tuple(others), tuple(sorted(addresses)), kept)
