"""DELETECOLLECTION: delete everything a list would have shown."""

from __future__ import annotations

import asyncio

from cluster.api.errors import NotFound
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call, Outcome
from cluster.apiserver.verbs.delete import delete_named, delete_options
from cluster.apiserver.verbs.list import selection_of
from cluster.apiserver.watchcache import Entry

WORKERS = 100
"""Deletions under way at once: enough to share commits, few enough to leave turns to others."""


async def deletecollection(backend: Backend, call: Call) -> Outcome:
    """Answers with the list of what was deleted, as upstream does; the first error ends it."""
    options = delete_options(call)
    cache = backend.cache(call.resource)
    entries = list(cache.select(selection_of(call, cache)))

    async def one(entry: Entry) -> None:
        try:
            await delete_named(backend, call, entry.namespace, entry.name, options)
        except NotFound:
            pass

    for start in range(0, len(entries), WORKERS):
        await asyncio.gather(*(one(entry) for entry in entries[start : start + WORKERS]))
    items = [entry.decode() for entry in entries]
    return Outcome(
        200,
        obj={
            "kind": call.resource.list_kind,
            "apiVersion": call.resource.gvr.api_version,
            "metadata": {"resourceVersion": str(backend.storage.revision)},
            "items": items,
        },
    )
