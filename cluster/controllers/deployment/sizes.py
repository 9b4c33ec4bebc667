"""How many pods a Deployment may have at once (deploymentutil.MaxSurge, MaxUnavailable,
NewRSNewReplicas)."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.api.meta import Object
from cluster.controllers.intstr import scaled_value


def replicas_of(obj: Object) -> int:
    """spec.replicas of a Deployment or ReplicaSet."""
    return int(obj["spec"].get("replicas", 1))


def is_rolling(deployment: Object) -> bool:
    return bool(
        (deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"
    )


def fenceposts(deployment: Object) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) as numbers; at least one of them is not 0."""
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    desired = replicas_of(deployment)
    surge = scaled_value(rolling.get("maxSurge", 0), desired, round_up=True)
    unavailable = scaled_value(rolling.get("maxUnavailable", 0), desired, round_up=False)
    if not surge and not unavailable:
        unavailable = 1
    return surge, unavailable


def max_surge(deployment: Object) -> int:
    return fenceposts(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: Object) -> int:
    desired = replicas_of(deployment)
    if not is_rolling(deployment) or not desired:
        return 0
    return min(fenceposts(deployment)[1], desired)


def total_replicas(replica_sets: Iterable[Object]) -> int:
    """Sum of spec.replicas."""
    return sum(replicas_of(r) for r in replica_sets)


def status_number(obj: Object, field: str) -> int:
    return int((obj.get("status") or {}).get(field) or 0)


def status_sum(replica_sets: Iterable[Object], field: str) -> int:
    return sum(status_number(r, field) for r in replica_sets)


def new_set_size(deployment: Object, all_sets: Iterable[Object], new_size: int) -> int:
    """The size that the new ReplicaSet (now `new_size`) may have."""
    desired = replicas_of(deployment)
    if not is_rolling(deployment):
        return desired
    room = desired + max_surge(deployment) - total_replicas(all_sets)
    if room <= 0:
        return new_size
    return new_size + min(room, desired - new_size)
