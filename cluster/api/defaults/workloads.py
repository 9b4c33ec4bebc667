"""Workloads: apps/v1, batch/v1 and autoscaling."""

from __future__ import annotations

from typing import Any

from cluster.api.defaults.pods import pod_template
from cluster.api.defaults.quantities import canonical
from cluster.api.defaults.storage import claim_template
from cluster.api.meta import Object

_MAX_INT32 = 2**31 - 1


def _unset(obj: Object, **values: Any) -> None:
    for key, value in values.items():
        if obj.get(key) is None:
            obj[key] = value


def _strategy(spec: Object, field: str) -> Object:
    strategy: Object | None = spec.get(field)
    if strategy is None:
        strategy = spec[field] = {}
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    return strategy


def _rolling(strategy: Object, **values: Any) -> None:
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate")
        if rolling is None:
            rolling = strategy["rollingUpdate"] = {}
        _unset(rolling, **values)


def deployment(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _unset(spec, replicas=1)
    _rolling(_strategy(spec, "strategy"), maxUnavailable="25%", maxSurge="25%")
    _unset(spec, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    pod_template(spec.get("template"))


def replica_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _unset(spec, replicas=1)
    pod_template(spec.get("template"))


def stateful_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("podManagementPolicy"):
        spec["podManagementPolicy"] = "OrderedReady"
    typed = bool((spec.get("updateStrategy") or {}).get("type"))
    strategy = _strategy(spec, "updateStrategy")
    if not typed or strategy.get("rollingUpdate") is not None:
        _rolling(strategy, partition=0, maxUnavailable=1)
    retention = spec.get("persistentVolumeClaimRetentionPolicy")
    if retention is None:
        retention = spec["persistentVolumeClaimRetentionPolicy"] = {}
    for field in ("whenDeleted", "whenScaled"):
        if not retention.get(field):
            retention[field] = "Retain"
    _unset(spec, replicas=1, revisionHistoryLimit=10)
    for claim in spec.get("volumeClaimTemplates") or ():
        claim_template(claim)
    pod_template(spec.get("template"))


def daemon_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _rolling(_strategy(spec, "updateStrategy"), maxUnavailable=1, maxSurge=0)
    _unset(spec, revisionHistoryLimit=10)
    pod_template(spec.get("template"))


def job(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    per_index = spec.get("backoffLimitPerIndex") is not None
    _unset(spec, parallelism=1, backoffLimit=_MAX_INT32 if per_index else 6)
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels")
    if labels and not obj["metadata"].get("labels"):
        obj["metadata"]["labels"] = dict(labels)
    failure_policy = spec.get("podFailurePolicy")
    replacement = "Failed" if failure_policy is not None else "TerminatingOrFailed"
    _unset(spec, completionMode="NonIndexed", suspend=False, manualSelector=False)
    _unset(spec, podReplacementPolicy=replacement)
    _failure_policy(failure_policy)
    pod_template(spec.get("template"))


def _failure_policy(policy: Object | None) -> None:
    for rule in (policy or {}).get("rules") or ():
        for condition in rule.get("onPodConditions") or ():
            if not condition.get("status"):
                condition["status"] = "True"


def cron_job(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("concurrencyPolicy"):
        spec["concurrencyPolicy"] = "Allow"
    _unset(spec, suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    template = (spec.get("jobTemplate") or {}).get("spec") or {}
    _failure_policy(template.get("podFailurePolicy"))
    pod_template(template.get("template"))


def _scale_up() -> Object:
    policies = [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ]
    return {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": policies}


def _scale_down() -> Object:
    policies = [{"type": "Percent", "value": 100, "periodSeconds": 15}]
    return {"selectPolicy": "Max", "policies": policies}


def horizontal_pod_autoscaler(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _unset(spec, minReplicas=1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    for metric in spec["metrics"]:
        for source in metric.values():
            _metric_target(source)
    behavior = spec.get("behavior")
    if behavior is not None:
        for field, rules in (("scaleUp", _scale_up()), ("scaleDown", _scale_down())):
            given = behavior.get(field) or {}
            behavior[field] = {**rules, **{k: v for k, v in given.items() if v is not None}}


def _metric_target(source: object) -> None:
    target = source.get("target") if isinstance(source, dict) else None
    if target:
        for field in ("value", "averageValue"):
            if target.get(field) is not None:
                target[field] = canonical(str(target[field]))


def horizontal_pod_autoscaler_v1(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _unset(spec, minReplicas=1)
    has_metrics = "autoscaling.alpha.kubernetes.io/metrics" in (
        obj["metadata"].get("annotations") or {}
    )
    if not has_metrics:
        _unset(spec, targetCPUUtilizationPercentage=80)
