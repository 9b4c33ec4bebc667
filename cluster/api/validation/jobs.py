"""Job and CronJob."""

from __future__ import annotations

from zoneinfo import available_timezones

from cluster.api.errors import FieldError, invalid, required
from cluster.api.meta import Object
from cluster.api.validation import fields, pods, selectors
from cluster.api.validation.cron import schedule_error
from cluster.api.validation.fields import Errors

_COUNTS = (
    "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit",
    "ttlSecondsAfterFinished", "backoffLimitPerIndex", "maxFailedIndexes",
)  # fmt: skip
_PARALLEL_LIMIT = 100_000


def job(obj: Object, errors: Errors) -> None:
    spec, meta = obj.get("spec") or {}, obj["metadata"]
    if not spec.get("manualSelector"):
        _generated_labels(spec, meta, errors)
    _job_spec(spec, "spec", errors)
    selector, template = spec.get("selector"), spec.get("template") or {}
    if selector is None:
        errors.append(required("spec.selector"))
    else:
        selectors.label_selector(selector, "spec.selector", errors)
        selectors.template_labels(selector, template, "spec.template", errors)


def _generated_labels(spec: Object, meta: Object, errors: Errors) -> None:
    if spec.get("selector") is None or not meta.get("uid"):
        return
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    expected = {
        "controller-uid": meta["uid"],
        "job-name": meta.get("name"),
        "batch.kubernetes.io/controller-uid": meta["uid"],
        "batch.kubernetes.io/job-name": meta.get("name"),
    }
    for key, value in expected.items():
        if key in labels and labels[key] != value:
            at = f"spec.template.metadata.labels[{key}]"
            errors.append(invalid(at, labels, f"must be '{value}'"))
    if not selectors.matches(spec["selector"], expected):
        errors.append(invalid("spec.selector", spec["selector"], "`selector` not auto-generated"))


def _job_spec(spec: Object, path: str, errors: Errors) -> None:
    for key in _COUNTS:
        fields.nonnegative(spec, key, path, errors)
    mode = spec.get("completionMode")
    if mode is not None and mode not in ("NonIndexed", "Indexed"):
        at = f"{path}.completionMode"
        errors.append(fields.unsupported(at, mode, ("NonIndexed", "Indexed")))
    if mode == "Indexed":
        if spec.get("completions") is None:
            errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
        if (spec.get("parallelism") or 0) > _PARALLEL_LIMIT:
            detail = (
                f"must be less than or equal to {_PARALLEL_LIMIT} when completion mode is Indexed"
            )
            errors.append(invalid(f"{path}.parallelism", spec["parallelism"], detail))
    elif spec.get("backoffLimitPerIndex") is not None:
        at = f"{path}.backoffLimitPerIndex"
        errors.append(invalid(at, spec["backoffLimitPerIndex"], "requires indexed completion mode"))
    replacement = spec.get("podReplacementPolicy")
    if replacement is not None and replacement not in ("Failed", "TerminatingOrFailed"):
        at = f"{path}.podReplacementPolicy"
        errors.append(fields.unsupported(at, replacement, ("Failed", "TerminatingOrFailed")))
    template = spec.get("template") or {}
    pods.template(template, f"{path}.template", errors)
    _restart_policy(spec, (template.get("spec") or {}).get("restartPolicy") or "", path, errors)


