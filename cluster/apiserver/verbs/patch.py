"""PATCH: JSON patch, merge patch, strategic merge patch, server-side apply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.api import apply
from cluster.api.convert import to_version
from cluster.api.errors import (
    BadRequest,
    Conflict,
    Invalid,
    RequestEntityTooLarge,
    StatusError,
    UnsupportedMediaType,
    forbidden,
    required,
)
from cluster.api.meta import Object
from cluster.api.patch import json_patch, merge_patch
from cluster.api.strategic import strategic_merge
from cluster.apiserver import pipeline
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call, Outcome, parse_json, parse_yaml
from cluster.apiserver.pipeline import (
    MALFORMED,
    STATUS_PARTS,
    check_type,
    decode_object,
    field_validation,
    update_object,
)
from cluster.apiserver.problems import not_found
from cluster.apiserver.verbs.create import create_object
from cluster.apiserver.watchcache import Entry
from cluster.etcd.store import CompareFailed

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
JSON_PATCH_OPERATIONS = 10_000
_KINDS = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)

Patcher = Callable[[Object], Object]


async def patch(backend: Backend, call: Call) -> Outcome:
    """Raises NotFound, Conflict, Invalid, BadRequest, UnsupportedMediaType."""
    return await patch_as(backend, call, "")


async def patch_as(backend: Backend, call: Call, subresource: str) -> Outcome:
    """PATCH of the object itself or of a subresource that has the object's own form."""
    kind = call.content_type.partition(";")[0].strip().lower()
    if kind not in _KINDS or (kind == STRATEGIC_PATCH and not call.resource.schema_name):
        accepted = ", ".join(k for k in _KINDS if k != STRATEGIC_PATCH or call.resource.schema_name)
        raise UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include: "
            + accepted
        )
    if kind == APPLY_PATCH:
        return await apply_patch(backend, call, subresource)
    if call.parameter("force"):
        _options_error("force", "may not be specified for non-apply patch")
    patcher = patcher_of(backend, call, kind)
    named = _names_version(patch_body(call))

    def change(entry: Entry) -> Object:
        if kind == STRATEGIC_PATCH and subresource == "status" and not call.converts:
            obj = _patched_status(backend, call, backend.storage.decoded(entry), patcher)
        else:
            current = entry.decode()
            if call.converts:
                current = to_version(current, call.served.api_version)
            obj = _patched(backend, call, current, patcher)
        obj["metadata"].setdefault("name", "")
        return _unversioned(obj, entry, named)

    return await update_object(backend, call, change, strategy_subresource=subresource)


def _patched(backend: Backend, call: Call, current: Object, patcher: Patcher) -> Object:
    try:
        patched = patcher(current)
    except MALFORMED as error:
        raise BadRequest(f"unable to apply the patch: {error}") from error
    if not isinstance(patched, dict):
        raise BadRequest("the patch leaves no object")
    return decode_object(backend, call, patched)


def _patched_status(backend: Backend, call: Call, current: Object, patcher: Patcher) -> Object:
    """The most frequent write of a cluster: kubelets' pod statuses. Nothing but status and metadata
    can change, so nothing else is copied, merged or decoded; the rest is shared with `current`."""
    slim = _patched(backend, call, {k: current[k] for k in STATUS_PARTS if k in current}, patcher)
    return {
        **{k: v for k, v in current.items() if k != "status"},
        **{k: slim[k] for k in STATUS_PARTS if k in slim},
    }


def _names_version(body: Any) -> bool:
    """Whether a merging patch says which version it is for; if not, it may be tried again."""
    metadata = body.get("metadata") if isinstance(body, dict) else None
    return isinstance(metadata, dict) and bool(metadata.get("resourceVersion"))


def _unversioned(obj: Object, entry: Entry, named: bool) -> Object:
    """Forget the version that only came along with the current object."""
    metadata = obj["metadata"]
    if not named and metadata.get("resourceVersion") == str(entry.revision):
        metadata.pop("resourceVersion")
    return obj


def patcher_of(backend: Backend, call: Call, kind: str) -> Patcher:
    """The patch as a function of the current object."""
    body = patch_body(call)
    if kind == JSON_PATCH:
        if not isinstance(body, list):
            raise BadRequest("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
        if len(body) > JSON_PATCH_OPERATIONS:
            raise RequestEntityTooLarge(
                f"The allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS}, "
                f"got {len(body)}"
            )
        operations = body
        return lambda obj: json_patch(obj, operations)
    if not isinstance(body, dict):
        raise BadRequest(
            "json: cannot unmarshal array into Go value of type map[string]interface {}"
        )
    document = body
    if kind == MERGE_PATCH:
        return lambda obj: merge_patch(obj, document)
    schema_name = call.served.schema_name
    return lambda obj: strategic_merge(obj, document, backend.schemas, schema_name)


def patch_body(call: Call) -> Any:
    preset = call.decoded_if_preset()
    return parse_json(call.body) if preset is None else preset


def _options_error(field: str, detail: str) -> None:
    raise Invalid.of("meta.k8s.io", "PatchOptions", "", [forbidden(field, detail)])


async def apply_patch(backend: Backend, call: Call, subresource: str) -> Outcome:
    """Server-side apply: merges by ownership, creates what is not there."""
    manager = call.parameter("fieldManager")
    if not manager:
        detail = "is required for apply patch"
        raise Invalid.of("meta.k8s.io", "PatchOptions", "", [required("fieldManager", detail)])
    force = bool(call.flag("force"))
    preset = call.decoded_if_preset()
    body = parse_yaml(call.body) if preset is None else preset
    applied = check_type(body, call.served)
    if call.served.schema_name:
        found = backend.schemas.decode(call.served.schema_name, applied, field_validation(call))
        call.warnings.extend(found)
    if call.converts:
        pipeline.check_metadata(applied)
        applied = to_version(applied, call.resource.api_version)
    metadata = applied.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise BadRequest("metadata is not an object")
    if metadata.get("managedFields"):
        raise BadRequest("metadata.managedFields must be nil")
    metadata.setdefault("name", call.name)
    if call.resource.namespaced:
        metadata.setdefault("namespace", call.namespace)

    def merged(live: Object | None) -> Object:
        return apply.apply(
            backend.schemas,
            call.resource.schema_name,
            live,
            applied,
            manager=manager,
            force=force,
            subresource=subresource,
            now=backend.clock.now(),
        )

    named = _names_version(applied)
    cache = backend.cache(call.resource)
    for _ in range(2):
        if cache.get(call.namespace, call.name) is None:
            if subresource:
                raise not_found(call.resource, call.name)
            if metadata.get("uid"):
                raise Conflict(
                    f'Operation cannot be fulfilled on {call.resource.plural} "{call.name}": '
                    "uid mismatch: the provided object specified uid "
                    f"{metadata['uid']}, and no existing object was found"
                )
            try:
                return await create_object(backend, call, merged(None), tracked=False)
            except StatusError as error:
                if error.reason != "AlreadyExists":
                    raise
                continue
        return await update_object(
            backend,
            call,
            lambda entry: _unversioned(merged(entry.decode()), entry, named),
            strategy_subresource=subresource,
            tracked=False,
        )
    raise CompareFailed(call.name, None)
