"""A kubelet actor: the kubelets of many nodes, their runtime and their pods' servers in one
process.

What it must not forget is on disk: the runtime's journal, the network's ledger. Started anew after
a kill -9 it finds its pods as they were: same IPs, same container ids, same restart counts.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import socket
from typing import Any

from actors import paths
from actors.clients import client_of
from actors.component import Component
from actors.credentials import CredentialFiles
from actors.host import open_fabric
from actors.plan import KubeletPlan
from actors.podnetwork import FabricPodNetwork
from cluster.api.meta import SystemClock, uid_maker
from cluster.apiserver.tokens import NodeTokens
from cluster.client import Client
from cluster.kubelet import KubeletConfig, KubeletPool, NodeSpec
from cluster.metrics.client import ClientMetrics
from cluster.metrics.cni import CniMetrics
from cluster.metrics.kubelet import KubeletMetrics, RuntimeMetrics
from cluster.runtime import EmulatedPodNetwork, RuntimeConfig, RuntimeService
from cluster.runtime.network import PodNetwork
from netlab import Fabric


class KubeletComponent(Component):
    """Plays kubelet and containerd for the nodes of a KubeletPlan."""

    _client: Client
    _runtime: RuntimeService
    _pool: KubeletPool
    _fabric: Fabric | None = None

    async def start(self) -> None:
        clock = SystemClock()
        self._client = client_of(self.context, ClientMetrics(self.registry))
        tokens = NodeTokens(self.context.node_token_key)
        self._runtime = RuntimeService(
            await self._network(), clock, random.Random(),
            config=RuntimeConfig(state_dir=paths.private_dir(self.context.state_dir / "runtime")),
            metrics=RuntimeMetrics(self.registry),
        )  # fmt: skip
        await self._runtime.start()
        self._pool = KubeletPool(
            self._config(), self._client,
            lambda node: self._client.with_token(tokens.token(node)),
            self._runtime, clock, random.Random(), uid_maker(random.Random()),
            KubeletMetrics(self.registry),
        )  # fmt: skip
        await self._pool.start(self._server_socket())
        for spec in self._nodes():
            self._pool.add_node(spec)

    async def serve(self) -> None:
        await self._pool.run()

    async def stop(self) -> None:
        await self._pool.stop()
        await self._runtime.stop()
        await self._client.close()
        if self._fabric is not None:
            await asyncio.to_thread(self._fabric.close)

    def details(self) -> dict[str, Any]:
        return {"nodes": len(self.plan.nodes)}

    @property
    def plan(self) -> KubeletPlan:
        return self.context.plan.kubelets[self.context.index]

    async def _network(self) -> PodNetwork:
        if self.context.plan.configuration.network == "none":
            return EmulatedPodNetwork()
        self._fabric = await asyncio.to_thread(
            open_fabric, self.context.plan, self.context.host, self.context.instance
        )
        hidden = (str(paths.run_root()), str(paths.data_root()), self.context.data_dir)
        return FabricPodNetwork(self._fabric, CniMetrics(self.registry), hidden)

    def _server_socket(self) -> socket.socket:
        """Where the API server reaches these kubelets: in the fabric, or on the host."""
        if self._fabric is not None:
            return self._fabric.socket_in("", socket.SOCK_STREAM, "0.0.0.0", self.plan.port)
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((self.context.host.host.underlay_ip, 0))
        sock.listen(1024)
        return sock

    def _config(self) -> KubeletConfig:
        settings = self.context.plan.configuration
        files = CredentialFiles(self.context.serving, self.context.state_dir / "serving")
        return KubeletConfig(
            kubernetes_version=f"{settings.minor_version}.0",
            state_dir=paths.private_dir(self.context.state_dir / "kubelet"),
            cluster_dns=(self.context.plan.dns_service_ip,),
            cluster_domain=settings.cluster_domain,
            host_name=socket.gethostname(),
            lease_seconds=int(settings.node_monitor_grace_seconds),
            lease_renew_seconds=settings.lease_renew_seconds,
            tls_cert=str(files.cert),
            tls_key=str(files.key),
            client_ca=str(files.ca),
            real_probes=settings.network == "veth",
        )

    def _nodes(self) -> list[NodeSpec]:
        settings = self.context.plan.configuration
        address = self.context.host.host.underlay_ip
        template = NodeSpec(
            name="", ip="", cpu=settings.node_cpu, memory=settings.node_memory,
            pods=settings.node_pods, labels=settings.node_labels,
        )  # fmt: skip
        veth = settings.network == "veth"
        return [
            dataclasses.replace(template, name=n.name, ip=n.address if veth else address)
            for n in self.plan.nodes
        ]
