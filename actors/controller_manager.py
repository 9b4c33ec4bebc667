"""The kube-controller-manager actor."""

from __future__ import annotations

import random

from actors.clients import client_of
from actors.component import Component
from cluster.api.meta import SystemClock, uid_maker
from cluster.client import Client
from cluster.controllers.context import ControllerConfig
from cluster.controllers.manager import ControllerManager
from cluster.metrics.client import ClientMetrics
from cluster.metrics.controllers import ControllerMetrics


class ControllerManagerComponent(Component):
    """Plays kube-controller-manager."""

    _client: Client
    _manager: ControllerManager

    async def start(self) -> None:
        self._client = client_of(self.context, ClientMetrics(self.registry))
        plan = self.context.plan
        config = ControllerConfig(
            kubernetes_version=plan.configuration.minor_version,
            cluster_cidr=plan.configuration.pod_cidr,
            node_cidr_mask_size=plan.node_cidr_mask,
            expected_nodes=plan.configuration.nodes,
            node_monitor_grace_period=plan.configuration.node_monitor_grace_seconds,
            root_ca_pem=self.context.client.ca.decode(),
        )
        self._manager = ControllerManager(
            self._client, config, SystemClock(), random.Random(), uid_maker(random.Random()),
            ControllerMetrics(self.registry),
        )  # fmt: skip

    async def serve(self) -> None:
        await self._manager.run()

    async def stop(self) -> None:
        await self._client.close()
