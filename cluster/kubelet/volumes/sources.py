"""ConfigMaps and Secrets that pods of this process use: read once, kept for a while.

Plays pkg/kubelet/util/manager (cache based). # Unlike Kubernetes: kubelets of one process share the
cache; a pod bound to a node is what allows that node to read the object, so each could read it
itself.
"""

from __future__ import annotations

import asyncio

from cluster.api.errors import NotFound
from cluster.api.meta import CONFIGMAPS, SECRETS, Clock, Object
from cluster.client import Client

TTL_SECONDS = 60.0
MISSING_TTL_SECONDS = 0.2
LIMIT = 10_000
"""Objects kept; then the cache starts afresh."""

Key = tuple[str, str, str]


class SourceCache:
    """Reads go through the client of a node that has a pod which needs the object."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._found: dict[Key, tuple[Object | None, float]] = {}
        self._reading: dict[Key, asyncio.Task[Object | None]] = {}

    def peek(self, kind: str, namespace: str, name: str) -> Object | None:
        """What was read last, however old."""
        entry = self._found.get((kind, namespace, name))
        return entry[0] if entry else None

    def fresh(self, kind: str, namespace: str, name: str) -> Object | None:
        """What was read in the last minute; None: ask `get`."""
        entry = self._found.get((kind, namespace, name))
        if entry is None or entry[0] is None:
            return None
        return entry[0] if self._clock.monotonic() - entry[1] < TTL_SECONDS else None

    async def get(self, client: Client, kind: str, namespace: str, name: str) -> Object | None:
        """The object; None if there is none. Raises StatusError for anything but NotFound."""
        key = (kind, namespace, name)
        entry = self._found.get(key)
        if entry is not None:
            age = self._clock.monotonic() - entry[1]
            if age < (TTL_SECONDS if entry[0] is not None else MISSING_TTL_SECONDS):
                return entry[0]
        task = self._reading.get(key)
        if task is None:
            task = asyncio.ensure_future(self._read(client, key))
            self._reading[key] = task
            task.add_done_callback(lambda _: self._reading.pop(key, None))
        return await asyncio.shield(task)

    def forget(self, kind: str, namespace: str, name: str) -> None:
        """Read it again next time."""
        self._found.pop((kind, namespace, name), None)

    async def close(self) -> None:
        tasks = list(self._reading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, client: Client, key: Key) -> Object | None:
        kind, namespace, name = key
        gvr = CONFIGMAPS if kind == "ConfigMap" else SECRETS
        obj: Object | None = None
        try:
            obj = await client.get(gvr, name, namespace)
        except NotFound:
            pass
        if len(self._found) >= LIMIT:
            self._found.clear()
        self._found[key] = (obj, self._clock.monotonic())
        return obj
