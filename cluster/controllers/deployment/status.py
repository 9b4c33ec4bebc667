"""A Deployment's status: counts over its ReplicaSets, availability, progress.

Plays pkg/controller/deployment/progress.go and calculateStatus of sync.go.
"""

from __future__ import annotations

from cluster.api.meta import Object, parse_rfc3339, rfc3339
from cluster.controllers.conditions import (
    drop_zeros,
    find_condition,
    set_condition,
    without_condition,
)
from cluster.controllers.deployment.sizes import (
    max_unavailable,
    replicas_of,
    status_number,
    status_sum,
    total_replicas,
)

NEW_SET_AVAILABLE = "NewReplicaSetAvailable"
TIMED_OUT = "ProgressDeadlineExceeded"
NO_DEADLINE = 2**31 - 1


def condition(kind: str, status: str, reason: str, message: str, now: float) -> Object:
    stamp = rfc3339(now)
    return {
        "type": kind,
        "status": status,
        "lastUpdateTime": stamp,
        "lastTransitionTime": stamp,
        "reason": reason,
        "message": message,
    }


def has_deadline(deployment: Object) -> bool:
    deadline = deployment["spec"].get("progressDeadlineSeconds")
    return deadline is not None and deadline != NO_DEADLINE


def calculate_status(
    deployment: Object,
    all_sets: list[Object],
    new_set: Object | None,
    now: float,
    *,
    count_terminating: bool,
) -> Object:
    """Counts and the Available condition; the other conditions as they are."""
    old = deployment.get("status") or {}
    available = status_sum(all_sets, "availableReplicas")
    status: Object = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": status_sum(all_sets, "replicas"),
        "updatedReplicas": status_number(new_set, "replicas") if new_set is not None else 0,
        "readyReplicas": status_sum(all_sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total_replicas(all_sets) - available),
        "conditions": list(old.get("conditions") or ()),
        "collisionCount": old.get("collisionCount"),
    }
    status = drop_zeros(status)
    if count_terminating and all(
        "terminatingReplicas" in (s.get("status") or {}) for s in all_sets
    ):
        status["terminatingReplicas"] = status_sum(all_sets, "terminatingReplicas")
    if available >= replicas_of(deployment) - max_unavailable(deployment):
        verdict = condition(
            "Available",
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
            now,
        )
    else:
        verdict = condition(
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
            now,
        )
    status["conditions"] = set_condition(status.get("conditions"), verdict)
    return status


def is_complete(deployment: Object, status: Object) -> bool:
    desired = replicas_of(deployment)
    return bool(
        status.get("updatedReplicas", 0) == desired
        and status.get("replicas", 0) == desired
        and status.get("availableReplicas", 0) == desired
        and status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    )


def is_progressing(old: Object, new: Object) -> bool:
    """More new, fewer old, more ready or more available pods than before."""
    outdated_before = old.get("replicas", 0) - old.get("updatedReplicas", 0)
    outdated_now = new.get("replicas", 0) - new.get("updatedReplicas", 0)
    return bool(
        new.get("updatedReplicas", 0) > old.get("updatedReplicas", 0)
        or outdated_now < outdated_before
        or new.get("readyReplicas", 0) > old.get("readyReplicas", 0)
        or new.get("availableReplicas", 0) > old.get("availableReplicas", 0)
    )


def has_timed_out(deployment: Object, status: Object, now: float) -> bool:
    held = find_condition(status.get("conditions"), "Progressing")
    if held is None or held.get("reason") == NEW_SET_AVAILABLE:
        return False
    if held.get("reason") == TIMED_OUT:
        return True
    since = parse_rfc3339(held["lastUpdateTime"])
    return bool(since + int(deployment["spec"]["progressDeadlineSeconds"]) < now)


def rollout_status(
    deployment: Object,
    all_sets: list[Object],
    new_set: Object | None,
    now: float,
    *,
    count_terminating: bool,
) -> Object:
    """syncRolloutStatus: counts, Available, Progressing, ReplicaFailure."""
    status = calculate_status(
        deployment, all_sets, new_set, now, count_terminating=count_terminating
    )
    if not has_deadline(deployment):
        status["conditions"] = without_condition(status["conditions"], "Progressing")
    old = deployment.get("status") or {}
    held = find_condition(old.get("conditions"), "Progressing")
    settled = (
        status.get("replicas", 0) == status.get("updatedReplicas", 0)
        and held is not None
        and held.get("reason") == NEW_SET_AVAILABLE
    )
    if has_deadline(deployment) and not settled:
        status["conditions"] = _with_progress(deployment, status, new_set, held, now)
    failure = _replica_failure(all_sets, new_set)
    if failure is not None:
        status["conditions"] = set_condition(status["conditions"], failure)
    else:
        status["conditions"] = without_condition(status["conditions"], "ReplicaFailure")
    return status


def _with_progress(
    deployment: Object, status: Object, new_set: Object | None, held: Object | None, now: float
) -> list[Object]:
    conditions: list[Object] = status["conditions"]
    if new_set is not None:
        subject = f'ReplicaSet "{new_set["metadata"]["name"]}"'
    else:
        subject = f'Deployment "{deployment["metadata"]["name"]}"'
    if is_complete(deployment, status):
        wanted = condition(
            "Progressing", "True", NEW_SET_AVAILABLE, f"{subject} has successfully progressed.", now
        )
        return set_condition(conditions, wanted)
    if is_progressing(deployment.get("status") or {}, status):
        wanted = condition(
            "Progressing", "True", "ReplicaSetUpdated", f"{subject} is progressing.", now
        )
        if held is not None and held["status"] == "True":
            wanted["lastTransitionTime"] = held["lastTransitionTime"]
        return [*without_condition(conditions, "Progressing"), wanted]
    if has_timed_out(deployment, status, now):
        wanted = condition(
            "Progressing", "False", TIMED_OUT, f"{subject} has timed out progressing.", now
        )
        return set_condition(conditions, wanted)
    return conditions


def _replica_failure(all_sets: list[Object], new_set: Object | None) -> Object | None:
    """The failure of the new ReplicaSet, or of any other."""
    for replica_set in [*([new_set] if new_set is not None else []), *all_sets]:
        found = find_condition(
            (replica_set.get("status") or {}).get("conditions"), "ReplicaFailure"
        )
        if found is not None:
            stamp = found.get("lastTransitionTime")
            return {
                "type": "ReplicaFailure",
                "status": found["status"],
                "lastUpdateTime": stamp,
                "lastTransitionTime": stamp,
                "reason": found.get("reason", ""),
                "message": found.get("message", ""),
            }
    return None


def progress_check_in(deployment: Object, status: Object, now: float) -> float | None:
    """Seconds until the deadline must be looked at again (requeueStuckDeployment); None: never."""
    held = find_condition((deployment.get("status") or {}).get("conditions"), "Progressing")
    if not has_deadline(deployment) or held is None:
        return None
    if is_complete(deployment, status) or held.get("reason") == TIMED_OUT:
        return None
    deadline = int(deployment["spec"]["progressDeadlineSeconds"])
    return max(0.0, parse_rfc3339(held["lastUpdateTime"]) + deadline - now) + 1.0
