"""A pod out of a controller's template (controller.GetPodFromTemplate), and pod predicates over
time."""

from __future__ import annotations

from cluster.api.meta import Object, parse_rfc3339
from cluster.controllers.conditions import find_condition


def pod_from_template(template: Object, reference: Object, *, generate_name: str = "") -> Object:
    """The pod to create. Its spec is the template's own dict: copy before changing it."""
    source = template.get("metadata") or {}
    meta: Object = {"generateName": generate_name} if generate_name else {}
    for field in ("labels", "annotations", "finalizers"):
        if source.get(field):
            meta[field] = source[field]
    meta["ownerReferences"] = [reference]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}


def ready_since(pod: Object) -> float | None:
    """When the pod last became Ready; None if it is not."""
    condition = find_condition((pod.get("status") or {}).get("conditions"), "Ready")
    if condition is None or condition.get("status") != "True":
        return None
    since = condition.get("lastTransitionTime")
    return parse_rfc3339(since) if since else 0.0


def available_in(pod: Object, min_ready_seconds: int, now: float) -> float | None:
    """Seconds until the pod counts as available (0: it does now); None if it is not Ready."""
    since = ready_since(pod)
    if since is None:
        return None
    if not min_ready_seconds:
        return 0.0
    return max(0.0, since + min_ready_seconds - now)
