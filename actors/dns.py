"""The coredns actor of one host: cluster DNS on the host's DNS address, inside the fabric."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from actors.clients import client_of
from actors.component import Component
from actors.host import open_fabric
from cluster.api.meta import SystemClock
from cluster.client import Client
from cluster.dns import DnsServer, read_resolv_conf
from cluster.metrics.client import ClientMetrics
from cluster.metrics.dns import DnsMetrics
from netlab import Fabric

PORT = 53


class DnsComponent(Component):
    """Plays CoreDNS."""

    _client: Client
    _fabric: Fabric
    _server: DnsServer

    async def start(self) -> None:
        plan, address = self.context.plan, self.context.host.dns_address
        self._fabric = await asyncio.to_thread(
            open_fabric, plan, self.context.host, self.context.instance
        )
        self._client = client_of(self.context, ClientMetrics(self.registry))
        self._server = DnsServer(
            self._client, plan.configuration.cluster_domain, SystemClock(),
            DnsMetrics(self.registry), read_resolv_conf(_resolv_conf()),
            dns_address=plan.dns_service_ip,
        )  # fmt: skip
        udp = self._fabric.socket_in("", socket.SOCK_DGRAM, address, PORT)
        tcp = self._fabric.socket_in("", socket.SOCK_STREAM, address, PORT)
        await self._server.start(udp, tcp)

    async def serve(self) -> None:
        await self._server.run()

    async def stop(self) -> None:
        await self._server.stop()
        await self._client.close()
        await asyncio.to_thread(self._fabric.close)


def _resolv_conf() -> str:
    """The host's own resolvers, for names outside the cluster."""
    try:
        return Path("/etc/resolv.conf").read_text()
    except OSError:
        return ""
