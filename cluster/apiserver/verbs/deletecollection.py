"""DELETECOLLECTION: delete everything a list would have shown."""

from __future__ import annotations

import asyncio

from cluster.api.errors import NotFound
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call
from cluster.apiserver.negotiation import respond_list
from cluster.apiserver.verbs.delete import delete_named, delete_options
from cluster.apiserver.verbs.list import selection_of
from cluster.apiserver.watchcache import Entry
from cluster.httpserver import Response

WORKERS = 100
"""Deletions under way at once: enough to share commits, few enough to leave turns to others."""


async def deletecollection(backend: Backend, call: Call) -> Response:
    """Answers with the list of what was deleted, as upstream does; the first error ends it."""
    options = delete_options(backend, call)
    cache = backend.cache(call.resource)
    entries = list(cache.select(selection_of(call, cache)))

    async def one(entry: Entry) -> None:
        try:
            await delete_named(backend, call, entry.namespace, entry.name, options)
        except NotFound:
            pass

    for start in range(0, len(entries), WORKERS):
        await asyncio.gather(*(one(entry) for entry in entries[start : start + WORKERS]))
    metadata = {"resourceVersion": str(backend.storage.revision)}
    return respond_list(call, entries, metadata, backend.clock.now())
