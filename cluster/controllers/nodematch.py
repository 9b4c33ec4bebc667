"""Does a pod's spec allow a node: node name, node selector, required node affinity, taints.

Plays the parts of k8s.io/component-helpers/scheduling/corev1 that controllers need.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.api.meta import Object
from cluster.controllers.node.tainteviction import tolerates


def matches_node_affinity(spec: Object, node: Object) -> bool:
    """spec.nodeSelector and the required part of spec.affinity.nodeAffinity."""
    labels = node["metadata"].get("labels") or {}
    for key, value in (spec.get("nodeSelector") or {}).items():
        if labels.get(key) != value:
            return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(matches_term(t, node) for t in required.get("nodeSelectorTerms") or ())


def matches_term(term: Object, node: Object) -> bool:
    """One node selector term; one without any requirement matches nothing."""
    labels = node["metadata"].get("labels") or {}
    expressions = term.get("matchExpressions") or ()
    fields = term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    named = {"metadata.name": node["metadata"]["name"]}
    return all(_holds(e, labels) for e in expressions) and all(_holds(f, named) for f in fields)


def untolerated(
    taints: Iterable[Object], tolerations: list[Object], effects: tuple[str, ...]
) -> bool:
    """Is there a taint of these effects that nothing tolerates?"""
    return any(
        t["effect"] in effects and not any(tolerates(toleration, t) for toleration in tolerations)
        for t in taints
    )


def _holds(requirement: Object, labels: dict[str, str]) -> bool:
    operator, values = requirement["operator"], list(requirement.get("values") or ())
    value = labels.get(requirement["key"])
    match operator:
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            try:
                left, right = int(value or ""), int(values[0])
            except (ValueError, IndexError):
                return False
            return left > right if operator == "Gt" else left < right
    return False
