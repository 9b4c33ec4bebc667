"""The quality-of-service class of a pod (pkg/apis/core/helper/qos)."""

from __future__ import annotations

from typing import Any

from cluster.api.meta import Object

_COUNTED = ("cpu", "memory")
_ZERO = frozenset({"0", "0m", 0})


def pod_qos(spec: Object) -> str:
    """`Guaranteed`, `Burstable` or `BestEffort`, from a defaulted PodSpec."""
    pod_level = spec.get("resources")
    if pod_level and (pod_level.get("requests") or pod_level.get("limits")):
        return _class_of([pod_level])
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    return _class_of([c.get("resources") or {} for c in containers])


def _class_of(resources: list[Object]) -> str:
    asked = False
    guaranteed = True
    for each in resources:
        requests = _counted(each.get("requests"))
        limits = _counted(each.get("limits"))
        asked = asked or bool(requests) or bool(limits)
        # Requests come from limits by defaulting, so equality is the whole test.
        if len(limits) != len(_COUNTED) or (requests and requests != limits):
            guaranteed = False
    if not asked:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _counted(quantities: dict[str, Any] | None) -> dict[str, Any]:
    if not quantities:
        return {}
    return {k: quantities[k] for k in _COUNTED if k in quantities and quantities[k] not in _ZERO}
