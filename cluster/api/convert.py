"""The few kinds that are served in more than one version: HorizontalPodAutoscaler, Event, flow
control.

Plays the conversions of pkg/apis. Everything is stored in the one version that
`Catalogue.storage_version` names; these functions turn an object from one served version into
another. Kinds without an entry here have one version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from cluster.api.meta import Object

Conversion = Callable[[Object], Object]

_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_CURRENT = "autoscaling.alpha.kubernetes.io/current-metrics"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"


def to_version(obj: Object, api_version: str) -> Object:
    """`obj` in another version of its kind; `obj` itself if it has that version already or knows no
    other."""
    here = obj.get("apiVersion", "")
    if here == api_version:
        return obj
    conversion = _CONVERSIONS.get((obj.get("kind", ""), here, api_version))
    return {**obj, "apiVersion": api_version} if conversion is None else conversion(obj)


def _event_to_new(obj: Object) -> Object:
    """v1 to events.k8s.io/v1."""
    out = _renamed(obj, _EVENT_NAMES)
    out["apiVersion"] = "events.k8s.io/v1"
    return out


def _event_to_core(obj: Object) -> Object:
    out = _renamed(obj, {new: old for old, new in _EVENT_NAMES.items()})
    out["apiVersion"] = "v1"
    out.setdefault("involvedObject", {})
    return out


_EVENT_NAMES = {
    "involvedObject": "regarding", "message": "note", "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp", "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount", "reportingComponent": "reportingController",
}  # fmt: skip
"""Fields of core events, and their names in events.k8s.io."""


def _renamed(obj: Object, names: dict[str, str]) -> Object:
    return {names.get(key, key): value for key, value in obj.items()}


def _autoscaler_to_v1(obj: Object) -> Object:
    """autoscaling/v2 to v1: a CPU metric becomes the percentage, the rest annotations."""
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    kept: dict[str, Any] = {}
    others = []
    for metric in spec.pop("metrics", None) or ():
        target = _cpu_target(metric)
        if target is not None and "targetCPUUtilizationPercentage" not in spec:
            spec["targetCPUUtilizationPercentage"] = target
        else:
            others.append(metric)
    kept[_METRICS] = others
    kept[_BEHAVIOR] = spec.pop("behavior", None)
    current = status.pop("currentMetrics", None) or []
    for metric in current:
        now = _cpu_current(metric)
        if now is not None:
            status["currentCPUUtilizationPercentage"] = now
            break
    kept[_CURRENT] = current
    kept[_CONDITIONS] = status.pop("conditions", None)
    added = {key: orjson.dumps(value).decode() for key, value in kept.items() if value}
    return _rebuilt(obj, "autoscaling/v1", spec, status, added, ())


def _autoscaler_to_v2(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = obj["metadata"].get("annotations") or {}
    metrics = _from_annotation(annotations, _METRICS) or []
    percentage = spec.pop("targetCPUUtilizationPercentage", None)
    if percentage is not None:
        metrics = [_cpu_metric(percentage), *metrics]
    if metrics:
        spec["metrics"] = metrics
    behavior = _from_annotation(annotations, _BEHAVIOR)
    if behavior:
        spec["behavior"] = behavior
    status.pop("currentCPUUtilizationPercentage", None)
    for field, key in (("currentMetrics", _CURRENT), ("conditions", _CONDITIONS)):
        value = _from_annotation(annotations, key)
        if value:
            status[field] = value
    dropped = (_METRICS, _CURRENT, _CONDITIONS, _BEHAVIOR)
    return _rebuilt(obj, "autoscaling/v2", spec, status, {}, dropped)


def _cpu_target(metric: Object) -> int | None:
    resource = metric.get("resource") or {}
    if metric.get("type") != "Resource" or resource.get("name") != "cpu":
        return None
    found = (resource.get("target") or {}).get("averageUtilization")
    return None if found is None else int(found)


def _cpu_current(metric: Object) -> int | None:
    resource = metric.get("resource") or {}
    if metric.get("type") != "Resource" or resource.get("name") != "cpu":
        return None
    found = (resource.get("current") or {}).get("averageUtilization")
    return None if found is None else int(found)


def _cpu_metric(percentage: int) -> Object:
    target = {"type": "Utilization", "averageUtilization": percentage}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def _from_annotation(annotations: dict[str, str], key: str) -> Any:
    text = annotations.get(key)
    try:
        return orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        return None


def _rebuilt(
    obj: Object,
    api_version: str,
    spec: Object,
    status: Object,
    added: dict[str, str],
    dropped: tuple[str, ...],
) -> Object:
    meta = dict(obj["metadata"])
    annotations = {k: v for k, v in (meta.get("annotations") or {}).items() if k not in dropped}
    annotations.update(added)
    if annotations:
        meta["annotations"] = annotations
    else:
        meta.pop("annotations", None)
    out = {**obj, "apiVersion": api_version, "metadata": meta, "spec": spec}
    if status or "status" in obj:
        out["status"] = status
    return out


_HPA = "HorizontalPodAutoscaler"
_CONVERSIONS: dict[tuple[str, str, str], Conversion] = {
    ("Event", "v1", "events.k8s.io/v1"): _event_to_new,
    ("Event", "events.k8s.io/v1", "v1"): _event_to_core,
    (_HPA, "autoscaling/v2", "autoscaling/v1"): _autoscaler_to_v1,
    (_HPA, "autoscaling/v1", "autoscaling/v2"): _autoscaler_to_v2,
}
