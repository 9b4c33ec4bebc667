"""Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs, CronJobs, autoscalers."""

from __future__ import annotations

from typing import Any

from cluster.api.meta import Object, controller_of, parse_rfc3339
from cluster.api.quantity import canonical
from cluster.api.table.columns import layout
from cluster.api.table.durations import UNKNOWN, age, human_duration, since
from cluster.api.table.text import NONE, containers_and_images, flag, format_labels, format_selector


def _parts(obj: Object) -> tuple[str, Object, Object]:
    return obj["metadata"]["name"], obj.get("spec") or {}, obj.get("status") or {}


def _template(spec: Object) -> tuple[str, str]:
    return containers_and_images(spec.get("template") or {})


def _deployment(obj: Object, now: float) -> list[Any]:
    name, spec, status = _parts(obj)
    return [
        name,
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age(obj, now),
        *_template(spec),
        format_selector(spec.get("selector")),
    ]


def _replica_set(obj: Object, now: float) -> list[Any]:
    name, spec, status = _parts(obj)
    return [
        name,
        spec.get("replicas", 1),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        age(obj, now),
        *_template(spec),
        format_selector(spec.get("selector")),
    ]


def _replication_controller(obj: Object, now: float) -> list[Any]:
    name, spec, status = _parts(obj)
    return [
        name,
        spec.get("replicas", 1),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        age(obj, now),
        *_template(spec),
        format_labels(spec.get("selector")),
    ]


def _stateful_set(obj: Object, now: float) -> list[Any]:
    name, spec, status = _parts(obj)
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}"
    return [name, ready, age(obj, now), *_template(spec)]


def _daemon_set(obj: Object, now: float) -> list[Any]:
    name, spec, status = _parts(obj)
    pod_spec = (spec.get("template") or {}).get("spec") or {}
    return [
        name,
        status.get("desiredNumberScheduled", 0),
        status.get("currentNumberScheduled", 0),
        status.get("numberReady", 0),
        status.get("updatedNumberScheduled", 0),
        status.get("numberAvailable", 0),
        format_labels(pod_spec.get("nodeSelector")),
        age(obj, now),
        *_template(spec),
        format_selector(spec.get("selector")),
    ]


def _job(obj: Object, now: float) -> list[Any]:
    name, spec, status = _parts(obj)
    succeeded = status.get("succeeded", 0)
    parallelism = spec.get("parallelism") or 0
    if spec.get("completions") is not None:
        completions = f"{succeeded}/{spec['completions']}"
    elif parallelism > 1:
        completions = f"{succeeded}/1 of {parallelism}"
    else:
        completions = f"{succeeded}/1"
    return [
        name,
        _job_status(obj, status),
        completions,
        _job_duration(status, now),
        age(obj, now),
        *_template(spec),
        format_selector(spec.get("selector")),
    ]


def _job_status(obj: Object, status: Object) -> str:
    true = {c["type"] for c in status.get("conditions") or () if c.get("status") == "True"}
    for word in ("Complete", "Failed"):
        if word in true:
            return word
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for word in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if word in true:
            return word
    return "Running"


def _job_duration(status: Object, now: float) -> str:
    started = status.get("startTime")
    if not started:
        return ""
    ended = status.get("completionTime")
    end = parse_rfc3339(ended) if ended else now
    return human_duration(end - parse_rfc3339(started))


def _cron_job(obj: Object, now: float) -> list[Any]:
    name, spec, status = _parts(obj)
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    last = status.get("lastScheduleTime")
    return [
        name,
        spec.get("schedule", ""),
        spec.get("timeZone") or NONE,
        flag(spec.get("suspend")),
        len(status.get("active") or ()),
        since(last, now) if last else NONE,
        age(obj, now),
        *_template(job),
        format_selector(job.get("selector")),
    ]


def _controller_revision(obj: Object, now: float) -> list[Any]:
    owner = controller_of(obj)
    controller = NONE
    if owner is not None:
        group = owner.get("apiVersion", "").rpartition("/")[0]
        kind = owner["kind"].lower()
        controller = f"{kind}.{group}/{owner['name']}" if group else f"{kind}/{owner['name']}"
    return [obj["metadata"]["name"], controller, obj.get("revision", 0), age(obj, now)]


