"""UPDATE: PUT of a whole object; of some resources it creates what is not there."""

from __future__ import annotations

import orjson

from cluster.api import strategy
from cluster.api.errors import FieldError, Invalid
from cluster.api.meta import Object
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call, Outcome
from cluster.apiserver.pipeline import (
    decode_object,
    match_name,
    match_namespace,
    update_object,
)
from cluster.apiserver.verbs.create import create_object
from cluster.apiserver.watchcache import Entry


async def update(backend: Backend, call: Call) -> Outcome:
    """Raises NotFound, Conflict, Invalid, BadRequest."""
    return await replace(backend, call, "")


def check_unconditional(call: Call) -> None:
    """Raises Invalid where an update must name the resourceVersion it changes."""
    resource = call.resource
    if strategy.allows_unconditional_update(resource):
        return
    detail = "must be specified for an update"
    error = FieldError("FieldValueInvalid", "metadata.resourceVersion", 0, detail)
    raise Invalid.of(resource.group, resource.kind, call.name, [error])


async def replace(backend: Backend, call: Call, subresource: str) -> Outcome:
    """PUT of the object itself or of a subresource that has the object's own form (status,
    ephemeralcontainers)."""
    obj = decode_object(backend, call, call.decoded())
    match_name(call, obj)
    match_namespace(call, obj)
    cache = backend.cache(call.resource)
    creates = not subresource and strategy.can_create_on_update(call.resource)
    if creates and cache.get(call.namespace, call.name) is None:
        obj["metadata"].pop("resourceVersion", None)
        obj["metadata"].pop("uid", None)
        return await create_object(backend, call, obj)
    if not obj["metadata"].get("resourceVersion"):
        check_unconditional(call)
    pristine: list[bytes] = []

    def change(entry: Entry) -> Object:
        # The first try works on the body itself; only a lost race needs a second copy.
        if not pristine:
            pristine.append(orjson.dumps(obj))
            return obj
        again: Object = orjson.loads(pristine[0])
        return again

    return await update_object(backend, call, change, strategy_subresource=subresource)
