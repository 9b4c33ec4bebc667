"""Status conditions, as the workload controllers keep them: replaced only when they say something
new."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.api.meta import Object


def find_condition(conditions: Iterable[Object] | None, kind: str) -> Object | None:
    """The condition of a type, if any."""
    for condition in conditions or ():
        if condition.get("type") == kind:
            return condition
    return None


def without_condition(conditions: Iterable[Object] | None, kind: str) -> list[Object]:
    return [c for c in conditions or () if c.get("type") != kind]


def set_condition(conditions: Iterable[Object] | None, wanted: Object) -> list[Object]:
    """Conditions with `wanted` in them (deploymentutil.SetDeploymentCondition and its siblings).

    Same status and reason: nothing changes. Same status: the transition time stays.
    """
    held = list(conditions or ())
    current = find_condition(held, wanted["type"])
    if current is not None and current["status"] == wanted["status"]:
        if current.get("reason") == wanted.get("reason"):
            return held
        if "lastTransitionTime" in current:
            wanted = {**wanted, "lastTransitionTime": current["lastTransitionTime"]}
    return [*without_condition(held, wanted["type"]), wanted]


def drop_zeros(status: Object, keep: frozenset[str] = frozenset()) -> Object:
    """Leave out what Go's omitempty leaves out: zero numbers, empty strings and lists, nulls."""
    return {
        k: v
        for k, v in status.items()
        if k in keep or not (v is None or v == 0 or v == "" or v == [])
    }
