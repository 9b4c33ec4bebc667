"""What create, update, patch and the subresources share: from a body to a stored object.

Plays k8s.io/apiserver/pkg/registry/rest (BeforeCreate, BeforeUpdate) and generic/registry.Store's
guaranteed update. The order is upstream's: decode, defaults, mutating admission, strategy,
validation, store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from cluster.api import apply, strategy
from cluster.api.catalogue import Resource
from cluster.api.convert import to_version
from cluster.api.errors import BadRequest, FieldError, Invalid
from cluster.api.meta import Object
from cluster.apiserver.attributes import AdmissionRequest, Operation
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call, Outcome
from cluster.apiserver.problems import conflict, not_found
from cluster.apiserver.watchcache import Entry, ResourceCache
from cluster.apiserver.watchcache.entry import encode, splice
from cluster.etcd.store import CompareFailed

ATTEMPTS = 5
"""Tries of a change that names no resourceVersion, against concurrent writers (upstream's patch
retries)."""

_PODS = "/registry/pods/"
STATUS_PARTS = ("apiVersion", "kind", "metadata", "status")

MALFORMED = (LookupError, TypeError, AttributeError, ValueError)
"""What a mutating plugin may trip over: it sees an object before validation. Validation then has
the word; only if it finds nothing is the fault ours."""

FieldValidation = Literal["Ignore", "Warn", "Strict"]

# Renewed every ten seconds by every node: they may skip the disk's sync, nothing else may.
_NOT_DURABLE = frozenset({("coordination.k8s.io", "leases")})


def field_validation(call: Call) -> FieldValidation:
    value = call.parameter("fieldValidation")
    if value in ("", "Warn"):
        return "Warn"
    if value == "Ignore":
        return "Ignore"
    if value == "Strict":
        return "Strict"
    kind = f"{call.verb.capitalize()}Options"
    detail = 'supported values: "", "Ignore", "Strict", "Warn"'
    raise Invalid.of(
        "meta.k8s.io",
        kind,
        "",
        [FieldError("FieldValueNotSupported", "fieldValidation", value, detail)],
    )


def check_type(value: Any, resource: Resource) -> Object:
    """The body must be an object of the resource's kind; missing apiVersion and kind are filled
    in."""
    if not isinstance(value, dict):
        got = "array" if isinstance(value, list) else type(value).__name__
        raise BadRequest(
            f"the object provided is unrecognized (must be of type {resource.kind}): "
            f"couldn't get version/kind; json parse error: json: cannot unmarshal {got} into Go "
            "value"
        )
    wanted = resource.gvr.api_version
    version, kind = value.get("apiVersion"), value.get("kind")
    if version is None or version == "":
        value["apiVersion"] = version = wanted
    if kind is None or kind == "":
        value["kind"] = kind = resource.kind
    if version != wanted:
        raise BadRequest(
            f"the API version in the data ({version}) does not match the expected API version "
            f"({wanted})"
        )
    if kind != resource.kind:
        raise BadRequest(
            f'{kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f"converting ({resource.version}.{kind}) to ({resource.kind}): unknown conversion"
        )
    return value


def decode_object(backend: Backend, call: Call, value: Any) -> Object:
    """A body as an object of the call's resource: typed, pruned, with metadata. Raises
    BadRequest."""
    served = call.served
    obj = check_type(value, served)
    if served.schema_name:
        found = backend.schemas.decode(served.schema_name, obj, field_validation(call))
        if found:
            call.warnings.extend(found)
    check_metadata(obj)
    return to_version(obj, call.resource.api_version) if call.converts else obj


def decode_as(backend: Backend, call: Call, value: Any, kind: str, schema_name: str) -> Object:
    """A subresource's body, which is of another kind than the resource. Raises BadRequest."""
    if not isinstance(value, dict):
        raise BadRequest(f"the object provided is unrecognized (must be of type {kind})")
    if value.get("kind") not in (None, "", kind):
        raise BadRequest(f"the object provided is unrecognized (must be of type {kind})")
    found = backend.schemas.decode(schema_name, value, field_validation(call))
    if found:
        call.warnings.extend(found)
    check_metadata(value)
    return value


def check_metadata(obj: Object) -> None:
    metadata = obj.get("metadata")
    if metadata is None:
        obj["metadata"] = {}
    elif not isinstance(metadata, dict):
        raise BadRequest(
            "json: cannot unmarshal into Go struct field .metadata of type v1.ObjectMeta"
        )


