"""The API server's own view of its objects: implements `attributes.Registry` over the watch
caches."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cluster.api.meta import GVR, Clock, NewUid, Object, rfc3339
from cluster.apiserver.problems import already_exists, conflict, not_found
from cluster.apiserver.watchcache import Selection, Storage
from cluster.etcd.store import CompareFailed

UPDATE_ATTEMPTS = 10


class CacheRegistry:
    """See attributes.Registry."""

    def __init__(self, storage: Storage, clock: Clock, new_uid: NewUid) -> None:
        self._storage = storage
        self._clock = clock
        self._new_uid = new_uid

    def get(self, gvr: GVR, namespace: str, name: str) -> Object | None:
        cache = self._storage.find(gvr.group, gvr.plural)
        if cache is None:
            return None
        entry = cache.get(namespace, name)
        return self._storage.decoded(entry) if entry is not None else None

    def list(self, gvr: GVR, namespace: str = "") -> Iterable[Object]:
        cache = self._storage.find(gvr.group, gvr.plural)
        if cache is None:
            return []
        return [self._storage.decoded(e) for e in cache.select(Selection(namespace))]

    def subscribe(self, gvr: GVR, handler: Callable[[Object | None, Object | None], None]) -> None:
        cache = self._storage.find(gvr.group, gvr.plural)
        if cache is not None:
            cache.subscribe(handler)

    async def create(self, gvr: GVR, namespace: str, obj: Object) -> Object:
        cache = self._storage.cache(gvr.group, gvr.plural)
        metadata = obj["metadata"]
        name = metadata["name"]
        if namespace:
            metadata.setdefault("namespace", namespace)
        metadata.setdefault("uid", self._new_uid())
        metadata.setdefault("creationTimestamp", rfc3339(self._clock.now()))
        resource = cache.resource
        obj.setdefault("apiVersion", resource.gvr.api_version)
        obj.setdefault("kind", resource.kind)
        try:
            await self._storage.put(cache, cache.key(namespace, name), obj, 0)
        except CompareFailed:
            raise already_exists(resource, name) from None
        return obj

    async def update(
        self, gvr: GVR, namespace: str, name: str, change: Callable[[Object], Object | None]
    ) -> Object:
        cache = self._storage.cache(gvr.group, gvr.plural)
        for _ in range(UPDATE_ATTEMPTS):
            entry = cache.get(namespace, name)
            if entry is None:
                raise not_found(cache.resource, name)
            new = change(entry.decode())
            if new is None:
                return self._storage.decoded(entry)
            try:
                await self._storage.put(cache, entry.key, new, entry.revision)
            except CompareFailed as failed:
                if failed.current is not None:
                    await self._storage.seen(failed.current.mod_revision)
                continue
            return new
        raise conflict(cache.resource, name)

    async def delete(self, gvr: GVR, namespace: str, name: str) -> None:
        """Remove as the system itself. Quiet if there is none."""
        cache = self._storage.cache(gvr.group, gvr.plural)
        try:
            await self._storage.delete(cache, cache.key(namespace, name), None)
        except CompareFailed:
            return
