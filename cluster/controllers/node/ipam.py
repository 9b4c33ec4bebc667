"""Gives every node its part of the pod network: spec.podCIDR (pkg/controller/nodeipam, range
allocator)."""

from __future__ import annotations

import ipaddress

from cluster.api.errors import Conflict, NotFound
from cluster.api.meta import NODES, Object
from cluster.client import run_workers
from cluster.controllers.context import ControllerContext

WORKERS = 30
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class NoRangeLeft(Exception):
    """All ranges of the cluster CIDR are given away."""


def mask_size(cluster_cidr: str, expected_nodes: int, wanted: int = 0) -> int:
    """Prefix length of a node's range.

    `wanted` if given; else /24 (upstream's default), smaller only as far as the expected nodes need
    it.
    """
    network = ipaddress.ip_network(cluster_cidr)
    if wanted:
        return wanted
    usual = 24 if network.version == 4 else 64
    needed = network.prefixlen + max(0, expected_nodes - 1).bit_length()
    return max(usual, min(needed, network.max_prefixlen - 2), network.prefixlen)


class CidrSet:
    """The ranges of one cluster CIDR: which are taken, which comes next."""

    def __init__(self, cluster_cidr: str, mask: int) -> None:
        self._network: Network = ipaddress.ip_network(cluster_cidr)
        self._mask = mask
        self._size = 1 << (self._network.max_prefixlen - mask)
        self._count = 1 << (mask - self._network.prefixlen)
        self._taken: set[int] = set()
        self._next = 0

    def allocate(self) -> str:
        """The next free range, going round, so that one just released is not given out at once."""
        for offset in range(self._count):
            index = (self._next + offset) % self._count
            if index not in self._taken:
                self._taken.add(index)
                self._next = (index + 1) % self._count
                base = self._network.network_address + index * self._size
                return f"{base}/{self._mask}"
        raise NoRangeLeft(str(self._network))

    def occupy(self, cidr: str) -> None:
        """Mark all ranges that `cidr` touches."""
        self._taken.update(self._indexes(cidr))

    def release(self, cidr: str) -> None:
        self._taken.difference_update(self._indexes(cidr))

    def _indexes(self, cidr: str) -> range:
        network = ipaddress.ip_network(cidr, strict=False)
        if network.version != self._network.version or not network.overlaps(self._network):
            return range(0)
        first = max(
            0, (int(network.network_address) - int(self._network.network_address)) // self._size
        )
        last = (int(network.broadcast_address) - int(self._network.network_address)) // self._size
        return range(first, min(last, self._count - 1) + 1)


class NodeIpamController:
    """Allocates a pod CIDR to every node that has none."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        config = context.config
        mask = mask_size(config.cluster_cidr, config.expected_nodes, config.node_cidr_mask_size)
        self._set = CidrSet(config.cluster_cidr, mask)
        self._chosen: dict[str, str] = {}  # node -> range not yet seen on it
        self._recorder = context.recorder("cidrAllocator")
        self._queue = context.queue("cidrallocator_node")
        self._nodes = context.informers.informer(NODES)
        self._nodes.add_handler(self._handle)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(NODES)
        await run_workers(self._queue, self._sync, WORKERS)

    def _handle(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            assert old is not None
            name = old["metadata"]["name"]
            cidr = old["spec"].get("podCIDR") or self._chosen.get(name)
            self._chosen.pop(name, None)
            if cidr:
                self._set.release(cidr)
            return
        name, cidr = new["metadata"]["name"], new.get("spec", {}).get("podCIDR")
        if cidr:
            if old is None or not old.get("spec", {}).get("podCIDR"):
                self._set.occupy(cidr)
            self._chosen.pop(name, None)
        elif "deletionTimestamp" not in new["metadata"]:
            self._queue.add(name)

    async def _sync(self, name: str) -> float | None:
        node = self._nodes.get(name)
        if node is None or node.get("spec", {}).get("podCIDR"):
            return None
        cidr = self._chosen.get(name)
        if cidr is None:
            try:
                cidr = self._chosen[name] = self._set.allocate()
            except NoRangeLeft:
                message = f"Node {name} status is now: CIDRNotAvailable"
                self._recorder.event(node, "Normal", "CIDRNotAvailable", message)
                return 10.0
        patch = {"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}
        try:
            await self._client.patch(NODES, name, patch, patch_type="strategic", answer="none")
        except NotFound:
            self._set.release(self._chosen.pop(name, cidr))
        except Conflict:
            return 0.1
        return None
