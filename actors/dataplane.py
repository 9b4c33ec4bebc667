"""kube-proxy's plan, handed to netlab: the two houses know nothing of each other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from actors.plan import ClusterPlan
from cluster.proxy import ServicePlan
from netlab import Fabric
from netlab.dataplane import Dataplane, VirtualServer


class DataplaneApplier:
    """The `apply` of a Proxy: one fabric's nftables."""

    def __init__(self, fabric: Fabric, plan: ClusterPlan) -> None:
        self._dataplane = Dataplane(fabric)
        self._addresses = {n.name: n.address for host in plan.hosts for n in host.nodes}

    async def __call__(self, ports: Mapping[str, ServicePlan | None], full: bool) -> None:
        """Program `ports` (None: remove); `full`: exactly these."""
        servers = {
            key: None if port is None else virtual_server(port, self._addresses)
            for key, port in ports.items()
        }
        if full:
            wanted = {key: server for key, server in servers.items() if server is not None}
            await asyncio.to_thread(self._dataplane.replace, wanted)
        else:
            await asyncio.to_thread(self._dataplane.apply, servers)

    def close(self) -> None:
        """Let go; the rules stay."""
        self._dataplane.close()


def virtual_server(port: ServicePlan, addresses: Mapping[str, str]) -> VirtualServer:
    """One Service port in netlab's words; `addresses` are the nodes' by name."""
    local = None
    if port.external_local:
        by_node = port.node_endpoints or {}
        local = {addresses[n]: e for n, e in by_node.items() if n in addresses}
    return VirtualServer(
        address=port.cluster_ip,
        protocol=port.protocol,
        port=port.port,
        endpoints=port.endpoints,
        node_port=port.node_port,
        external=port.external,
        affinity_seconds=port.affinity_seconds,
        local_endpoints=local,
    )
