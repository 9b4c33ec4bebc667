"""The controller manager: makes the shared caches, makes the controllers, runs them until told to
stop.

Plays cmd/kube-controller-manager. The table below is the whole composition; a controller that is
not in it does not run. Room is kept for: persistent volume binding, attach/detach, horizontal pod
autoscaling, certificate signing, token cleaning. Quotas are counted by their admission plugin,
aggregated ClusterRoles by the API server.
"""

from __future__ import annotations

import asyncio
import logging
from random import Random
from typing import Protocol

from cluster.api.meta import PODS, Clock, NewUid
from cluster.client import Client, FlowReporter, InformerFactory
from cluster.controllers.context import ControllerConfig, ControllerContext
from cluster.controllers.daemonset import DaemonSetController
from cluster.controllers.deployment import DeploymentController
from cluster.controllers.disruption import DisruptionController
from cluster.controllers.endpointslice import (
    EndpointsController,
    EndpointSliceController,
    EndpointSliceMirroringController,
)
from cluster.controllers.endpointslice.feed import ServiceFeed
from cluster.controllers.garbagecollector import GarbageCollector
from cluster.controllers.job import (
    CronJobController,
    JobController,
    TtlAfterFinishedController,
)
from cluster.controllers.namespace import NamespaceController
from cluster.controllers.node import (
    NodeIpamController,
    NodeLifecycleController,
    TaintEvictionController,
)
from cluster.controllers.podgc import PodGarbageCollector
from cluster.controllers.podindex import PodIndex
from cluster.controllers.replicaset import REPLICASET, REPLICATIONCONTROLLER, ReplicaSetController
from cluster.controllers.serviceaccount import RootCaPublisher, ServiceAccountController
from cluster.controllers.statefulset import StatefulSetController
from cluster.controllers.storageprotection import (
    ClaimProtectionController,
    VolumeProtectionController,
)
from cluster.metrics.controllers import ControllerMetrics

log = logging.getLogger("kubestage.controllers")

RESTART_SECONDS = 1.0


class Controller(Protocol):
    """What the manager runs. `run` ends only by being cancelled."""

    async def run(self) -> None: ...


class ControllerManager:
    """All controllers of a cluster, over one client."""

    def __init__(
        self,
        client: Client,
        config: ControllerConfig,
        clock: Clock,
        rng: Random,
        new_uid: NewUid,
        metrics: ControllerMetrics,
    ) -> None:
        self.informers = InformerFactory(client, clock=clock, rng=rng)
        pods = PodIndex()
        self.informers.informer(PODS).add_handler_batch(pods.handle_batch)
        flow = FlowReporter(client, clock)
        self.context = ControllerContext(
            client, self.informers, config, clock, rng, new_uid, metrics, pods, flow
        )
        self.controllers = make_controllers(self.context)

    async def run(self) -> None:
        """Until cancelled: start the caches, then every controller; one that fails is started
        again."""
        self.informers.start()
        tasks = [
            asyncio.create_task(self._keep_running(name, controller), name=f"controller {name}")
            for name, controller in self.controllers.items()
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.context.flow.close()
            await self.informers.stop()

    async def wait_synced(self) -> None:
        """Until every cache is filled: from then on every object is looked after."""
        await self.informers.wait_synced()

    async def _keep_running(self, name: str, controller: Controller) -> None:
        while True:
            try:
                await controller.run()
                return
            except Exception:
                log.exception("controller %s failed; starting it again", name)
            await asyncio.sleep(RESTART_SECONDS)


def make_controllers(context: ControllerContext) -> dict[str, Controller]:
    """Every controller, by upstream's name, in the order in which they see events."""
    feed = ServiceFeed(context)
    controllers: dict[str, Controller] = {
        "replicaset-controller": ReplicaSetController(context, REPLICASET),
        "replicationcontroller-controller": ReplicaSetController(context, REPLICATIONCONTROLLER),
        "deployment-controller": DeploymentController(context),
        "statefulset-controller": StatefulSetController(context),
        "daemonset-controller": DaemonSetController(context),
        "job-controller": JobController(context),
        "cronjob-controller": CronJobController(context),
        "ttl-after-finished-controller": TtlAfterFinishedController(context),
        "disruption-controller": DisruptionController(context),
        "endpointslice-controller": EndpointSliceController(context, feed),
        "endpoints-controller": EndpointsController(context, feed),
        "endpointslice-mirroring-controller": EndpointSliceMirroringController(context),
        "persistentvolumeclaim-protection-controller": ClaimProtectionController(context),
        "persistentvolume-protection-controller": VolumeProtectionController(context),
        "namespace-controller": NamespaceController(context),
        "serviceaccount-controller": ServiceAccountController(context),
        "root-ca-certificate-publisher-controller": RootCaPublisher(context),
        "node-lifecycle-controller": NodeLifecycleController(context),
        "taint-eviction-controller": TaintEvictionController(context),
        "pod-garbage-collector-controller": PodGarbageCollector(context),
        "garbage-collector-controller": GarbageCollector(context),
    }
    if context.config.allocate_node_cidrs:
        controllers["node-ipam-controller"] = NodeIpamController(context)
    return controllers
