"""The kube-proxy actor of one host: Services into nftables, and routes to the other hosts' pods.

The second part is what flannel does beside kube-proxy: it follows the Nodes' podCIDRs.
"""

from __future__ import annotations

import asyncio

from actors.clients import client_of
from actors.component import Component
from actors.dataplane import DataplaneApplier
from actors.host import open_fabric
from actors.routes import follow_nodes
from cluster.api.meta import SystemClock
from cluster.client import Client
from cluster.metrics.client import ClientMetrics
from cluster.metrics.proxy import ProxyMetrics
from cluster.proxy import Proxy
from netlab import Fabric
from netlab.census import take_census


class ProxyComponent(Component):
    """Plays kube-proxy in nftables mode."""

    _client: Client
    _fabric: Fabric
    _applier: DataplaneApplier
    _proxy: Proxy

    async def start(self) -> None:
        plan = self.context.plan
        self._fabric = await asyncio.to_thread(
            open_fabric, plan, self.context.host, self.context.instance
        )
        self._client = client_of(self.context, ClientMetrics(self.registry))
        applier = DataplaneApplier(self._fabric, plan)
        self._proxy = Proxy(self._client, applier, SystemClock(), ProxyMetrics(self.registry))

    async def serve(self) -> None:
        work = [self._proxy.run()]
        if len(self.context.plan.hosts) > 1:
            work.append(follow_nodes(self._client, self._fabric, self.context))
        await asyncio.gather(*work)

    def census(self) -> dict[str, int]:
        """What the kernel has in this host's fabric, counted."""
        found = take_census(self._fabric)
        return {
            "podLinks": len(found.pod_links),
            "podRoutes": len(found.pod_routes),
            "nodeAddresses": len(found.node_addresses),
        }

    async def stop(self) -> None:
        await self._client.close()
        await asyncio.to_thread(self._applier.close)
        await asyncio.to_thread(self._fabric.close)
