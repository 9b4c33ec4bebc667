"""pods/binding: the scheduler's word. Plays pkg/registry/core/pod/storage.BindingREST.

The second most frequent write of a cluster under load: it changes three fields and runs no
strategy of its own.
"""

from __future__ import annotations

from cluster.api.errors import BadRequest, Conflict, FieldError, Invalid, required
from cluster.api.meta import Object, rfc3339
from cluster.apiserver import pipeline
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call, Outcome
from cluster.apiserver.problems import MODIFIED, not_found
from cluster.etcd.store import CompareFailed

_BINDING = "io.k8s.api.core.v1.Binding"


async def bind(backend: Backend, call: Call) -> Outcome:
    """POST pods/NAME/binding. Raises NotFound, Conflict (bound already, going), Invalid."""
    return await bind_pod(backend, call, decode(backend, call), call.name)


def decode(backend: Backend, call: Call) -> Object:
    """The body as a Binding. Raises BadRequest."""
    return pipeline.decode_as(backend, call, call.decoded(), "Binding", _BINDING)


async def bind_pod(backend: Backend, call: Call, binding: Object, name: str) -> Outcome:
    """Bind pod `name` as `binding` says."""
    target = _check(binding, name)
    metadata = binding.get("metadata") or {}
    pods = backend.storage.cache("", "pods")
    await pipeline.Admission(
        backend, call, "CREATE", binding, None, subresource="binding", name=name
    ).admit()
    for _ in range(pipeline.ATTEMPTS):
        entry = pods.get(call.route.namespace, name)
        if entry is None:
            raise not_found(pods.resource, name)
        old = backend.storage.decoded(entry)  # shared: `_assign` makes anew what it changes
        _check_pod(old, name, metadata)
        pod = dict(old)
        _assign(pod, target, metadata, rfc3339(backend.clock.now()))
        if backend.config.managed_fields:
            pipeline.track(backend, call, _slim(old), _slim(pod), "binding")
        if call.dry_run:
            return created()
        try:
            await backend.storage.put(pods, entry.key, pod, entry.revision)
        except CompareFailed as failed:
            if failed.current is not None:
                await backend.storage.seen(failed.current.mod_revision)
            continue
        now = backend.clock.now()
        received = now - (backend.clock.monotonic() - call.started)
        stage = {"stage": "bound", "start": received, "end": now, "detail": {"node": target}}
        backend.flow.add(call.route.namespace, name, stage)
        return created()
    raise _conflict(name, MODIFIED)


def created() -> Outcome:
    status: Object = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "code": 201,
    }
    return Outcome(201, obj=status)


def _check(binding: Object, name: str) -> str:
    target = binding.get("target") or {}
    given = binding["metadata"].get("name")
    if given and given != name:
        raise BadRequest("name in URL does not match name in Binding object")
    kind = target.get("kind")
    errors: list[FieldError] = []
    if kind not in (None, "", "Node"):
        detail = 'supported values: "Node", "<empty>"'
        errors.append(FieldError("FieldValueNotSupported", "target.kind", kind, detail))
    if not target.get("name"):
        errors.append(required("target.name"))
    if errors:
        raise Invalid.of("", "Binding", name, errors)
    return str(target["name"])


def _check_pod(pod: Object, name: str, wanted: Object) -> None:
    metadata, spec = pod["metadata"], pod["spec"]
    uid, version = wanted.get("uid"), wanted.get("resourceVersion")
    if uid and uid != metadata["uid"]:
        why = (
            f"Precondition failed: UID in precondition: {uid}, "
            f"UID in object meta: {metadata['uid']}"
        )
        raise _conflict(name, why)
    if version and version != metadata["resourceVersion"]:
        why = (
            f"Precondition failed: ResourceVersion in precondition: {version}, "
            f"ResourceVersion in object meta: {metadata['resourceVersion']}"
        )
        raise _conflict(name, why)
    if metadata.get("deletionTimestamp"):
        raise _conflict(name, f"pod {name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise _conflict(name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
    if spec.get("schedulingGates"):
        raise _conflict(name, f"pod {name} has non-empty .spec.schedulingGates")


def _conflict(name: str, why: str) -> Conflict:
    return Conflict(
        f'Operation cannot be fulfilled on pods/binding "{name}": {why}',
        details={"name": name, "kind": "pods/binding"},
    )


def _slim(pod: Object) -> Object:
    """What a binding can change of a pod, for managedFields: comparing the rest would be most of
    the work."""
    spec, status = pod["spec"], pod.get("status") or {}
    slim = {k: pod[k] for k in ("apiVersion", "kind", "metadata")}
    slim["spec"] = {"nodeName": spec["nodeName"]} if spec.get("nodeName") else {}
    slim["status"] = {"conditions": status.get("conditions") or []}
    return slim


def _assign(pod: Object, node: str, binding: Object, now: str) -> None:
    """Changed parts are made anew: the old pod still shares the rest."""
    pod["spec"] = {**pod["spec"], "nodeName": node}
    metadata = pod["metadata"] = dict(pod["metadata"])
    annotations = binding.get("annotations")
    if annotations:
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **annotations}
    labels = binding.get("labels")
    if labels:
        metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    status = pod["status"] = dict(pod.get("status") or {})
    conditions = [c for c in status.get("conditions") or () if c.get("type") != "PodScheduled"]
    conditions.append(
        {
            "lastProbeTime": None,
            "lastTransitionTime": now,
            "status": "True",
            "type": "PodScheduled",
        }
    )
    status["conditions"] = conditions
