"""Changes of the cluster on their way into the cache and the queue. Plays eventhandlers.go."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence

from cluster.api.meta import Clock, Object, object_key
from cluster.client import Change
from cluster.scheduler.cache import Cache
from cluster.scheduler.events import ClusterEvent, node_events
from cluster.scheduler.scheduling_queue import SchedulingQueue


class EventHandlers:
    """Handlers for the informers; `wake` is set when there may be something to schedule."""

    def __init__(
        self,
        cache: Cache,
        queue: SchedulingQueue,
        profiles: Container[str],
        clock: Clock,
        wake: asyncio.Event,
    ) -> None:
        self._cache = cache
        self._queue = queue
        self._profiles = profiles
        self._clock = clock
        self._wake = wake

    def handle_storage(self, kind: str, changes: Sequence[Change]) -> None:
        """Claims, volumes and classes."""
        self._cache.nodes.new_epoch()
        self.happened(
            [ClusterEvent(kind, "Update" if old else "Add", old, new) for old, new in changes]
        )

    def handle_namespaces(self, changes: Sequence[Change]) -> None:
        """Affinity terms may select namespaces by their labels."""
        self._cache.nodes.new_epoch()
        self.happened([ClusterEvent("Namespace", "Update", old, new) for old, new in changes])

    def handle_nodes(self, changes: Sequence[Change]) -> None:
        events: list[ClusterEvent] = []
        for old, new in changes:
            if new is not None:
                self._cache.nodes.set_node(new)
            elif old is not None:
                self._cache.nodes.remove_node(old["metadata"]["name"])
            events.extend(node_events(old, new))
        self.happened(events)

    def handle_pods(self, changes: Sequence[Change]) -> None:
        events: list[ClusterEvent] = []
        now = self._clock.monotonic()
        for old, new in changes:
            if new is None or _terminal(new):
                gone = old if new is None else new
                if gone is not None:
                    self._pod_gone(gone, events)
            elif new["spec"].get("nodeName"):
                self._pod_assigned(old, new, events)
            else:
                self._pod_waiting(old, new, now)
        self.happened(events)

    def _pod_gone(self, obj: Object, events: list[ClusterEvent]) -> None:
        key = object_key(obj)
        known = self._cache.remove_pod(key)
        if known is not None:
            events.append(ClusterEvent("AssignedPod", "Delete", obj, None))
        else:
            self._queue.delete(key)

    def _pod_assigned(self, old: Object | None, new: Object, events: list[ClusterEvent]) -> None:
        if old is not None and old["spec"].get("nodeName"):
            if _same_demand(old, new):
                self._cache.touch_pod(new)
                return
            self._cache.set_pod(new)
            events.append(ClusterEvent("AssignedPod", "Update", old, new))
            return
        self._queue.delete(object_key(new))
        self._cache.set_pod(new)
        events.append(ClusterEvent("AssignedPod", "Add", None, new))

    def _pod_waiting(self, old: Object | None, new: Object, now: float) -> None:
        if (new["spec"].get("schedulerName") or "default-scheduler") not in self._profiles:
            return
        key = object_key(new)
        if self._cache.is_assumed(key):
            if self._cache.pods[key].uid == new["metadata"].get("uid", ""):
                return
            self._cache.remove_pod(key)
        info = self._cache.info(new)
        if old is None or self._queue.get(key) is None:
            self._queue.add(info, now)
        else:
            self._queue.update(info, now, status_only=_same_demand(old, new))

    def happened(self, events: Sequence[ClusterEvent]) -> None:
        """Pods that these events may help are tried again."""
        if events:
            self._queue.move(events, self._clock.monotonic())
        self._wake.set()


def _terminal(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _same_demand(old: Object, new: Object) -> bool:
    """Only the status changed: nothing that scheduling rests on."""
    one, other = old["metadata"], new["metadata"]
    if one.get("uid") != other.get("uid") or one.get("labels") != other.get("labels"):
        return False
    if one.get("deletionTimestamp") != other.get("deletionTimestamp"):
        return False
    generation = other.get("generation")
    if generation is not None and generation == one.get("generation"):
        return True
    return bool(old["spec"] == new["spec"])
