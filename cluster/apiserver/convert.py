"""Resources served in a version other than the one that is stored.

Plays pkg/apis/{events,autoscaling}/*/conversion.go for the two that every cluster has: events.k8s.io/v1
over core Events, and autoscaling/v1 over autoscaling/v2. Pure functions from object to object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from cluster.api.catalogue import Catalogue, Resource
from cluster.api.meta import Object

Convert = Callable[[Object], Object]

_EVENT_FIELDS = {
    "regarding": "involvedObject",
    "note": "message",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
    "reportingController": "reportingComponent",
}
_EVENT_FIELDS_BACK = {v: k for k, v in _EVENT_FIELDS.items()}
_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_CURRENT = "autoscaling.alpha.kubernetes.io/current-metrics"


def stored_resource(catalogue: Catalogue, served: Resource) -> Resource:
    """The resource in whose form objects of `served` lie in the store (often itself)."""
    try:
        return catalogue.storage_version(served.group, served.plural)
    except KeyError:
        return served


def to_stored(served: Resource, obj: Object) -> Object:
    """An object as the client sent it, in the form that is stored."""
    convert = _TO_STORED.get((served.group, served.version, served.plural))
    return convert(obj) if convert is not None else obj


def to_served(served: Resource, obj: Object) -> Object:
    """A stored object in the version that the client asked for."""
    convert = _TO_SERVED.get((served.group, served.version, served.plural))
    return convert(obj) if convert is not None else obj


def stored_selector(served: Resource, field_selector: str) -> str:
    """Field labels of `served` as the stored form names them."""
    if (served.group, served.plural) != ("events.k8s.io", "events"):
        return field_selector
    return field_selector.replace("regarding.", "involvedObject.").replace(
        "reportingController", "reportingComponent"
    )


def _event_to_core(event: Object) -> Object:
    return {
        **{_EVENT_FIELDS.get(k, k): v for k, v in event.items()},
        "apiVersion": "v1",
        "kind": "Event",
    }


def _event_from_core(event: Object) -> Object:
    return {
        **{_EVENT_FIELDS_BACK.get(k, k): v for k, v in event.items()},
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
    }


def _is_cpu(metric: Any) -> bool:
    resource = metric.get("resource") or {}
    target = resource.get("target") or {}
    utilization = target.get("type") == "Utilization"
    return metric.get("type") == "Resource" and resource.get("name") == "cpu" and utilization


def _autoscaler_to_v1(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = dict(obj["metadata"].get("annotations") or {})
    metrics = spec.pop("metrics", None) or []
    cpu = next((m for m in metrics if _is_cpu(m)), None)
    if cpu is not None:
        target = cpu["resource"]["target"]
        spec["targetCPUUtilizationPercentage"] = target.get("averageUtilization")
    kept = {
        _METRICS: [m for m in metrics if m is not cpu],
        _BEHAVIOR: spec.pop("behavior", None),
        _CONDITIONS: status.pop("conditions", None),
        _CURRENT: status.pop("currentMetrics", None),
    }
    for name, value in kept.items():
        if value:
            annotations[name] = orjson.dumps(value).decode()
    metadata = {k: v for k, v in obj["metadata"].items() if k != "annotations"}
    if annotations:
        metadata["annotations"] = annotations
    new = {**obj, "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec}
    return {**new, "status": status} if "status" in obj else new


def _autoscaler_from_v1(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = dict(obj["metadata"].get("annotations") or {})
    metrics = _annotated(annotations, _METRICS) or []
    percentage = spec.pop("targetCPUUtilizationPercentage", None)
    if percentage is not None:
        target = {"type": "Utilization", "averageUtilization": percentage}
        metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}, *metrics]
    if metrics:
        spec["metrics"] = metrics
    behavior = _annotated(annotations, _BEHAVIOR)
    if behavior:
        spec["behavior"] = behavior
    status.pop("currentCPUUtilizationPercentage", None)
    for name, field in ((_CONDITIONS, "conditions"), (_CURRENT, "currentMetrics")):
        value = _annotated(annotations, name)
        if value:
            status[field] = value
    metadata = {k: v for k, v in obj["metadata"].items() if k != "annotations"}
    if annotations:
        metadata["annotations"] = annotations
    new = {**obj, "apiVersion": "autoscaling/v2", "metadata": metadata, "spec": spec}
    return {**new, "status": status} if "status" in obj or status else new


def _annotated(annotations: dict[str, Any], name: str) -> Any:
    """Take an annotation that carries what v1 has no field for."""
    text = annotations.pop(name, None)
    if not isinstance(text, str):
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


_EVENTS = ("events.k8s.io", "v1", "events")
_AUTOSCALERS = ("autoscaling", "v1", "horizontalpodautoscalers")
_TO_STORED: dict[tuple[str, str, str], Convert] = {
    _EVENTS: _event_to_core,
    _AUTOSCALERS: _autoscaler_from_v1,
}
_TO_SERVED: dict[tuple[str, str, str], Convert] = {
    _EVENTS: _event_from_core,
    _AUTOSCALERS: _autoscaler_to_v1,
}
