"""Sizes during a rollout: the new ReplicaSet up, the old ones down, never too many, never too few.

Plays pkg/controller/deployment/rolling.go and `scale` of sync.go. Pure functions; sizes out.
"""

from __future__ import annotations

import math

from cluster.api.meta import Object
from cluster.controllers.deployment.revisions import by_creation, desired_annotation, max_annotation
from cluster.controllers.deployment.sizes import (
    is_rolling,
    max_surge,
    max_unavailable,
    new_set_size,
    replicas_of,
    status_number,
    total_replicas,
)

Resize = tuple[Object, int]


def plan_new_size(deployment: Object, all_sets: list[Object], new_set: Object) -> int | None:
    """The new ReplicaSet's next size; None if it stays (reconcileNewReplicaSet)."""
    size, desired = replicas_of(new_set), replicas_of(deployment)
    if size == desired:
        return None
    if size > desired:
        return desired
    wanted = new_set_size(deployment, all_sets, size)
    return wanted if wanted != size else None


def plan_old_sizes(deployment: Object, old_sets: list[Object], new_set: Object) -> list[Resize]:
    """Which old ReplicaSets may shrink now, unhealthy pods first (reconcileOldReplicaSets)."""
    active = sorted((s for s in old_sets if replicas_of(s) > 0), key=by_creation)
    # Unlike Kubernetes: sizes that the ReplicaSet controller has not seen yet are waited for; its
    # counts before that may hold pods that are going.
    if not active or not all(_is_observed(s) for s in [*old_sets, new_set]):
        return []
    least = replicas_of(deployment) - max_unavailable(deployment)
    new_unavailable = replicas_of(new_set) - status_number(new_set, "availableReplicas")
    budget = total_replicas(active) + replicas_of(new_set) - least - new_unavailable
    if budget <= 0:
        return []
    sizes = {id(s): replicas_of(s) for s in active}
    left = _drop_unhealthy(active, sizes, budget)
    spare = min(sum(_available(s, sizes) for s in [*active, new_set]) - least, left)
    for replica_set in active:
        if spare <= 0:
            break
        step = min(sizes[id(replica_set)], spare)
        sizes[id(replica_set)] -= step
        spare -= step
    return [(s, sizes[id(s)]) for s in active if sizes[id(s)] != replicas_of(s)]


def _is_observed(replica_set: Object) -> bool:
    generation = int(replica_set["metadata"].get("generation", 0))
    return status_number(replica_set, "observedGeneration") >= generation


def _available(replica_set: Object, sizes: dict[int, int]) -> int:
    available = status_number(replica_set, "availableReplicas")
    return min(available, sizes.get(id(replica_set), replicas_of(replica_set)))


def _drop_unhealthy(active: list[Object], sizes: dict[int, int], budget: int) -> int:
    """Shrink by unhealthy pods first; what is left of the budget."""
    for replica_set in active:
        unhealthy = sizes[id(replica_set)] - status_number(replica_set, "availableReplicas")
        step = max(0, min(budget, unhealthy))
        sizes[id(replica_set)] -= step
        budget -= step
    return budget


def plan_scaling(
    deployment: Object, old_sets: list[Object], new_set: Object | None
) -> list[Resize]:
    """New sizes after spec.replicas changed, or while paused: no pod changes its template."""
    desired = replicas_of(deployment)
    every = [*old_sets, *([new_set] if new_set is not None else [])]
    active = [s for s in every if replicas_of(s) > 0]
    if len(active) <= 1:
        only = active[0] if active else _latest(old_sets, new_set)
        return [(only, desired)] if only is not None and replicas_of(only) != desired else []
    if new_set is not None and _is_saturated(deployment, new_set):
        return [(s, 0) for s in old_sets if replicas_of(s) > 0]
    if not is_rolling(deployment):
        return []
    return _proportional(deployment, active)


def _latest(old_sets: list[Object], new_set: Object | None) -> Object | None:
    if new_set is not None:
        return new_set
    return max(old_sets, key=by_creation, default=None)


def _is_saturated(deployment: Object, new_set: Object) -> bool:
    desired = replicas_of(deployment)
    return (
        replicas_of(new_set) == desired
        and desired_annotation(new_set) == desired
        and status_number(new_set, "availableReplicas") == desired
    )


def _proportional(deployment: Object, active: list[Object]) -> list[Resize]:
    """Share what is to be added or taken among the active ReplicaSets by size, the largest takes
    what is left."""
    desired = replicas_of(deployment)
    allowed = desired + max_surge(deployment) if desired > 0 else 0
    to_add = allowed - total_replicas(active)
    if to_add > 0:  # larger first, then newer
        ordered = sorted(
            sorted(active, key=by_creation, reverse=True), key=replicas_of, reverse=True
        )
    else:  # larger first, then older
        ordered = sorted(sorted(active, key=by_creation), key=replicas_of, reverse=True)
    added = 0
    sizes: list[int] = []
    for replica_set in ordered:
        part = _proportion(deployment, replica_set, to_add, added)
        added += part
        sizes.append(replicas_of(replica_set) + part)
    if to_add:
        sizes[0] = max(0, sizes[0] + to_add - added)
    return list(zip(ordered, sizes, strict=True))


def _proportion(deployment: Object, replica_set: Object, to_add: int, added: int) -> int:
    if not to_add or to_add == added:
        return 0
    share, left = _fraction(deployment, replica_set), to_add - added
    return min(share, left) if to_add > 0 else max(share, left)


def _fraction(deployment: Object, replica_set: Object) -> int:
    size, desired = replicas_of(replica_set), replicas_of(deployment)
    if desired == 0:
        return -size
    before = max_annotation(replica_set) or status_number(deployment, "replicas")
    if not before:
        return 0
    exact = size * (desired + max_surge(deployment)) / before
    return math.floor(exact + 0.5) - size
