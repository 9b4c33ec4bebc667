"""How many pods a ReplicaSet lacks, and what its status says. Pure functions over counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cluster.api.meta import Object, rfc3339
from cluster.controllers.conditions import (
    drop_zeros,
    find_condition,
    set_condition,
    without_condition,
)

SLOW_START_INITIAL = 1


@dataclass(frozen=True, slots=True)
class Counts:
    """What is observed of a ReplicaSet's active pods."""

    active: int
    fully_labeled: int
    ready: int
    available: int
    terminating: int | None = None


def plan_replicas(wanted: int, active: int, burst: int) -> int:
    """Pods to create (> 0) or to delete (< 0) now, at most `burst`."""
    return max(-burst, min(burst, wanted - active))


def slow_start(count: int, first: int = SLOW_START_INITIAL) -> Iterator[int]:
    """Sizes of the batches in which `count` pods are created: 1, 2, 4, ... so that a refusal costs
    little."""
    size = min(count, first)
    while size > 0:
        yield size
        count -= size
        size = min(2 * size, count)


def replica_set_status(
    replica_set: Object, counts: Counts, error: str, diff: int, now: float
) -> Object:
    """calculateStatus: `error` is why pods could not be created (diff > 0) or deleted (diff < 0),
    or ''."""
    old = replica_set.get("status") or {}
    conditions = list(old.get("conditions") or ())
    failed = find_condition(conditions, "ReplicaFailure")
    if error and failed is None:
        condition = {
            "type": "ReplicaFailure",
            "status": "True",
            "lastTransitionTime": rfc3339(now),
            "reason": "FailedCreate" if diff > 0 else "FailedDelete",
            "message": error,
        }
        conditions = set_condition(conditions, condition)
    elif not error and failed is not None:
        conditions = without_condition(conditions, "ReplicaFailure")
    status: Object = {
        "replicas": counts.active,
        "fullyLabeledReplicas": counts.fully_labeled,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.available,
        "observedGeneration": replica_set["metadata"].get("generation", 0),
        "conditions": conditions,
    }
    status = drop_zeros(status, keep=frozenset(("replicas",)))
    if counts.terminating is not None:
        status["terminatingReplicas"] = counts.terminating
    return status


def same_status(old: Object | None, new: Object) -> bool:
    """Nothing to write: equal, zero and absent being the same."""
    return drop_zeros(old or {}) == drop_zeros(new)
