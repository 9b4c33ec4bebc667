"""A Job's pods: what they are made of, their completion index, their tracking finalizer."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.api.meta import Object
from cluster.controllers.ownership import Kind, controller_ref
from cluster.controllers.podtemplate import pod_from_template

KIND = Kind("batch/v1", "Job")
FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
FAILURE_COUNT = "batch.kubernetes.io/job-index-failure-count"


def is_indexed(job: Object) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def index_of(pod: Object) -> int:
    """The completion index, -1 if it has none."""
    text = (pod["metadata"].get("annotations") or {}).get(INDEX, "")
    return int(text) if text.isdigit() else -1


def is_tracked(pod: Object) -> bool:
    return FINALIZER in (pod["metadata"].get("finalizers") or ())


def make_pod(job: Object, index: int | None, failures: int | None = None) -> Object:
    """A pod of the Job; `index` for an Indexed one, `failures` of that index where they count."""
    name = job["metadata"]["name"]
    prefix = f"{name}-" if index is None else f"{name}-{index}-"
    template = job["spec"]["template"]
    pod = pod_from_template(template, controller_ref(job, KIND), generate_name=prefix)
    meta = pod["metadata"]
    meta["finalizers"] = [*(meta.get("finalizers") or ()), FINALIZER]
    if index is None:
        return pod
    meta["annotations"] = {**(meta.get("annotations") or {}), INDEX: str(index)}
    if failures is not None:
        meta["annotations"][FAILURE_COUNT] = str(failures)
    meta["labels"] = {**(meta.get("labels") or {}), INDEX: str(index)}
    spec = {**pod["spec"], "hostname": f"{name}-{index}"}
    for field in ("initContainers", "containers"):
        if spec.get(field):
            spec[field] = [_with_index(c) for c in spec[field]]
    pod["spec"] = spec
    return pod


def _with_index(container: Object) -> Object:
    env = container.get("env") or []
    if any(e["name"] == "JOB_COMPLETION_INDEX" for e in env):
        return container
    source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{INDEX}']"}}
    return {**container, "env": [*env, {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}]}


def parse_indexes(text: str) -> set[int]:
    """`1,3-5,7` into numbers."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def format_indexes(indexes: Iterable[int]) -> str:
    """Numbers into `1,3-5,7`; two in a row are written with a comma."""
    parts: list[str] = []
    run: list[int] = []
    for number in [*sorted(indexes), None]:
        if run and number == run[-1] + 1:
            run.append(number)
            continue
        if len(run) > 2:
            parts.append(f"{run[0]}-{run[-1]}")
        else:
            parts += [str(n) for n in run]
        run = [number] if number is not None else []
    return ",".join(parts)
