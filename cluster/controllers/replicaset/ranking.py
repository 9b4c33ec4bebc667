"""Which pods a ReplicaSet gives up first (controller.ActivePodsWithRanks)."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from cluster.api.meta import Object, parse_rfc3339
from cluster.controllers.podindex import is_ready
from cluster.controllers.podtemplate import ready_since

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASE_ORDER = {"Pending": 0, "Unknown": 1, "Running": 2}


class _Ranked(NamedTuple):
    first: tuple[bool, int, bool, int, int]
    ready_since: float | None
    restarts: tuple[int, int]
    created: float
    uid: str
    pod: Object


def plan_deletions(
    candidates: list[Object], related_nodes: Iterable[str], count: int, now: float
) -> list[Object]:
    """The `count` pods to delete of `candidates`.

    `related_nodes` holds the node name of every active pod of the owner's sibling ReplicaSets: pods
    that share their node with many siblings go first.
    """
    if count >= len(candidates):
        return candidates
    crowd = Counter(related_nodes)
    ranked = [_rank(pod, crowd) for pod in candidates]

    def compare(a: _Ranked, b: _Ranked) -> int:
        return _compare(a, b, now)

    ranked.sort(key=functools.cmp_to_key(compare))
    return [r.pod for r in ranked[:count]]


def _rank(pod: Object, crowd: Counter[str]) -> _Ranked:
    spec, status, meta = pod.get("spec") or {}, pod.get("status") or {}, pod["metadata"]
    node = spec.get("nodeName") or ""
    first = (
        bool(node),
        _PHASE_ORDER.get(status.get("phase") or "Pending", 0),
        is_ready(pod),
        _deletion_cost(meta.get("annotations")),
        -crowd[node],
    )
    created = meta.get("creationTimestamp")
    return _Ranked(
        first,
        ready_since(pod),
        _restarts(spec, status),
        parse_rfc3339(created) if created else 0.0,
        meta.get("uid", ""),
        pod,
    )


def _deletion_cost(annotations: dict[str, str] | None) -> int:
    text = (annotations or {}).get(DELETION_COST, "")
    try:
        cost = int(text) if text else 0
    except ValueError:
        return 0
    return cost if -(2**31) <= cost < 2**31 else 0


def _restarts(spec: Object, status: Object) -> tuple[int, int]:
    """The most restarts of any container, then of any sidecar."""
    most = max((s.get("restartCount", 0) for s in status.get("containerStatuses") or ()), default=0)
    sidecars = {
        c["name"] for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"
    }
    if not sidecars:
        return most, 0
    counts = (
        s.get("restartCount", 0)
        for s in status.get("initContainerStatuses") or ()
        if s["name"] in sidecars
    )
    return most, max(counts, default=0)


def _compare(a: _Ranked, b: _Ranked, now: float) -> int:
    if a.first != b.first:
        return -1 if a.first < b.first else 1
    if a.ready_since is not None and b.ready_since is not None and a.ready_since != b.ready_since:
        return _compare_ages(a.ready_since, b.ready_since, a.uid, b.uid, now)
    if a.restarts != b.restarts:
        return -1 if a.restarts > b.restarts else 1
    if a.created != b.created:
        return _compare_ages(a.created, b.created, a.uid, b.uid, now)
    return 0


def _compare_ages(a: float, b: float, uid_a: str, uid_b: str, now: float) -> int:
    """Younger first, but ages of one power of two are alike: then the UID decides
    (LogarithmicScaleDown)."""
    difference = _magnitude(now - a) - _magnitude(now - b)
    if difference:
        return difference
    return -1 if uid_a < uid_b else 1


def _magnitude(age_seconds: float) -> int:
    return int(math.log2(age_seconds * 1e9)) if age_seconds > 0 else -1
