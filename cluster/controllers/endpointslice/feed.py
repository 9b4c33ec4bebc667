"""Tells which Services have work to do, and for which of their pods: one feed for slices and
Endpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.api.meta import NODES, SERVICES, Object
from cluster.client import WorkQueue
from cluster.controllers.context import ControllerContext
from cluster.controllers.endpointslice.selection import Selection
from cluster.controllers.podindex import PodChange

ZONE = "topology.kubernetes.io/zone"
QUIET_SECONDS = 0.01


@dataclass(slots=True)
class Dirty:
    """What changed about a Service since it was last reconciled. `everything`: start from the
    stored objects."""

    everything: bool = True
    pods: set[str] = field(default_factory=set)
    since: float = 0.0  # wall time of the first change

    @property
    def clean(self) -> bool:
        return not (self.everything or self.pods)

    def take(self) -> Dirty:
        taken = Dirty(self.everything, self.pods, self.since)
        self.everything, self.pods = False, set()
        return taken


class ServiceFeed:
    """Follows Services, pods and node zones. `subscribe(fn)`: fn(service key, pod keys or None for
    everything)."""

    def __init__(self, context: ControllerContext) -> None:
        self.selection = Selection()
        self.services = context.informers.informer(SERVICES)
        self._nodes = context.informers.informer(NODES)
        self._subscribers: list[Callable[[str, set[str] | None], None]] = []
        self.services.add_handler(self._handle_service)
        self._nodes.add_handler(self._handle_node)
        context.pods.subscribe(self._handle_pods)

    def subscribe(self, handler: Callable[[str, set[str] | None], None]) -> None:
        self._subscribers.append(handler)

    def zone_of(self, node: str) -> str:
        found = self._nodes.get(node) if node else None
        return str(((found or {}).get("metadata", {}).get("labels") or {}).get(ZONE, ""))

    def _handle_service(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        key = f"{meta['namespace']}/{meta['name']}"
        self.selection.handle_service(key, new)
        self._tell(key, None)

    def _handle_pods(self, changes: list[PodChange]) -> None:
        dirty: dict[str, set[str]] = {}
        for change in changes:
            for service in self.selection.touched(change):
                dirty.setdefault(service, set()).add(change.key)
        for service, pods in dirty.items():
            self._tell(service, pods)

    def _handle_node(self, old: Object | None, new: Object | None) -> None:
        """A node that moved to another zone: its pods' endpoints say so. Nodes come with their
        zone."""
        if old is None or new is None or _zone(old) == _zone(new):
            return
        for service in self.services.list():
            self._tell(f"{service['metadata']['namespace']}/{service['metadata']['name']}", None)

    def _tell(self, service: str, pods: set[str] | None) -> None:
        for subscriber in self._subscribers:
            subscriber(service, pods)


class Pace:
    """When a Service may be reconciled next: soon if it was quiet, else after a pause that grows
    with its size.

    Unlike Kubernetes: upstream's queue has no such pause but few writes a second; ours keeps the
    work for n pods that become ready one by one at n and not n squared.
    """

    def __init__(self, context: ControllerContext, seconds_per_endpoint: float) -> None:
        self._clock = context.clock
        self._period = context.config.endpoint_batch_period
        self._per_endpoint = seconds_per_endpoint
        self._next: dict[str, float] = {}

    def schedule(self, queue: WorkQueue, key: str) -> None:
        wait = self._next.get(key, 0.0) - self._clock.monotonic()
        queue.add_after(key, max(QUIET_SECONDS, wait))

    def wrote(self, key: str, endpoints: int) -> None:
        """`key` was written just now and has so many endpoints."""
        self._next[key] = self._clock.monotonic() + self._period + endpoints * self._per_endpoint

    def forget(self, key: str) -> None:
        self._next.pop(key, None)


def _zone(node: Object) -> str:
    return str((node["metadata"].get("labels") or {}).get(ZONE, ""))
