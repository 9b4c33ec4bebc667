"""Pods that wait: active, backing off, unschedulable, gated.

Plays pkg/scheduler/backend/queue. An event of the cluster moves a pod that could not be scheduled
only if a plugin that refused it says that the event may help (queueing hints). Pods of one shape
that were refused by the same plugins are one group: a hint is asked once a group, not once a pod.
Everything is synchronous; time is an argument.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster.scheduler.cache import PodInfo
from cluster.scheduler.events import (
    BACKOFF_COMPLETE,
    POD_ADD,
    SCHEDULE_ATTEMPT_FAILURE,
    UNSCHEDULABLE_TIMEOUT,
    ClusterEvent,
)
from cluster.scheduler.profile import Profile

INITIAL_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 1.0, 10.0
UNSCHEDULABLE_SECONDS = 300.0
MAX_EARLY = 50
"""With more pods than this backing off, none goes early: each change would try them all again."""

Incoming = Callable[[str, str, int], None]
"""(queue, event, amount): for scheduler_queue_incoming_pods_total."""
Refused = Callable[[str, Iterable[str], int], None]
"""(scheduler name, plugins, 1 or -1): for scheduler_unschedulable_pods."""


@dataclass(slots=True, eq=False)
class QueuedPod:
    """QueuedPodInfo. Times are monotonic seconds."""

    pod: PodInfo
    timestamp: float
    initial_attempt: float = 0.0
    attempts: int = 0
    decided: float = 0.0
    failures: int = 0
    errors: int = 0
    refused_by: frozenset[str] = frozenset()
    place: str = ""
    ticket: int = 0

    @property
    def key(self) -> str:
        return self.pod.key


class SchedulingQueue:
    """PriorityQueue. A pod is in one place at a time; `place` says which."""

    def __init__(
        self,
        profiles: Mapping[str, Profile],
        *,
        initial_backoff_seconds: float = INITIAL_BACKOFF_SECONDS,
        max_backoff_seconds: float = MAX_BACKOFF_SECONDS,
        incoming: Incoming | None = None,
        refused: Refused | None = None,
    ) -> None:
        self._profiles = profiles
        self._initial_backoff = initial_backoff_seconds
        self._max_backoff = max_backoff_seconds
        self._incoming = incoming or (lambda queue, event, amount: None)
        self._refused = refused or (lambda name, plugins, amount: None)
        self._pods: dict[str, QueuedPod] = {}
        self._active: list[tuple[tuple[float, ...], int, QueuedPod]] = []
        self._backoff: list[tuple[float, int, QueuedPod]] = []
        self._groups: dict[tuple[bytes, frozenset[str]], dict[str, QueuedPod]] = {}
        self._nominated: dict[str, QueuedPod] = {}
        self._sizes = {"active": 0, "backoff": 0, "unschedulable": 0, "gated": 0}
        self._ticket = 0

    def __len__(self) -> int:
        return len(self._pods)

    def pending(self) -> Mapping[str, int]:
        """How many pods are in each place."""
        return self._sizes

    def get(self, key: str) -> QueuedPod | None:
        return self._pods.get(key)

    def waiting(self) -> Iterable[QueuedPod]:
        return self._pods.values()

    def nominated(self) -> Iterable[QueuedPod]:
        """Those for whom room was made on a node."""
        return self._nominated.values()

    def refused(self) -> Iterable[QueuedPod]:
        """The unschedulable ones."""
        for group in self._groups.values():
            yield from group.values()

    def add(self, pod: PodInfo, now: float) -> None:
        """A pod that is new to us."""
        queued = QueuedPod(pod, now, initial_attempt=0.0)
        old = self._pods.get(pod.key)
        if old is not None:
            self._leave(old)
        self._pods[pod.key] = queued
        self._enter_active(queued, POD_ADD.label)

    def update(self, pod: PodInfo, now: float, *, status_only: bool) -> None:
        """A waiting pod changed. What may have become schedulable by it is tried again."""
        queued = self._pods.get(pod.key)
        if queued is None or queued.pod.uid != pod.uid:
            self.add(pod, now)
            return
        place = queued.place
        self._leave(queued)
        moved = queued.pod.shape is not pod.shape
        queued.pod = pod
        if place == "gated" or (place == "active" and moved):
            self._enter_active(queued, "PodUpdate")
        elif place == "unschedulable" and not status_only:
            self._retry(queued, now, "PodUpdate")
        elif place == "unschedulable":
            self._enter_unschedulable(queued)
        elif place == "backoff":
            self._enter_backoff(queued, now, "")
        elif place == "active":
            self._enter_active(queued, "")

    def delete(self, key: str) -> None:
        queued = self._pods.pop(key, None)
        self._nominated.pop(key, None)
        if queued is not None:
            self._leave(queued)

    def pop(self) -> QueuedPod | None:
        """The next pod to schedule; it is out of the queue until it is given back. When nobody is
        active, one that only backs off from being unschedulable goes early, as upstream does."""
        queued = self._pop_active() or self._pop_backoff()
        if queued is None:
            return None
        self._sizes[queued.place] -= 1
        queued.place = ""
        queued.attempts += 1
        self._pods.pop(queued.key, None)
        self._nominated.pop(queued.key, None)
        return queued

    def pop_run(self, limit: int, now: float) -> list[QueuedPod]:
        """The next pod and those right behind it of the same shape that share its work."""
        first = self.pop()
        if first is None:
            return []
        run = [first]
        if not first.initial_attempt:
            first.initial_attempt = now
        if first.pod.obj.get("status", {}).get("nominatedNodeName"):
            return run
        shape = first.pod.shape
        while len(run) < limit:
            head = self._peek_active()
            if head is None or head.pod.shape is not shape:
                break
            if head.pod.obj.get("status", {}).get("nominatedNodeName"):
                break
            queued = self.pop()
            assert queued is head
            if not queued.initial_attempt:
                queued.initial_attempt = now
            run.append(queued)
        return run

    def add_unschedulable(self, queued: QueuedPod, refused_by: frozenset[str], now: float) -> None:
        """Give back a pod that no node fits."""
        queued.failures += 1
        queued.errors = 0
        queued.timestamp = now
        queued.refused_by = refused_by
        self._pods[queued.key] = queued
        self._enter_unschedulable(queued)
        self._incoming("unschedulable", SCHEDULE_ATTEMPT_FAILURE.label, 1)

    def add_failed(self, queued: QueuedPod, now: float) -> None:
        """Give back a pod whose attempt failed for another reason (binding refused, plugin
        error)."""
        queued.errors += 1
        queued.timestamp = now
        queued.refused_by = frozenset()
        self._pods[queued.key] = queued
        self._enter_backoff(queued, now, SCHEDULE_ATTEMPT_FAILURE.label)

    def move(self, events: Sequence[ClusterEvent], now: float) -> int:
        """Something happened: pods that it may help go on. Returns how many."""
        moved = 0
        for key, group in [*self._groups.items()]:
            label = self._helping(group, key[1], events)
            if label is None:
                continue
            for queued in [*group.values()]:
                self._leave(queued)
                self._retry(queued, now, label)
                moved += 1
        return moved

    def activate(self, key: str) -> None:
        """Try this one now, whatever it waits for."""
        queued = self._pods.get(key)
        if queued is not None and queued.place in ("unschedulable", "backoff"):
            self._leave(queued)
            self._enter_active(queued, "ForceActivate")

    def flush(self, now: float) -> int:
        """Back-offs that are over, and pods unschedulable for 5 minutes. Returns how many went
        on."""
        moved = 0
        while self._backoff:
            due, ticket, queued = self._backoff[0]
            if queued.place != "backoff" or queued.ticket != ticket:
                heapq.heappop(self._backoff)
                continue
            if due > now:
                break
            heapq.heappop(self._backoff)
            self._sizes["backoff"] -= 1
            self._enter_active(queued, BACKOFF_COMPLETE.label)
            moved += 1
        return moved

    def flush_unschedulable(self, now: float) -> int:
        """Pods that have been unschedulable for 5 minutes are tried whatever the hints say."""
        old = [q for q in self.refused() if now - q.timestamp > UNSCHEDULABLE_SECONDS]
        for queued in old:
            self._leave(queued)
            self._retry(queued, now, UNSCHEDULABLE_TIMEOUT.label)
        return len(old)

    def next_due(self) -> float | None:
        """When `flush` has something to do."""
        while self._backoff:
            due, ticket, queued = self._backoff[0]
            if queued.place == "backoff" and queued.ticket == ticket:
                return due
            heapq.heappop(self._backoff)
        return None

    @property
    def has_ready(self) -> bool:
        """Whether `pop` would give one."""
        return self._peek_active() is not None or self._poppable_backoff() is not None

    def backoff_seconds(self, queued: QueuedPod) -> float:
        """1 s doubled with each failure, at most 10 s."""
        tries = queued.errors or queued.failures
        if tries == 0:
            return 0.0
        return float(min(self._max_backoff, self._initial_backoff * 2.0 ** min(tries - 1, 30)))

    def _helping(
        self,
        group: Mapping[str, QueuedPod],
        refused_by: frozenset[str],
        events: Sequence[ClusterEvent],
    ) -> str | None:
        shape = next(iter(group.values())).pod.shape
        profile = self._profiles.get(shape.scheduler_name)
        plugins = profile.plugins if profile is not None else {}
        for event in events:
            if event.resource == "*" or not refused_by:
                return event.label
            for name in refused_by:
                plugin = plugins.get(name)
                if plugin is None or plugin.helped_by(event, shape):
                    return event.label
        return None

    def _retry(self, queued: QueuedPod, now: float, label: str) -> None:
        if queued.timestamp + self.backoff_seconds(queued) > now:
            self._enter_backoff(queued, now, label)
        else:
            self._enter_active(queued, label)

    def _enter_active(self, queued: QueuedPod, label: str) -> None:
        profile = self._profiles.get(queued.pod.shape.scheduler_name)
        for plugin in profile.pre_enqueue if profile is not None else ():
            if plugin.pre_enqueue(queued.pod) is not None:
                self._place(queued, "gated", label)
                return
        self._place(queued, "active", label)
        sort = profile.queue_sort if profile is not None else None
        rank = (
            sort.sort_key(queued.pod, queued.timestamp)
            if sort is not None
            else (-queued.pod.priority, queued.timestamp)
        )
        heapq.heappush(self._active, (rank, queued.ticket, queued))

    def _enter_backoff(self, queued: QueuedPod, now: float, label: str) -> None:
        self._place(queued, "backoff", label)
        due = queued.timestamp + self.backoff_seconds(queued)
        heapq.heappush(self._backoff, (due, queued.ticket, queued))

    def _enter_unschedulable(self, queued: QueuedPod) -> None:
        self._place(queued, "unschedulable", "")
        key = (queued.pod.shape.key, queued.refused_by)
        self._groups.setdefault(key, {})[queued.key] = queued
        self._refused(queued.pod.shape.scheduler_name, queued.refused_by, 1)

    def _place(self, queued: QueuedPod, place: str, label: str) -> None:
        self._ticket += 1
        queued.place = place
        queued.ticket = self._ticket
        self._sizes[place] += 1
        if (queued.pod.obj.get("status") or {}).get("nominatedNodeName"):
            self._nominated[queued.key] = queued
        else:
            self._nominated.pop(queued.key, None)
        if label:
            self._incoming(place, label, 1)

    def _leave(self, queued: QueuedPod) -> None:
        """Out of its place; heap entries are recognised as stale by their ticket."""
        if queued.place:
            self._sizes[queued.place] -= 1
        if queued.place == "unschedulable":
            key = (queued.pod.shape.key, queued.refused_by)
            group = self._groups[key]
            self._refused(queued.pod.shape.scheduler_name, queued.refused_by, -1)
            del group[queued.key]
            if not group:
                del self._groups[key]
        queued.place = ""

    def _peek_active(self) -> QueuedPod | None:
        while self._active:
            _, ticket, queued = self._active[0]
            if queued.place == "active" and queued.ticket == ticket:
                return queued
            heapq.heappop(self._active)
        return None

    def _pop_active(self) -> QueuedPod | None:
        found = self._peek_active()
        if found is not None:
            heapq.heappop(self._active)
        return found

    def _poppable_backoff(self) -> QueuedPod | None:
        if self._sizes["backoff"] > MAX_EARLY:
            return None
        self.next_due()
        if self._backoff and not self._backoff[0][2].errors:
            return self._backoff[0][2]
        return None

    def _pop_backoff(self) -> QueuedPod | None:
        found = self._poppable_backoff()
        if found is not None:
            heapq.heappop(self._backoff)
        return found
