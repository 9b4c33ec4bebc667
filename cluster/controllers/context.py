"""What every controller is given: the API, shared caches, time, chance, identity, settings.

Plays ControllerContext of cmd/kube-controller-manager. A controller takes nothing from anywhere
else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from cluster.api.meta import GVR, Clock, NewUid
from cluster.client import Client, EventRecorder, FlowReporter, InformerFactory, WorkQueue
from cluster.controllers.podindex import PodIndex
from cluster.metrics.controllers import ControllerMetrics


@dataclass(frozen=True, slots=True)
class ControllerConfig:
    """Settings of the controller manager, named as kube-controller-manager's flags; seconds where
    not said."""

    kubernetes_version: str = "1.37"
    host: str = "kubestage"
    cluster_cidr: str = "10.244.0.0/16"
    allocate_node_cidrs: bool = True
    node_cidr_mask_size: int = 0  # 0: as large as `expected_nodes` leaves room for, at most a /24
    expected_nodes: int = 100
    root_ca_pem: str = ""
    burst_replicas: int = 500
    node_monitor_period: float = 5.0
    node_monitor_grace_period: float = 40.0
    node_startup_grace_period: float = 60.0
    node_eviction_rate: float = 0.1  # nodes a second and zone
    secondary_node_eviction_rate: float = 0.01
    unhealthy_zone_threshold: float = 0.55
    large_cluster_size_threshold: int = 50
    terminated_pod_gc_threshold: int = 12500
    pod_gc_period: float = 20.0
    max_endpoints_per_slice: int = 100
    endpoint_batch_period: float = 0.1
    status_batch_period: float = 0.1
    discovery_period: float = 30.0

    @property
    def minor(self) -> int:
        """The minor version of `kubernetes_version`: 37 of "1.37"."""
        return int(self.kubernetes_version.removeprefix("v").split(".")[1])

    @property
    def counts_terminating_replicas(self) -> bool:
        """status.terminatingReplicas of ReplicaSets and Deployments: on by default since 1.35."""
        return self.minor >= 35


@dataclass(slots=True)
class ControllerContext:
    """Everything a controller may use. `pods` is the shared index over the pods informer."""

    client: Client
    informers: InformerFactory
    config: ControllerConfig
    clock: Clock
    rng: Random
    new_uid: NewUid
    metrics: ControllerMetrics
    pods: PodIndex
    flow: FlowReporter
    _recorders: dict[str, EventRecorder] = field(default_factory=dict)

    def recorder(self, component: str) -> EventRecorder:
        """The event recorder of one controller, e.g. `replicaset-controller`."""
        found = self._recorders.get(component)
        if found is None:
            found = EventRecorder(self.client, component, "", self.clock, self.new_uid)
            self._recorders[component] = found
        return found

    def queue(self, name: str) -> WorkQueue:
        """A work queue under upstream's name."""
        return WorkQueue(name, self.clock, self.metrics.workqueue)

    async def wait_synced(self, *gvrs: GVR) -> None:
        """Until these types have been listed once and every handler has seen them."""
        for gvr in gvrs:
            await self.informers.informer(gvr).wait_synced()
