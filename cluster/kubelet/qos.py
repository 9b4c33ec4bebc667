"""Pods' resources: quality-of-service class and the requests a node must hold.

Plays pkg/apis/core/helper/qos and k8s.io/component-helpers/resource.
"""

from __future__ import annotations

from cluster.api.meta import Object
from cluster.api.quantity import milli_value, value


def qos_class(pod: Object) -> str:
    """Guaranteed, Burstable or BestEffort."""
    spec = pod["spec"]
    wanted = bounded = False
    guaranteed = True
    for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
        resources = container.get("resources")
        limits = (resources or {}).get("limits") or {}
        requests = (resources or {}).get("requests") or {}
        for name in ("cpu", "memory"):
            request, limit = requests.get(name), limits.get(name)
            wanted = wanted or _positive(request)
            if _positive(limit):
                bounded = True
                same = request is None or milli_value(request) == milli_value(limit or 0)
                guaranteed = guaranteed and same
            else:
                guaranteed = False
    if not wanted and not bounded:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def pod_requests(pod: Object) -> dict[str, int]:
    """What the pod needs of its node: cpu in milli, the rest in whole units. Containers and
    sidecars add up, other init containers count by their peak, overhead on top."""
    spec = pod["spec"]
    total: dict[str, int] = {}
    for container in spec["containers"]:
        _add(total, container)
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            _add(sidecars, container)
            now = sidecars
        else:
            now = dict(sidecars)
            _add(now, container)
        for name, amount in now.items():
            peak[name] = max(peak.get(name, 0), amount)
    for name, amount in sidecars.items():
        total[name] = total.get(name, 0) + amount
    for name, amount in peak.items():
        total[name] = max(total.get(name, 0), amount)
    for name, quantity in (spec.get("overhead") or {}).items():
        total[name] = total.get(name, 0) + amount_of(name, quantity)
    return total


def amount_of(name: str, quantity: str | int | float) -> int:
    """A quantity as the integer that requests are added in."""
    return milli_value(quantity) if name == "cpu" else value(quantity)


def _add(total: dict[str, int], container: Object) -> None:
    for name, quantity in ((container.get("resources") or {}).get("requests") or {}).items():
        total[name] = total.get(name, 0) + amount_of(name, quantity)


def _positive(quantity: str | int | None) -> bool:
    return quantity is not None and milli_value(quantity) > 0
