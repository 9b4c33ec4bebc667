"""Subresources in the object's own form: status, ephemeralcontainers, resize, approval,
finalize."""

from __future__ import annotations

from cluster.api.errors import BadRequest
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call, Outcome, Result
from cluster.apiserver.verbs.get import get
from cluster.apiserver.verbs.patch import patch_as
from cluster.apiserver.verbs.update import replace


async def update(backend: Backend, call: Call) -> Result:
    return await replace(backend, call, call.subresource)


async def patch(backend: Backend, call: Call) -> Result:
    return await patch_as(backend, call, call.subresource)


def read(backend: Backend, call: Call) -> Outcome:
    return get(backend, call)


async def finalize(backend: Backend, call: Call) -> Result:
    """PUT namespaces/NAME/finalize: only spec.finalizers changes; the last one gone, so is the
    namespace."""
    if call.method != "PUT":
        raise BadRequest("finalize takes PUT")
    return await replace(backend, call, "finalize")
