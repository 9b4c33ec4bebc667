"""The caches of all resources, fed by one watch on the store; and the way writes go.

One watch for everything keeps one order: when a bookmark says revision R, every resource has seen
R, and a write is answered once its own event has passed here, so that whoever wrote reads what it
wrote, over any connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict

import orjson

from cluster.api.catalogue import Catalogue, Resource
from cluster.api.errors import ServiceUnavailable, Timeout
from cluster.api.meta import Clock, Object
from cluster.apiserver.watchcache.cache import CacheMetrics, ResourceCache
from cluster.apiserver.watchcache.entry import Change, Entry, encode, line_of, splice
from cluster.etcd.store import (
    Compacted,
    CompareFailed,
    Event,
    KeyValue,
    Store,
    StoreError,
    WatchOverflow,
    Write,
)

log = logging.getLogger(__name__)

ROOT = "/registry/"
LOAD_PAGE = 5_000
DECODED_OBJECTS = 8_192
"""Objects kept decoded for readers inside the API server (admission, authorization), least
recently used out."""
BOOKMARK_SECONDS = 60.0
WAIT_SECONDS = 3.0
"""How long a reader waits for a revision this server has not seen yet (upstream's blockTimeout)."""


class Storage:
    """See the module. `start` loads everything; `caches` are by storage prefix."""

    def __init__(
        self, store: Store, catalogue: Catalogue, clock: Clock, metrics: CacheMetrics
    ) -> None:
        self.store = store
        self.clock = clock
        self.metrics = metrics
        self.revision = 0
        self.synced = False
        self._caches: dict[str, ResourceCache] = {}
        self._by_kind: dict[tuple[str, str], ResourceCache] = {}
        self._waiters: dict[int, list[asyncio.Future[None]]] = {}
        self._hints: dict[str, tuple[bytes, Object]] = {}
        self._decoded: OrderedDict[Entry, Object] = OrderedDict()
        self._tasks: list[asyncio.Task[None]] = []
        for resource in catalogue.resources:
            self.add(resource)

    # -- resources ----------

    def add(self, resource: Resource) -> ResourceCache | None:
        """Make room for a resource; versions of one resource share a cache."""
        if not resource.storage_prefix:
            return None
        cache = self._caches.get(resource.storage_prefix)
        if cache is None:
            cache = ResourceCache(resource, self.metrics)
            self._caches[resource.storage_prefix] = cache
        self._by_kind[(resource.group, resource.plural)] = cache
        return cache

    async def add_late(self, resource: Resource) -> ResourceCache | None:
        """A resource that came while serving (a CRD): load what the store has of it."""
        known = resource.storage_prefix in self._caches
        cache = self.add(resource)
        if cache is None or known:
            return cache
        result = await self.store.range(cache.prefix)
        for kv in result.kvs:
            if kv.key[len(cache.prefix) :] not in cache.entries:
                cache.load(self._entry(cache, kv))
        cache.history_start = max(result.revision, self.revision)
        return cache

    def remove(self, resource: Resource) -> None:
        """A resource is gone: end its watches and forget it."""
        cache = self._caches.pop(resource.storage_prefix, None)
        self._by_kind.pop((resource.group, resource.plural), None)
        if cache is not None:
            for watcher in cache.watchers():
                watcher.stream.close()

    def cache(self, group: str, plural: str) -> ResourceCache:
        return self._by_kind[(group, plural)]

    def find(self, group: str, plural: str) -> ResourceCache | None:
        return self._by_kind.get((group, plural))

    def caches(self) -> list[ResourceCache]:
        return list(self._caches.values())

    # -- life ----------

    async def start(self) -> None:
        self.revision = await self._load(self._caches)
        self.synced = True
        self._tasks = [
            asyncio.create_task(self._follow(), name="store-watch"),
            asyncio.create_task(self._tick(), name="watch-bookmarks"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        self.close_watches()

    def close_watches(self) -> None:
        for cache in self.caches():
            for watcher in cache.watchers():
                watcher.stream.close()

    async def _load(self, caches: dict[str, ResourceCache]) -> int:
        """Fill `caches` with all there is, as of one revision, and give that."""
        start_after = ""
        revision = 0
        while True:
            page = await self.store.range(
                ROOT, start_after=start_after, limit=LOAD_PAGE, revision=revision
            )
            revision = revision or page.revision
            for kv in page.kvs:
                cache = cache_of(caches, kv.key)
                if cache is not None:
                    cache.load(self._entry(cache, kv))
            if not page.more or not page.kvs:
                break
            start_after = page.kvs[-1].key
            await asyncio.sleep(0)
        for cache in caches.values():
            cache.history_start = revision
            self.metrics.objects(cache.resource, len(cache.entries))
        return revision

    async def _follow(self) -> None:
        """Keep up with the store until cancelled; after a gap, everything is loaded anew and
        watches end."""
        while True:
            try:
                watch = await self.store.watch(ROOT, self.revision + 1)
                try:
                    async for events in watch:
                        self.handle_commit(events)
                finally:
                    await watch.close()
            except (Compacted, WatchOverflow) as error:
                log.warning("the store's watch ended, loading again: %s", error)
                await self._reload()
            except StoreError as error:
                log.warning("the store's watch ended: %s", error)
                await asyncio.sleep(1.0)

    async def _reload(self) -> None:
        """Events were missed: watches end, subscribers hear the difference, writers are woken."""
        self.synced = False
        fresh = {p: ResourceCache(c.resource, self.metrics) for p, c in self._caches.items()}
        revision = await self._load(fresh)
        self.close_watches()
        before, self._caches, self.revision = self._caches, fresh, revision
        for prefix, cache in fresh.items():
            old = before[prefix]
            for kind, known in list(self._by_kind.items()):
                if known is old:
                    self._by_kind[kind] = cache
            cache.replace(old)
        for waiting in [r for r in self._waiters if r <= revision]:
            for future in self._waiters.pop(waiting):
                if not future.done():
                    future.set_result(None)
        self.synced = True

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(BOOKMARK_SECONDS)
            self.send_bookmarks()
            now = self.clock.monotonic()
            for cache in self.caches():
                cache.expire_history(now)
                self.metrics.objects(cache.resource, len(cache.entries))

    def send_bookmarks(self) -> None:
        for cache in self.caches():
            line = b""
            for watcher in cache.watchers():
                if watcher.bookmarks:
                    line = line or line_of("BOOKMARK", bookmark(cache.resource, self.revision))
                    watcher.send(line, 1)

    # -- changes coming in ----------

    def handle_commit(self, events: list[Event]) -> None:
        """Whole commits, in order: caches first, then subscribers, watchers and those who wait for
        their write."""
        now = self.clock.monotonic()
        touched: dict[ResourceCache, list[Change]] = {}
        for event in events:
            cache = cache_of(self._caches, event.kv.key)
            if cache is not None:
                change = self._change(cache, event, now)
                if change is not None:
                    touched.setdefault(cache, []).append(change)
            self.revision = event.kv.mod_revision
        for cache, changes in touched.items():
            cache.dispatch(changes)
        if self._waiters:
            self._wake(events)

    def _wake(self, events: list[Event]) -> None:
        waiters = self._waiters
        for event in events:
            for future in waiters.pop(event.kv.mod_revision, ()):
                if not future.done():
                    future.set_result(None)

    def _change(self, cache: ResourceCache, event: Event, now: float) -> Change | None:
        kv = event.kv
        key = kv.key[len(cache.prefix) :]
        prev: Entry | None = cache.entries.get(key)
        if prev is not None and prev.revision >= kv.mod_revision:
            return None  # loaded already
        if event.type == "DELETE":
            if prev is None:
                return None
            change = Change("DELETED", prev.at(kv.mod_revision), prev, now)
            new = None
        else:
            entry, new = self._entry_and_object(cache, kv)
            change = Change("ADDED" if prev is None else "MODIFIED", entry, prev, now)
        old = self.decoded(prev) if prev is not None and cache.subscribed else None
        cache.apply(change)
        if prev is not None:
            self._decoded.pop(prev, None)
        if cache.subscribed:
            if new is not None:
                self._remember(change.entry, new)
            cache.notify(old, new)
        return change

    def _entry_and_object(self, cache: ResourceCache, kv: KeyValue) -> tuple[Entry, Object]:
        hint = self._hints.pop(kv.key, None)
        if hint is not None and (hint[0] is kv.value or hint[0] == kv.value):
            obj = hint[1]
        else:
            obj = orjson.loads(kv.value)
        encoded = splice(kv.value, kv.mod_revision)
        obj["metadata"]["resourceVersion"] = str(kv.mod_revision)
        return cache.extract(kv.key[len(cache.prefix) :], kv.mod_revision, encoded, obj), obj

    def _entry(self, cache: ResourceCache, kv: KeyValue) -> Entry:
        obj = orjson.loads(kv.value)
        encoded = splice(kv.value, kv.mod_revision)
        return cache.extract(kv.key[len(cache.prefix) :], kv.mod_revision, encoded, obj)

    def entry_of(self, cache: ResourceCache, kv: KeyValue) -> Entry:
        """An entry out of a direct read of the store (an older revision, a conflict's current
        state)."""
        return self._entry(cache, kv)

    # -- decoded objects ----------

    def decoded(self, entry: Entry) -> Object:
        """The shared decoded object of an entry: never change it."""
        obj = self._decoded.get(entry)
        if obj is None:
            obj = entry.decode()
            self._remember(entry, obj)
        else:
            self._decoded.move_to_end(entry)
        return obj

    def _remember(self, entry: Entry, obj: Object) -> None:
        self._decoded[entry] = obj
        if len(self._decoded) > DECODED_OBJECTS:
            self._decoded.popitem(last=False)

    # -- writing ----------

    async def put(
        self,
        cache: ResourceCache,
        key: str,
        obj: Object,
        expected: int | None,
        durable: bool = True,
    ) -> int:
        """Store an object and wait until every reader sees it. Gives its revision. Raises
        CompareFailed, ServiceUnavailable."""
        return await self.put_encoded(cache, key, encode(obj), obj, expected, durable)

    async def put_encoded(
        self,
        cache: ResourceCache,
        key: str,
        value: bytes,
        obj: Object,
        expected: int | None,
        durable: bool = True,
    ) -> int:
        """`put` of what `encode` gave for `obj`. The object belongs to the cache from here on."""
        path = cache.prefix + key
        self._hints[path] = (value, obj)
        try:
            kv = await self.store.write_nowait(Write(path, value, expected, durable=durable))
        except StoreError as error:
            self._hints.pop(path, None)
            raise _translate(error) from error
        await self.seen(kv.mod_revision)
        return kv.mod_revision

    async def delete(self, cache: ResourceCache, key: str, expected: int | None) -> int:
        """Remove an object and wait until every reader sees it. Raises CompareFailed,
        ServiceUnavailable."""
        try:
            kv = await self.store.write_nowait(Write(cache.prefix + key, None, expected))
        except StoreError as error:
            raise _translate(error) from error
        await self.seen(kv.mod_revision)
        return kv.mod_revision

    async def seen(self, revision: int) -> None:
        """Wait for the event of a write that is known to be committed."""
        if self.revision >= revision:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(revision, []).append(future)
        await future

    async def wait_revision(self, revision: int) -> None:
        """Wait until the caches have seen `revision`; Timeout after 3 s, in upstream's words."""
        deadline = self.clock.monotonic() + WAIT_SECONDS
        while self.revision < revision:
            if self.clock.monotonic() >= deadline:
                raise too_large(revision, self.revision)
            await asyncio.sleep(0.01)


def cache_of(caches: dict[str, ResourceCache], key: str) -> ResourceCache | None:
    """The cache whose prefix is the beginning of a key."""
    at = key.find("/", len(ROOT))
    while at > 0:
        cache = caches.get(key[:at])
        if cache is not None:
            return cache
        at = key.find("/", at + 1)
    return None


def too_large(revision: int, current: int) -> Timeout:
    """storage.NewTooLargeResourceVersionError."""
    message = f"Too large resource version: {revision}, current: {current}"
    return Timeout(
        f"Timeout: {message}",
        details={
            "causes": [
                {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            ],
            "retryAfterSeconds": 1,
        },
    )


def bookmark(resource: Resource, revision: int, *, initial_end: bool = False) -> Object:
    """The object of a BOOKMARK event."""
    metadata: Object = {"resourceVersion": str(revision)}
    if initial_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    api_version = f"{resource.group}/{resource.version}" if resource.group else resource.version
    return {"kind": resource.kind, "apiVersion": api_version, "metadata": metadata}


def _translate(error: StoreError) -> Exception:
    if isinstance(error, CompareFailed):
        return error
    return ServiceUnavailable(str(error))
