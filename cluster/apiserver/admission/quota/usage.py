"""What one object uses of a quota: pkg/quota/v1/evaluator/core. Amounts are exact fractions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from cluster.api import quantity
from cluster.api.meta import GVR, Object, parse_rfc3339

Usage = dict[str, Fraction]

_ONE = Fraction(1)
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_LEGACY_COUNTS = frozenset(
    ("configmaps", "secrets", "resourcequotas", "replicationcontrollers", "services")
)
_CLASS_SUFFIX = ".storageclass.storage.k8s.io/"


def usage_of(gvr: GVR, obj: Object, now: float) -> Usage:
    """Everything that the object could be charged for; a quota takes what its `hard` names."""
    used: Usage = {count_name(gvr): _ONE}
    if gvr.group:
        return used
    if gvr.plural == "pods":
        used.update(_pod(obj, now))
    elif gvr.plural == "persistentvolumeclaims":
        used.update(_claim(obj))
    elif gvr.plural == "services":
        used.update(_service(obj))
    elif gvr.plural in _LEGACY_COUNTS:
        used[gvr.plural] = _ONE
    return used


def count_name(gvr: GVR) -> str:
    """count/deployments.apps, count/pods"""
    return f"count/{gvr.plural}.{gvr.group}" if gvr.group else f"count/{gvr.plural}"


def resource_types(hard: Iterable[str]) -> set[tuple[str, str]]:
    """(group, plural) of everything that the names of a quota's `hard` count."""
    found: set[tuple[str, str]] = set()
    for name in hard:
        if name.startswith("count/"):
            plural, _, group = name[len("count/") :].partition(".")
            found.add((group, plural))
        elif _CLASS_SUFFIX in name or name in ("requests.storage", "persistentvolumeclaims"):
            found.add(("", "persistentvolumeclaims"))
        elif name.partition(".")[0] == "services":
            found.add(("", "services"))
        elif name in _LEGACY_COUNTS:
            found.add(("", name))
        else:
            found.add(("", "pods"))
    return found


def pod_resources(spec: Object, field: str) -> Usage:
    """What the scheduler counts: containers and restartable init containers together, or the
    greediest init container, and the overhead."""
    total: Usage = {}
    for container in spec.get("containers") or ():
        _add(total, _amounts(container, field))
    sidecars: Usage = {}
    peak: Usage = {}
    for container in spec.get("initContainers") or ():
        amounts = _amounts(container, field)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, amounts)
            amounts = dict(sidecars)
        else:
            amounts = {k: v + sidecars.get(k, 0) for k, v in amounts.items()}
        for name, amount in amounts.items():
            peak[name] = max(peak.get(name, amount), amount)
    _add(total, sidecars)
    for name, amount in peak.items():
        total[name] = max(total.get(name, amount), amount)
    for name, text in (spec.get("overhead") or {}).items():
        if field == "requests" or name in total:
            total[name] = total.get(name, Fraction(0)) + quantity.parse(text)
    return total


def is_best_effort(spec: Object) -> bool:
    """No container asks for anything (QoS class BestEffort)."""
    return not any(
        (container.get("resources") or {}).get(field)
        for key in ("containers", "initContainers")
        for container in spec.get(key) or ()
        for field in ("requests", "limits")
    )


def _pod(pod: Object, now: float) -> Usage:
    if _is_finished(pod, now):
        return {}
    used: Usage = {"pods": _ONE}
    for name, amount in pod_resources((pod.get("spec") or {}), "requests").items():
        used[f"requests.{name}"] = amount
        if name in _COMPUTE or name.startswith("hugepages-"):
            used[name] = amount
    for name, amount in pod_resources((pod.get("spec") or {}), "limits").items():
        used[f"limits.{name}"] = amount
    return used


def _is_finished(pod: Object, now: float) -> bool:
    """Ended, or being deleted for longer than its grace period."""
    if (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        return True
    metadata = pod["metadata"]
    deletion = metadata.get("deletionTimestamp")
    if not deletion or metadata.get("deletionGracePeriodSeconds") is None:
        return False
    return now > parse_rfc3339(deletion) + float(metadata["deletionGracePeriodSeconds"])


def _claim(claim: Object) -> Usage:
    spec = claim.get("spec") or {}
    storage_class = spec.get("storageClassName") or (
        (claim["metadata"].get("annotations") or {}).get("volume.beta.kubernetes.io/storage-class")
    )
    used: Usage = {"persistentvolumeclaims": _ONE}
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if asked is not None:
        used["requests.storage"] = quantity.parse(asked)
    if storage_class:
        used[f"{storage_class}{_CLASS_SUFFIX}persistentvolumeclaims"] = _ONE
        if asked is not None:
            used[f"{storage_class}{_CLASS_SUFFIX}requests.storage"] = quantity.parse(asked)
    return used


def _service(service: Object) -> Usage:
    spec = service.get("spec") or {}
    kind = spec.get("type", "ClusterIP")
    ports = spec.get("ports") or ()
    used: Usage = {"services": _ONE}
    if kind == "LoadBalancer":
        used["services.loadbalancers"] = _ONE
    node_ports = 0
    if kind == "NodePort" or (
        kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts", True)
    ):
        node_ports = len(ports)
    elif kind == "LoadBalancer":
        node_ports = sum(1 for port in ports if port.get("nodePort"))
    used["services.nodeports"] = Fraction(node_ports)
    return used


def _amounts(container: Object, field: str) -> Usage:
    listed: Mapping[str, Any] = (container.get("resources") or {}).get(field) or {}
    return {name: quantity.parse(text) for name, text in listed.items()}


def _add(total: Usage, more: Mapping[str, Fraction]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, Fraction(0)) + amount
