"""Which pods and nodes lie behind which host: flannel's part, out of the Nodes' podCIDRs."""

from __future__ import annotations

import asyncio

from actors.context import Context
from actors.plan import ClusterPlan
from cluster.api.meta import NODES, Object
from cluster.client import Client, Informer
from netlab import Fabric, Peer

SETTLE_SECONDS = 0.1
"""Changes of nodes that come within this time are applied together."""


def plan_peers(plan: ClusterPlan, own_index: int, nodes: list[Object]) -> list[Peer]:
    """The other hosts, each with the podCIDRs and addresses of its nodes."""
    cidrs = {n["metadata"]["name"]: n.get("spec", {}).get("podCIDR", "") for n in nodes}
    peers = []
    for host in plan.hosts:
        if host.index == own_index:
            continue
        behind = tuple(c for node in host.nodes if (c := cidrs.get(node.name, "")))
        addresses = (host.dns_address, *(node.address for node in host.nodes))
        peers.append(Peer(host.host.underlay_ip, host.address, behind, addresses))
    return peers


async def follow_nodes(client: Client, fabric: Fabric, context: Context) -> None:
    """Keep the fabric's peers as the Nodes say. Runs until cancelled."""
    informer = Informer(client, NODES)
    changed = asyncio.Event()

    def note(old: Object | None, new: Object | None) -> None:
        before = (old or {}).get("spec", {}).get("podCIDR")
        if before != (new or {}).get("spec", {}).get("podCIDR"):
            changed.set()

    informer.add_handler(note)
    running = asyncio.ensure_future(informer.run())
    try:
        await informer.wait_synced()
        changed.set()
        while True:
            await changed.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            changed.clear()
            peers = plan_peers(context.plan, context.host_index, list(informer.list()))
            await asyncio.wrap_future(fabric.submit(fabric.set_peers, peers))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
