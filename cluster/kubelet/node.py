"""One emulated node: its identity, what its pods hold, and its own object in the API.

Plays the node half of pkg/kubelet/kubelet_node_status.go. The pool beats its heart (heartbeat.py).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.api.errors import StatusError
from cluster.api.meta import NODES, Clock, Object
from cluster.client import Client, EventRecorder
from cluster.client.flow import FlowReporter
from cluster.kubelet.admission import Allocations, Refusal
from cluster.kubelet.backoff import Backoff
from cluster.kubelet.config import KubeletConfig, NodeSpec
from cluster.kubelet.environment import service_environment
from cluster.kubelet.nodestatus import allocatable_amounts
from cluster.kubelet.statusmanager import StatusManager
from cluster.kubelet.volumes import SourceCache, VolumeManager
from cluster.metrics.kubelet import KubeletMetrics
from cluster.runtime.service import RuntimeService

if TYPE_CHECKING:
    from cluster.client import Informer
    from cluster.kubelet.worker import PodWorker

log = logging.getLogger(__name__)


@dataclass(slots=True)
class PoolContext:
    """What the nodes of one process share."""

    config: KubeletConfig
    runtime: RuntimeService
    clock: Clock
    metrics: KubeletMetrics
    sources: SourceCache
    volumes: VolumeManager
    statuses: StatusManager
    flow: FlowReporter
    services: Informer | None = None
    server_port: int = 0
    by_container: dict[str, PodWorker] = field(default_factory=dict)
    service_env: dict[tuple[str, bool], Mapping[str, str]] = field(default_factory=dict)

    def services_of(self, namespace: str, links: bool) -> Mapping[str, str]:
        """Service variables of a namespace, made once until a Service changes."""
        found = self.service_env.get((namespace, links))
        if found is None:
            listed = self.services.list() if self.services is not None else ()
            found = service_environment(listed, namespace, links)
            self.service_env[namespace, links] = found
        return found


class NodeAgent:
    """State of one node. `node` is its object as the API last showed it."""

    __slots__ = (
        "allocations",
        "client",
        "context",
        "crash_backoff",
        "image_backoff",
        "lease",
        "lease_due",
        "node",
        "pod_cidr",
        "recorder",
        "registered",
        "reported_images",
        "spec",
        "status_due",
        "workers",
    )  # fmt: skip

    def __init__(
        self, context: PoolContext, spec: NodeSpec, client: Client, recorder: EventRecorder
    ) -> None:
        config = context.config
        self.context = context
        self.spec = spec
        self.client = client
        self.recorder = recorder
        self.node: Object | None = None
        self.lease: Object | None = None
        self.pod_cidr = spec.pod_cidr
        self.registered = False
        self.reported_images = 0
        self.lease_due = 0.0
        self.status_due = 0.0
        self.workers: dict[str, PodWorker] = {}
        self.allocations = Allocations(allocatable_amounts(spec, config))
        self.crash_backoff = Backoff(
            config.crash_backoff_initial_seconds, config.crash_backoff_max_seconds
        )
        self.image_backoff = Backoff(
            config.image_backoff_initial_seconds, config.image_backoff_max_seconds
        )

    @property
    def name(self) -> str:
        return self.spec.name

    def admit(self, uid: str, pod: Object) -> Refusal | None:
        """Take the pod in, or say why not."""
        node = self.node or {"metadata": {"labels": dict(self.spec.labels)}}
        return self.allocations.admit(uid, pod, node)

    def mismatch(self, pod: Object) -> bool:
        """Whether the node, as we know it, does not match the pod's selector or affinity."""
        return self.node is not None and self.allocations.selector(pod, self.node) is not None

    async def refresh(self) -> None:
        """Read the node again; without an answer what is known stays."""
        try:
            self.node = await self.client.get(NODES, self.name)
        except StatusError as error:
            log.warning("node %s cannot be read: %s", self.name, error)

    def normal(self, pod: Object, reason: str, message: str, field_path: str = "") -> None:
        self.recorder.event(pod, "Normal", reason, message, field_path=field_path)

    def warn(self, pod: Object, reason: str, message: str, field_path: str = "") -> None:
        self.recorder.event(pod, "Warning", reason, message, field_path=field_path)
