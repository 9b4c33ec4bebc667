"""What can happen in a cluster that may help a waiting pod. Plays framework.ClusterEvent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.api.meta import Object


@dataclass(frozen=True, slots=True, eq=False)
class ClusterEvent:
    """`label` is upstream's name for it and what the metric shows. `old` and `new` as in a
    handler."""

    resource: str
    action: str
    old: Object | None = None
    new: Object | None = None

    @property
    def label(self) -> str:
        return f"{self.resource}{self.action}"


POD_ADD = ClusterEvent("Pod", "Add")
SCHEDULE_ATTEMPT_FAILURE = ClusterEvent("ScheduleAttemptFailure", "")
BACKOFF_COMPLETE = ClusterEvent("BackoffComplete", "")
UNSCHEDULABLE_TIMEOUT = ClusterEvent("UnschedulableTimeout", "")
WILDCARD = ClusterEvent("*", "")
"""Helps everyone."""


def node_events(old: Object | None, new: Object | None) -> list[ClusterEvent]:
    """The events a change of a node stands for (extractNodeEvents)."""
    if new is None:
        return [ClusterEvent("Node", "Delete", old, None)]
    if old is None:
        return [ClusterEvent("Node", "Add", None, new)]
    events = []
    if _of(old, "status", "allocatable") != _of(new, "status", "allocatable"):
        events.append(ClusterEvent("Node", "AllocatableChange", old, new))
    if _of(old, "metadata", "labels") != _of(new, "metadata", "labels"):
        events.append(ClusterEvent("Node", "LabelChange", old, new))
    if _of(old, "spec", "taints") != _of(new, "spec", "taints") or (
        _of(old, "spec", "unschedulable") != _of(new, "spec", "unschedulable")
    ):
        events.append(ClusterEvent("Node", "TaintChange", old, new))
    return events


def _of(obj: Mapping[str, Any], section: str, name: str) -> Any:
    return (obj.get(section) or {}).get(name) or None
