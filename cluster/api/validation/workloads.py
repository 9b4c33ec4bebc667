"""Deployment, ReplicaSet, StatefulSet, DaemonSet, ReplicationController, ControllerRevision."""

from __future__ import annotations

from cluster.api.errors import forbidden, invalid, required
from cluster.api.meta import Object
from cluster.api.validation import fields, pods, selectors
from cluster.api.validation.fields import Errors

_STATUS_LIMIT = "cannot be greater than status.replicas"


def deployment(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    fields.nonnegative(spec, "replicas", "spec", errors)
    _selector_and_template(spec, "deployment", "ReplicaSet", errors)
    _deployment_strategy(spec.get("strategy") or {}, errors)
    for key in ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"):
        fields.nonnegative(spec, key, "spec", errors)
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= (spec.get("minReadySeconds") or 0):
        detail = "must be greater than minReadySeconds"
        errors.append(invalid("spec.progressDeadlineSeconds", deadline, detail))


def _deployment_strategy(strategy: Object, errors: Errors) -> None:
    path, kind, rolling = "spec.strategy", strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            detail = "may not be specified when strategy `type` is 'Recreate'"
            errors.append(forbidden(f"{path}.rollingUpdate", detail))
    elif kind != "RollingUpdate":
        kinds = ("Recreate", "RollingUpdate")
        errors.append(fields.unsupported(f"{path}.type", kind or "", kinds))
    elif rolling is None:
        detail = "this should be defaulted and never be nil"
        errors.append(required(f"{path}.rollingUpdate", detail))
    else:
        path = f"{path}.rollingUpdate"
        unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
        fields.int_or_percent(unavailable or 0, f"{path}.maxUnavailable", errors)
        fields.int_or_percent(surge or 0, f"{path}.maxSurge", errors)
        if not fields.leading_int(unavailable) and not fields.leading_int(surge):
            detail = "may not be 0 when `maxSurge` is 0"
            errors.append(invalid(f"{path}.maxUnavailable", unavailable, detail))
        fields.not_over_100_percent(unavailable, f"{path}.maxUnavailable", errors)


def _selector_and_template(spec: Object, empty_for: str, kind: str, errors: Errors) -> None:
    selector = spec.get("selector")
    if selector is None:
        errors.append(required("spec.selector"))
    else:
        selectors.label_selector(selector, "spec.selector", errors)
        if selectors.is_empty(selector):
            detail = f"empty selector is invalid for {empty_for}"
            errors.append(invalid("spec.selector", selector, detail))
    template = spec.get("template")
    if template is None:
        errors.append(required("spec.template"))
        return
    selectors.template_labels(selector, template, "spec.template", errors)
    pods.template(template, "spec.template", errors)
    _always_restarts(template.get("spec") or {}, kind, errors)


def _always_restarts(spec: Object, kind: str, errors: Errors) -> None:
    policy = spec.get("restartPolicy") or ""
    if policy != "Always":
        at = "spec.template.spec.restartPolicy"
        errors.append(fields.unsupported(at, policy, ("Always",)))
    if spec.get("activeDeadlineSeconds") is not None:
        detail = f"activeDeadlineSeconds in {kind} is not Supported"
        errors.append(forbidden("spec.template.spec.activeDeadlineSeconds", detail))


def selector_update(new: Object, old: Object, errors: Errors) -> None:
    """The selector of Deployments, ReplicaSets and DaemonSets is for ever."""
    before, after = old["spec"].get("selector"), new["spec"].get("selector")
    fields.immutable(after, before, "spec.selector", errors)


def replica_set(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    fields.nonnegative(spec, "replicas", "spec", errors)
    fields.nonnegative(spec, "minReadySeconds", "spec", errors)
    _selector_and_template(spec, "deployment", "ReplicaSet", errors)


def replication_controller(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    fields.nonnegative(spec, "minReadySeconds", "spec", errors)
    selector = spec.get("selector")
    if not selector:
        errors.append(required("spec.selector"))
    fields.nonnegative(spec, "replicas", "spec", errors)
    template = spec.get("template")
    if template is None:
        errors.append(required("spec.template"))
        return
    if selector:
        selectors.template_labels({"matchLabels": selector}, template, "spec.template", errors)
    pods.template(template, "spec.template", errors)
    _always_restarts(template.get("spec") or {}, "ReplicationController", errors)


def daemon_set(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    selector, template = spec.get("selector"), spec.get("template") or {}
    selectors.label_selector(selector, "spec.selector", errors)
    selectors.template_labels(selector, template, "spec.template", errors)
    if selectors.is_empty(selector):
        detail = "empty selector is invalid for daemonset"
        errors.append(invalid("spec.selector", selector, detail))
    pods.template(template, "spec.template", errors)
    _always_restarts(template.get("spec") or {}, "DaemonSet", errors)
    fields.nonnegative(spec, "minReadySeconds", "spec", errors)
    _daemon_set_strategy(spec.get("updateStrategy") or {}, errors)
    fields.nonnegative(spec, "revisionHistoryLimit", "spec", errors)


def _daemon_set_strategy(strategy: Object, errors: Errors) -> None:
    path, kind = "spec.updateStrategy", strategy.get("type")
    if kind == "OnDelete":
        return
    if kind != "RollingUpdate":
        kinds = ("RollingUpdate", "OnDelete")
        errors.append(fields.unsupported(f"{path}.type", kind or "", kinds))
        return
    rolling, path = strategy.get("rollingUpdate"), f"{path}.rollingUpdate"
    if rolling is None:
        errors.append(required(path))
        return
    unavailable, surge = rolling.get("maxUnavailable") or 0, rolling.get("maxSurge") or 0
    fields.int_or_percent(unavailable, f"{path}.maxUnavailable", errors)
    fields.int_or_percent(surge, f"{path}.maxSurge", errors)
    both = (fields.leading_int(unavailable) != 0, fields.leading_int(surge) != 0)
    if all(both):
        detail = "may not be set when maxUnavailable is non-zero"
        errors.append(invalid(f"{path}.maxSurge", surge, detail))
    elif not any(both):
        errors.append(required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    fields.not_over_100_percent(unavailable, f"{path}.maxUnavailable", errors)
    fields.not_over_100_percent(surge, f"{path}.maxSurge", errors)


def stateful_set(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    policy = spec.get("podManagementPolicy")
    if not policy:
        errors.append(required("spec.podManagementPolicy"))
    elif policy not in ("OrderedReady", "Parallel"):
        detail = "must be 'OrderedReady' or 'Parallel'"
        errors.append(invalid("spec.podManagementPolicy", policy, detail))
    _stateful_set_strategy(spec.get("updateStrategy") or {}, errors)
    for key in ("whenDeleted", "whenScaled"):
        retention = (spec.get("persistentVolumeClaimRetentionPolicy") or {}).get(key)
        if retention and retention not in ("Retain", "Delete"):
            at = f"spec.persistentVolumeClaimRetentionPolicy.{key}"
            errors.append(fields.unsupported(at, retention, ("Retain", "Delete")))
    fields.nonnegative(spec, "replicas", "spec", errors)
    fields.nonnegative(spec, "minReadySeconds", "spec", errors)
    fields.nonnegative(spec.get("ordinals") or {}, "start", "spec.ordinals", errors)
    selector, template = spec.get("selector"), spec.get("template") or {}
    if selector is None:
        errors.append(required("spec.selector"))
    else:
        selectors.label_selector(selector, "spec.selector", errors)
        if selectors.is_empty(selector):
            detail = "empty selector is invalid for statefulset"
            errors.append(invalid("spec.selector", selector, detail))
    selectors.template_labels(selector, template, "spec.template", errors)
    _stateful_template(template, spec, errors)


def _stateful_template(template: Object, spec: Object, errors: Errors) -> None:
    """Mounts may name claim templates, which become volumes only in the pod."""
    pod = dict(template.get("spec") or {})
    claims = [
        (claim.get("metadata") or {}).get("name")
        for claim in spec.get("volumeClaimTemplates") or ()
    ]
    known = {volume.get("name") for volume in pod.get("volumes") or ()}
    extra = [
        {"name": name, "persistentVolumeClaim": {"claimName": name}}
        for name in claims
        if name and name not in known
    ]
    if extra:
        pod["volumes"] = [*(pod.get("volumes") or ()), *extra]
    pods.template({**template, "spec": pod}, "spec.template", errors)
    policy = pod.get("restartPolicy") or ""
    if policy != "Always":
        at = "spec.template.spec.restartPolicy"
        errors.append(fields.unsupported(at, policy, ("Always",)))
    deadline = pod.get("activeDeadlineSeconds")
    if deadline is not None:
        detail = "activeDeadlineSeconds in StatefulSet is not Supported"
        errors.append(forbidden("spec.template.spec.activeDeadlineSeconds", detail))


def _stateful_set_strategy(strategy: Object, errors: Errors) -> None:
    path, kind, rolling = "spec.updateStrategy", strategy.get("type"), strategy.get("rollingUpdate")
    if not kind:
        errors.append(required(path))
    elif kind == "OnDelete":
        if rolling is not None:
            detail = "only allowed for updateStrategy 'RollingUpdate'"
            errors.append(invalid(f"{path}.rollingUpdate", rolling, detail))
    elif kind != "RollingUpdate":
        detail = "must be 'RollingUpdate' or 'OnDelete'"
        errors.append(invalid(path, strategy, detail))
    elif rolling is not None:
        path = f"{path}.rollingUpdate"
        fields.nonnegative(rolling, "partition", path, errors)
        unavailable = rolling.get("maxUnavailable")
        if unavailable is not None:
            fields.int_or_percent(unavailable, f"{path}.maxUnavailable", errors)
            if not fields.leading_int(unavailable):
                errors.append(invalid(f"{path}.maxUnavailable", unavailable, "cannot be 0"))
            fields.not_over_100_percent(unavailable, f"{path}.maxUnavailable", errors)


_STATEFUL_MUTABLE = frozenset({
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
})  # fmt: skip


def stateful_set_update(new: Object, old: Object, errors: Errors) -> None:
    spec, before = new["spec"], old["spec"]
    changed = {key for key in {*spec, *before} if spec.get(key) != before.get(key)}
    if changed - _STATEFUL_MUTABLE:
        detail = (
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
            "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
            "'minReadySeconds' are forbidden"
        )
        errors.append(forbidden("spec", detail))


_COUNTS = (
    "replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "updatedReplicas",
    "unavailableReplicas", "currentReplicas", "observedGeneration", "collisionCount",
    "currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady",
    "updatedNumberScheduled", "numberAvailable", "numberUnavailable",
)  # fmt: skip
_WITHIN_REPLICAS = (
    "fullyLabeledReplicas", "updatedReplicas", "readyReplicas", "availableReplicas",
    "currentReplicas",
)  # fmt: skip


def status(new: Object, old: Object, errors: Errors) -> None:
    """The counts in the status of any workload."""
    after, before = new.get("status") or {}, old.get("status") or {}
    for key in _COUNTS:
        value = after.get(key)
        if value is not None and value < 0:
            errors.append(invalid(f"status.{key}", value, fields.NEGATIVE))
    replicas = after.get("replicas")
    if replicas is not None or "numberReady" not in after:
        for key in _WITHIN_REPLICAS:
            if (after.get(key) or 0) > (replicas or 0):
                errors.append(invalid(f"status.{key}", after[key], _STATUS_LIMIT))
    if (after.get("availableReplicas") or 0) > (after.get("readyReplicas") or 0):
        detail = "cannot be greater than readyReplicas"
        errors.append(invalid("status.availableReplicas", after["availableReplicas"], detail))
    if (before.get("collisionCount") or 0) > (after.get("collisionCount") or 0):
        value = after.get("collisionCount") or 0
        errors.append(invalid("status.collisionCount", value, "cannot be decremented"))


def controller_revision(obj: Object, errors: Errors) -> None:
    if obj.get("data") is None:
        errors.append(required("data", "data is mandatory"))
    if (obj.get("revision") or 0) < 0:
        errors.append(invalid("revision", obj["revision"], fields.NEGATIVE))


def controller_revision_update(new: Object, old: Object, errors: Errors) -> None:
    fields.immutable(new.get("data"), old.get("data"), "data", errors)
