"""The scale subresource: autoscaling/v1 Scale over whatever has replicas."""

from __future__ import annotations

from typing import Any

import orjson

from cluster.api import strategy
from cluster.api.errors import BadRequest, FieldError, Invalid, UnsupportedMediaType
from cluster.api.meta import Object
from cluster.api.patch import json_patch, merge_patch
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call, Outcome, parse_json, parse_yaml
from cluster.apiserver.pipeline import decode_as, update_object
from cluster.apiserver.problems import not_found
from cluster.apiserver.watchcache import Entry

_SCALE = "io.k8s.api.autoscaling.v1.Scale"


def read(backend: Backend, call: Call) -> Outcome:
    entry = backend.cache(call.resource).get(call.namespace, call.name)
    if entry is None:
        raise not_found(call.resource, call.name)
    return Outcome(200, obj=strategy.scale_of(call.resource, entry.decode()))


async def update(backend: Backend, call: Call) -> Outcome:
    scale = _checked(backend, call, call.decoded())
    return await _apply(backend, call, lambda _: scale)


async def patch(backend: Backend, call: Call) -> Outcome:
    kind = call.content_type.partition(";")[0].strip().lower()
    preset = call.decoded_if_preset()
    if kind == "application/apply-patch+yaml":
        body = parse_yaml(call.body) if preset is None else preset
    else:
        body = parse_json(call.body) if preset is None else preset
    if kind == "application/json-patch+json":
        return await _apply(backend, call, lambda scale: json_patch(scale, body))
    if kind in (
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
    ):
        if not isinstance(body, dict):
            raise BadRequest("the patch must be an object")
        # A Scale has no lists: all three merge alike.
        return await _apply(backend, call, lambda scale: merge_patch(scale, body))
    raise UnsupportedMediaType("the body of the request was in an unknown format")


async def _apply(backend: Backend, call: Call, wanted: Any) -> Outcome:
    resource = call.resource

    def change(entry: Entry) -> Object:
        obj = entry.decode()
        scale = _checked(
            backend, call, wanted(strategy.scale_of(resource, orjson.loads(entry.encoded)))
        )
        version = scale["metadata"].get("resourceVersion")
        obj["metadata"].pop("resourceVersion", None)
        strategy.apply_scale(resource, obj, scale)
        if version:
            obj["metadata"]["resourceVersion"] = version
        return obj

    outcome = await update_object(backend, call, change, strategy_subresource="scale")
    return Outcome(200, obj=strategy.scale_of(resource, outcome.object()))


def _checked(backend: Backend, call: Call, value: Any) -> Object:
    scale = decode_as(backend, call, value, "Scale", _SCALE)
    name = scale["metadata"].get("name")
    if name and name != call.name:
        raise BadRequest(
            f"the name of the object ({name}) does not match the name on the URL ({call.name})"
        )
    replicas = (scale.get("spec") or {}).get("replicas") or 0
    if replicas < 0:
        detail = "must be greater than or equal to 0"
        error = FieldError("FieldValueInvalid", "spec.replicas", replicas, detail)
        raise Invalid.of("autoscaling", "Scale", call.name, [error])
    return scale