def _autoscaler(obj: Object, now: float) -> list[Any]:
    name, spec, status = _parts(obj)
    target = spec.get("scaleTargetRef") or {}
    lowest = spec.get("minReplicas")
    return [
        name,
        f"{target.get('kind', '')}/{target.get('name', '')}",
        _metrics(spec, status),
        UNSET if lowest is None else str(lowest),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age(obj, now),
    ]


UNSET = "<unset>"
_SOURCES = {
    "Resource": "resource", "ContainerResource": "containerResource", "Pods": "pods",
    "Object": "object", "External": "external",
}  # fmt: skip


def _metrics(spec: Object, status: Object) -> str:
    metrics = spec.get("metrics")
    if metrics is None and spec.get("targetCPUUtilizationPercentage") is not None:
        now = status.get("currentCPUUtilizationPercentage")
        shown = UNKNOWN if now is None else f"{now}%"
        return f"cpu: {shown}/{spec['targetCPUUtilizationPercentage']}%"
    if not metrics:
        return NONE
    current = status.get("currentMetrics") or []
    listed = [
        _metric(metric, current[i] if i < len(current) else {}) for i, metric in enumerate(metrics)
    ]
    extra = len(listed) - 2
    shown = ", ".join(listed[:2])
    return f"{shown} + {extra} more..." if extra > 0 else shown


def _metric(metric: Object, current: Object) -> str:
    field = _SOURCES.get(metric.get("type", ""), "")
    source, now = metric.get(field) or {}, (current.get(field) or {}).get("current") or {}
    target = source.get("target") or {}
    prefix = f"{source['name']}: " if field in ("resource", "containerResource") else ""
    if target.get("averageValue") is not None:
        suffix = " (avg)" if field in ("external", "object") else ""
        return (
            f"{prefix}{_shown(now.get('averageValue'))}/{canonical(target['averageValue'])}{suffix}"
        )
    if target.get("averageUtilization") is not None:
        actual = now.get("averageUtilization")
        shown = UNKNOWN if actual is None else f"{actual}%"
        return f"{prefix}{shown}/{target['averageUtilization']}%"
    return f"{prefix}{_shown(now.get('value'))}/{_shown(target.get('value'))}"


def _shown(quantity: Any) -> str:
    return UNKNOWN if quantity is None else canonical(quantity)


_TEMPLATE = "Containers*|Images*"

LAYOUTS = {
    ("apps", "Deployment"): layout(
        f"Name|Ready|Up-to-date|Available|Age|{_TEMPLATE}|Selector*", _deployment
    ),
    ("apps", "ReplicaSet"): layout(
        f"Name|Desired:int|Current:int|Ready:int|Age|{_TEMPLATE}|Selector*", _replica_set
    ),
    ("", "ReplicationController"): layout(
        f"Name|Desired:int|Current:int|Ready:int|Age|{_TEMPLATE}|Selector*",
        _replication_controller,
    ),
    ("apps", "StatefulSet"): layout(f"Name|Ready|Age|{_TEMPLATE}", _stateful_set),
    ("apps", "DaemonSet"): layout(
        "Name|Desired:int|Current:int|Ready:int|Up-to-date:int|Available:int|Node Selector|Age|"
        f"{_TEMPLATE}|Selector*",
        _daemon_set,
    ),
    ("apps", "ControllerRevision"): layout("Name|Controller|Revision|Age", _controller_revision),
    ("batch", "Job"): layout(f"Name|Status|Completions|Duration|Age|{_TEMPLATE}|Selector*", _job),
    ("batch", "CronJob"): layout(
        f"Name|Schedule|Timezone|Suspend:bool|Active:int|Last Schedule|Age|{_TEMPLATE}|Selector*",
        _cron_job,
    ),
    ("autoscaling", "HorizontalPodAutoscaler"): layout(
        "Name|Reference|Targets|MinPods|MaxPods|Replicas|Age", _autoscaler
    ),
}