def match_namespace(call: Call, obj: Object) -> None:
    """rest.EnsureObjectNamespaceMatchesRequestNamespace."""
    metadata = obj["metadata"]
    if not call.resource.namespaced:
        return
    given = metadata.get("namespace")
    if not given:
        metadata["namespace"] = call.namespace
    elif given != call.namespace:
        raise BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def match_name(call: Call, obj: Object) -> None:
    metadata = obj["metadata"]
    given = metadata.get("name")
    if not given:
        metadata["name"] = call.name
    elif given != call.name:
        raise BadRequest(
            f"the name of the object ({given}) does not match the name on the URL ({call.name})"
        )


class Admission:
    """One request's way through the admission chain; only webhooks make it wait."""

    __slots__ = ("_call", "_chain", "_request", "_waits")

    def __init__(
        self,
        backend: Backend,
        call: Call,
        operation: Operation,
        obj: Object | None,
        old: Object | None,
        *,
        subresource: str | None = None,
        name: str = "",
        options: Object | None = None,
        dry_run: bool | None = None,
    ) -> None:
        self._call = call
        self._chain = backend.admission
        self._request = AdmissionRequest(
            operation,
            call.resource.gvr,
            call.resource.kind,
            call.namespace,
            name or call.name,
            call.subresource if subresource is None else subresource,
            call.user,
            obj,
            old,
            dry_run=call.dry_run if dry_run is None else dry_run,
            options=options or {},
        )
        request = self._request
        self._waits = self._chain.waits(operation, request.gvr, request.subresource)

    async def mutate(self) -> None:
        if self._waits:
            await self._chain.mutate_async(self._request)
        else:
            self._chain.mutate(self._request)

    async def validate(self) -> None:
        if self._waits:
            await self._chain.validate_async(self._request)
        else:
            self._chain.validate(self._request)
        if self._request.warnings:
            self._call.warnings.extend(self._request.warnings)

    async def admit(self) -> None:
        """Both halves, for what has no strategy in between (deletions, bindings, connections)."""
        await self.mutate()
        await self.validate()


Change = Callable[[Entry], Object]
"""The object as the client wants it, out of the current one. Called again after a conflict."""


async def update_object(
    backend: Backend,
    call: Call,
    change: Change,
    *,
    strategy_subresource: str = "",
    subresource: str | None = None,
    tracked: bool = True,
    forced_version: bool = False,
) -> Outcome:
    """Change one stored object: the loop around `prepare_change`. `tracked=False` leaves
    managedFields to `change` (server-side apply). Raises NotFound, Conflict, Invalid."""
    resource = call.resource
    cache = backend.cache(resource)
    for _ in range(ATTEMPTS):
        entry = cache.get(call.namespace, call.name)
        if entry is None:
            raise not_found(resource, call.name)
        old = backend.storage.decoded(entry)  # shared: nothing below may change it
        new = change(entry)
        versioned = _check_version(resource, call.name, new, old)
        _keep_system_metadata(resource, new, old)
        await prepare_change(backend, call, new, old, strategy_subresource, subresource)
        if tracked and backend.config.managed_fields:
            track(backend, call, old, new, strategy_subresource)
        try:
            return await _store_change(backend, call, cache, entry, old, new)
        except CompareFailed as failed:
            if versioned or forced_version:
                raise conflict(resource, call.name) from None
            if failed.current is not None:
                await backend.storage.seen(failed.current.mod_revision)
    raise conflict(resource, call.name)


async def prepare_change(
    backend: Backend,
    call: Call,
    new: Object,
    old: Object,
    strategy_subresource: str,
    subresource: str | None = None,
) -> None:
    """Defaults, admission, strategy and validation of a changed object, in place."""
    resource = call.resource
    gvk = (resource.group, resource.version, resource.kind)
    strategy.default(gvk, new)
    admission = Admission(backend, call, "UPDATE", new, old, subresource=subresource)
    try:
        await admission.mutate()
        strategy.prepare_update(resource, new, old, strategy_subresource)
    except MALFORMED:
        _check_update(resource, new, old, strategy_subresource, call.name)
        raise
    if new["metadata"] is old["metadata"]:
        new["metadata"] = dict(new["metadata"])
    _check_update(resource, new, old, strategy_subresource, call.name)
    await admission.validate()
    if resource.plural == "services" and not resource.group and not strategy_subresource:
        backend.allocators.update(new, old)


