"""Which pods and claims a quota's scopes select: pkg/quota/v1/evaluator/core's scope functions."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.api.meta import GVR, Object
from cluster.apiserver.admission.quota.usage import is_best_effort


def selects(quota: Object, gvr: GVR, obj: Object) -> bool:
    """Does every scope of the quota hold for the object?"""
    return all(_holds(requirement, gvr, obj) for requirement in requirements(quota))


def requirements(quota: Object) -> Iterator[Object]:
    """spec.scopes and spec.scopeSelector as one list."""
    spec = quota.get("spec") or {}
    for scope in spec.get("scopes") or ():
        yield {"scopeName": scope, "operator": "Exists"}
    yield from (spec.get("scopeSelector") or {}).get("matchExpressions") or ()


def _holds(requirement: Object, gvr: GVR, obj: Object) -> bool:
    scope, operator = requirement.get("scopeName", ""), requirement.get("operator", "")
    if gvr.group:
        return False
    if scope == "VolumeAttributesClass":
        if gvr.plural != "persistentvolumeclaims":
            return False
        return _matches(
            (obj.get("spec") or {}).get("volumeAttributesClassName") or "", operator, requirement
        )
    if gvr.plural != "pods":
        return False
    spec = obj.get("spec") or {}
    if scope == "PriorityClass":
        return _matches(spec.get("priorityClassName") or "", operator, requirement)
    if scope in ("Terminating", "NotTerminating"):
        deadline = spec.get("activeDeadlineSeconds")
        terminating = deadline is not None and int(deadline) >= 0
        return terminating is (scope == "Terminating")
    if scope in ("BestEffort", "NotBestEffort"):
        return is_best_effort(spec) is (scope == "BestEffort")
    if scope == "CrossNamespacePodAffinity":
        return _crosses_namespaces(spec)
    return False


def _matches(value: str, operator: str, requirement: Object) -> bool:
    values = requirement.get("values") or ()
    if operator == "Exists":
        return bool(value)
    if operator == "DoesNotExist":
        return not value
    if operator == "In":
        return value in values
    return operator == "NotIn" and value not in values


def _crosses_namespaces(spec: Object) -> bool:
    affinity = spec.get("affinity") or {}
    for key in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(key) or {}
        required = terms.get("requiredDuringSchedulingIgnoredDuringExecution") or []
        preferred = terms.get("preferredDuringSchedulingIgnoredDuringExecution") or []
        for term in [*required, *(p.get("podAffinityTerm") or {} for p in preferred)]:
            if term.get("namespaces") or term.get("namespaceSelector") is not None:
                return True
    return False