def _restart_policy(spec: Object, policy: str, path: str, errors: Errors) -> None:
    at = f"{path}.template.spec.restartPolicy"
    if policy == "Always":
        errors.append(required(at, 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        errors.append(fields.unsupported(at, policy, ("OnFailure", "Never")))
    elif spec.get("podFailurePolicy") is not None and policy != "Never":
        detail = 'only "Never" is supported when podFailurePolicy is specified'
        errors.append(invalid(at, policy, detail))


def job_update(new: Object, old: Object, errors: Errors) -> None:
    spec, before = new["spec"], old["spec"]
    if spec == before:
        return
    job(new, errors)
    _completions(spec, before, errors)
    fields.immutable(spec.get("selector"), before.get("selector"), "spec.selector", errors)
    template, kept = spec.get("template") or {}, before.get("template") or {}
    if _mutable_template(old):
        template = _with_scheduling_of(template, kept)
    fields.immutable(template, kept, "spec.template", errors)
    for key in (
        "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy",
    ):  # fmt: skip
        fields.immutable(spec.get(key), before.get(key), f"spec.{key}", errors)


def _completions(spec: Object, before: Object, errors: Errors) -> None:
    """An elastic indexed Job may change its completions together with its parallelism."""
    completions = spec.get("completions")
    if completions == before.get("completions"):
        return
    if spec.get("completionMode") == "Indexed" and completions == spec.get("parallelism"):
        return
    detail = fields.IMMUTABLE
    if spec.get("completionMode") == "Indexed":
        detail = f"can only be modified in tandem with spec.parallelism: {fields.IMMUTABLE}"
    errors.append(FieldError("FieldValueInvalid", "spec.completions", completions, detail))


def _mutable_template(old: Object) -> bool:
    """A suspended Job that never started may still be steered to nodes."""
    started = (old.get("status") or {}).get("startTime")
    return bool(old["spec"].get("suspend")) and not started


def _with_scheduling_of(template: Object, kept: Object) -> Object:
    spec, before = dict(template.get("spec") or {}), kept.get("spec") or {}
    for key in ("nodeSelector", "tolerations", "schedulingGates", "affinity"):
        spec.pop(key, None)
        if key in before:
            spec[key] = before[key]
    for field in ("containers", "initContainers"):
        spec_containers, kept_containers = spec.get(field) or [], before.get(field) or []
        if spec_containers and len(spec_containers) == len(kept_containers):
            spec[field] = [
                {**c, "resources": k.get("resources")}
                for c, k in zip(spec_containers, kept_containers, strict=True)
            ]
    meta = {**(template.get("metadata") or {})}
    for key in ("labels", "annotations"):
        meta.pop(key, None)
        if key in (kept.get("metadata") or {}):
            meta[key] = kept["metadata"][key]
    return {**template, "metadata": meta, "spec": spec} if meta else {**template, "spec": spec}


def job_status(new: Object, old: Object, errors: Errors) -> None:
    status = new.get("status") or {}
    for key in ("active", "succeeded", "failed", "ready"):
        fields.nonnegative(status, key, "status", errors)


def cron_job_create(obj: Object, errors: Errors) -> None:
    name = obj["metadata"].get("name") or ""
    if len(name) > 52:
        errors.append(invalid("metadata.name", name, "must be no more than 52 characters"))
    cron_job(obj, errors)


def cron_job(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    schedule = spec.get("schedule")
    if not schedule:
        errors.append(required("spec.schedule"))
    elif "TZ" in schedule:
        detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        errors.append(invalid("spec.schedule", schedule, detail))
    else:
        problem = schedule_error(schedule)
        if problem:
            errors.append(invalid("spec.schedule", schedule, problem))
    zone = spec.get("timeZone")
    if zone is not None:
        _time_zone(zone, errors)
    fields.nonnegative(spec, "startingDeadlineSeconds", "spec", errors)
    policies = ("Allow", "Forbid", "Replace")
    fields.one_of(spec.get("concurrencyPolicy"), policies, "spec.concurrencyPolicy", errors)
    template = (spec.get("jobTemplate") or {}).get("spec") or {}
    path = "spec.jobTemplate.spec"
    _job_spec(template, path, errors)
    if template.get("selector") is not None:
        detail = "`selector` will be auto-generated"
        errors.append(invalid(f"{path}.selector", template["selector"], detail))
    if template.get("manualSelector"):
        errors.append(fields.unsupported(f"{path}.manualSelector", True, ("nil", "false")))
    for key in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        fields.nonnegative(spec, key, "spec", errors)


def _time_zone(zone: str, errors: Errors) -> None:
    if not zone:
        errors.append(invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string"))
    elif zone.lower() == "local":
        detail = (
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        )
        errors.append(invalid("spec.timeZone", zone, detail))
    elif zone not in available_timezones():
        errors.append(invalid("spec.timeZone", zone, f"unknown time zone {zone}"))
