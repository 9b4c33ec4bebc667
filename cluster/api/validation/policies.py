"""HorizontalPodAutoscaler, PodDisruptionBudget, PriorityClass, RuntimeClass."""

from __future__ import annotations

from cluster.api import names
from cluster.api.errors import forbidden, invalid, required
from cluster.api.meta import Object
from cluster.api.validation import fields, scheduling, selectors
from cluster.api.validation.fields import Errors

_SOURCES = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}
_SYSTEM_CLASSES = {"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}
_HIGHEST_PRIORITY = 1_000_000_000


def horizontal_pod_autoscaler(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    low, high = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    if low is not None and low < 1:
        detail = "must be greater than or equal to 1"
        errors.append(invalid("spec.minReplicas", low, detail))
    if high < 1:
        errors.append(invalid("spec.maxReplicas", high, "must be greater than 0"))
    if low is not None and high < low:
        detail = "must be greater than or equal to `minReplicas`"
        errors.append(invalid("spec.maxReplicas", high, detail))
    target = spec.get("scaleTargetRef") or {}
    for key in ("kind", "name"):
        at = f"spec.scaleTargetRef.{key}"
        if not target.get(key):
            errors.append(required(at))
        else:
            fields.name(target[key], names.path_segment, at, errors)
    for i, metric in enumerate(spec.get("metrics") or ()):
        _metric(metric, f"spec.metrics[{i}]", errors)
    for key in ("scaleUp", "scaleDown"):
        rules = (spec.get("behavior") or {}).get(key)
        if rules:
            _scaling_rules(rules, f"spec.behavior.{key}", errors)


def _metric(metric: Object, path: str, errors: Errors) -> None:
    kind = metric.get("type")
    if not kind:
        errors.append(required(f"{path}.type", "must specify a metric source type"))
        return
    if kind not in _SOURCES:
        errors.append(fields.unsupported(f"{path}.type", kind, tuple(sorted(_SOURCES))))
        return
    field = _SOURCES[kind]
    source = metric.get(field)
    if source is None:
        detail = "must populate information for the given metric source"
        errors.append(required(f"{path}.{field}", detail))
        return
    if kind in ("Resource", "ContainerResource") and not source.get("name"):
        errors.append(required(f"{path}.{field}.name", "must specify a resource name"))
    target = source.get("target") or {}
    kinds = ("Utilization", "Value", "AverageValue")
    at = f"{path}.{field}.target.type"
    if not target.get("type"):
        errors.append(required(at, "must specify a metric target type"))
    elif target["type"] not in kinds:
        detail = "must be either Utilization, Value, or AverageValue"
        errors.append(invalid(at, target["type"], detail))
    utilization = target.get("averageUtilization")
    if utilization is not None and utilization < 1:
        at = f"{path}.{field}.target.averageUtilization"
        errors.append(invalid(at, utilization, "must be greater than 0"))


def _scaling_rules(rules: Object, path: str, errors: Errors) -> None:
    window = rules.get("stabilizationWindowSeconds")
    at = f"{path}.stabilizationWindowSeconds"
    if window is not None and window < 0:
        errors.append(invalid(at, window, "must be greater than or equal to zero"))
    elif window is not None and window > 3600:
        errors.append(invalid(at, window, "must be less than or equal to 3600"))
    select = rules.get("selectPolicy")
    choices = ("Disabled", "Max", "Min")
    if select is not None and select not in choices:
        errors.append(fields.unsupported(f"{path}.selectPolicy", select, choices))
    policies = rules.get("policies") or []
    if not policies:
        errors.append(required(f"{path}.policies", "must specify at least one Policy"))
    for i, policy in enumerate(policies):
        at = f"{path}.policies[{i}]"
        if policy.get("type") not in ("Pods", "Percent"):
            kinds = ("Percent", "Pods")
            errors.append(fields.unsupported(f"{at}.type", policy.get("type") or "", kinds))
        for key, limit in (("value", None), ("periodSeconds", 1800)):
            value = policy.get(key) or 0
            if value <= 0:
                errors.append(invalid(f"{at}.{key}", value, "must be greater than zero"))
            elif limit and value > limit:
                detail = f"must be less than or equal to {limit}"
                errors.append(invalid(f"{at}.{key}", value, detail))


def pod_disruption_budget(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    low, high = spec.get("minAvailable"), spec.get("maxUnavailable")
    if low is not None and high is not None:
        detail = "minAvailable and maxUnavailable cannot be both set"
        errors.append(invalid("spec", spec, detail))
    for key, value in (("minAvailable", low), ("maxUnavailable", high)):
        if value is not None:
            fields.int_or_percent(value, f"spec.{key}", errors)
            fields.not_over_100_percent(value, f"spec.{key}", errors)
    selectors.label_selector(spec.get("selector"), "spec.selector", errors)
    policy = spec.get("unhealthyPodEvictionPolicy")
    kinds = ("AlwaysAllow", "IfHealthyBudget")
    if policy is not None and policy not in kinds:
        errors.append(fields.unsupported("spec.unhealthyPodEvictionPolicy", policy, kinds))


def pod_disruption_budget_status(new: Object, old: Object, errors: Errors) -> None:
    status = new.get("status") or {}
    for key in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"):
        fields.nonnegative(status, key, "status", errors)


def priority_class(obj: Object, errors: Errors) -> None:
    name, value = obj["metadata"].get("name") or "", obj.get("value") or 0
    if name.startswith("system-"):
        known = _SYSTEM_CLASSES.get(name)
        if known is None:
            problem = f"{name} is not a known system priority class"
        elif known != value:
            problem = f"value of {name} PriorityClass must be {known}"
        elif obj.get("globalDefault"):
            problem = f"globalDefault of {name} PriorityClass must be false"
        else:
            problem = ""
        if problem:
            detail = (
                "priority class names with 'system-' prefix are reserved for system use only. "
                f"error: {problem}"
            )
            errors.append(forbidden("metadata.name", detail))
    elif value > _HIGHEST_PRIORITY:
        detail = f"maximum allowed value of a user defined priority is {_HIGHEST_PRIORITY}"
        errors.append(forbidden("value", detail))
    policy = obj.get("preemptionPolicy")
    if policy is not None:
        kinds = ("PreemptLowerPriority", "Never")
        fields.one_of(policy, kinds, "preemptionPolicy", errors)


def priority_class_update(new: Object, old: Object, errors: Errors) -> None:
    if (new.get("value") or 0) != (old.get("value") or 0):
        errors.append(forbidden("value", "may not be changed in an update."))
    key = "preemptionPolicy"
    fields.immutable(new.get(key), old.get(key), key, errors)


def runtime_class(obj: Object, errors: Errors) -> None:
    handler = obj.get("handler") or ""
    fields.name(handler, names.dns_label, "handler", errors)
    found = obj.get("scheduling") or {}
    if found.get("tolerations"):
        scheduling.tolerations(found["tolerations"], "scheduling.tolerations", errors)


def runtime_class_update(new: Object, old: Object, errors: Errors) -> None:
    fields.immutable(new.get("handler"), old.get("handler"), "handler", errors)