def _check_update(
    resource: Resource, new: Object, old: Object, subresource: str, name: str
) -> None:
    errors = strategy.validate_update(resource, new, old, subresource)
    if errors:
        raise Invalid.of(resource.group, resource.kind, name, errors)


def _check_version(resource: Resource, name: str, new: Object, old: Object) -> bool:
    """True if the client named a version; raises Conflict if it is not the current one."""
    metadata = new["metadata"]
    uid = metadata.get("uid")
    if uid and uid != old["metadata"].get("uid"):
        why = (
            f"Precondition failed: UID in precondition: {uid}, UID in object meta: "
            f"{old['metadata'].get('uid')}"
        )
        raise conflict(resource, name, why)
    version = metadata.get("resourceVersion")
    if not version or version == "0":
        return False
    if version != old["metadata"]["resourceVersion"]:
        raise conflict(resource, name)
    return True


def _keep_system_metadata(resource: Resource, new: Object, old: Object) -> None:
    """What a client cannot change stays (rest.BeforeUpdate)."""
    metadata, before = new["metadata"], old["metadata"]
    metadata["resourceVersion"] = before["resourceVersion"]
    metadata["uid"] = before.get("uid")
    for field in ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        if field in before:
            metadata[field] = before[field]
        else:
            metadata.pop(field, None)
    metadata.pop("selfLink", None)
    if "managedFields" not in metadata and "managedFields" in before:
        metadata["managedFields"] = before["managedFields"]
    if resource.namespaced:
        metadata.setdefault("namespace", before.get("namespace"))


def track(
    backend: Backend, call: Call, old: Object | None, new: Object, subresource: str = ""
) -> None:
    """managedFields of a create or update."""
    resource = call.resource
    if not resource.schema_name:
        return
    before, after = old, new
    if subresource == "status" and old is not None:
        # The rest is the same on both sides: comparing it would be most of the work.
        before, after = ({k: o[k] for k in STATUS_PARTS if k in o} for o in (old, new))
    apply.track(
        backend.schemas,
        resource.schema_name,
        before,
        after,
        manager=call.manager,
        operation="Update",
        subresource=subresource,
        now=backend.clock.now(),
    )


async def _store_change(
    backend: Backend, call: Call, cache: ResourceCache, entry: Entry, old: Object, new: Object
) -> Outcome:
    if deletes_on_update(call.resource, new, old):
        if not call.dry_run:
            await backend.storage.delete(cache, entry.key, entry.revision)
        return Outcome(obj=new)
    value = encode_checked(new)
    if splice(value, entry.revision) == entry.encoded:
        return Outcome(entry=entry)
    if call.dry_run:
        return Outcome(obj=new)
    durable = (call.resource.group, call.resource.plural) not in _NOT_DURABLE
    revision = await backend.storage.put_encoded(
        cache, entry.key, value, new, entry.revision, durable
    )
    if cache.prefix == _PODS and new.get("status") != old.get("status"):
        _note_phase(backend, new, old)
    return stored(cache, entry.key, revision, new)


def _note_phase(backend: Backend, new: Object, old: Object) -> None:
    """Stage 7 of a pod's journey: its phase has changed."""
    phase = (new.get("status") or {}).get("phase")
    if phase and phase != (old.get("status") or {}).get("phase"):
        now = backend.clock.now()
        metadata = new["metadata"]
        backend.flow.mark(metadata["namespace"], metadata["name"], phase.lower(), now, now)


def encode_checked(obj: Object) -> bytes:
    """The stored bytes; what JSON or the store cannot hold is the client's fault."""
    try:
        return encode(obj)
    except TypeError as error:
        raise BadRequest(f"the object cannot be encoded: {error}") from None


def stored(
    cache: ResourceCache, key: str, revision: int, obj: Object, status: int = 200
) -> Outcome:
    """The answer to a write, from the cache's bytes unless a later write has already replaced
    them."""
    entry = cache.entries.get(key)
    if entry is not None and entry.revision == revision:
        return Outcome(status, entry)
    obj["metadata"]["resourceVersion"] = str(revision)
    return Outcome(status, obj=obj)


def deletes_on_update(resource: Resource, new: Object, old: Object) -> bool:
    """An object that was only waiting for its finalizers goes with the last of them."""
    metadata = new["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if old["metadata"].get("deletionGracePeriodSeconds") not in (0, None):
        return False
    if resource.plural == "namespaces" and not resource.group:
        return not (new.get("spec") or {}).get("finalizers")
    return True


def durable(resource: Resource) -> bool:
    return (resource.group, resource.plural) not in _NOT_DURABLE
