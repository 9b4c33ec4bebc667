"""A local, always current copy of one resource: list once, watch for ever, tell handlers.

Plays k8s.io/client-go/tools/cache (Reflector, Indexer, SharedIndexInformer) and
informers.SharedInformerFactory. `Informer` holds the objects and decides in synchronous methods
(`replace`, `handle_events`); `run` is the shell. Objects are shared by everyone who reads them:
never change one. Handlers run on the loop, must not block, and are called with all changes of one
chunk of the watch at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing

from cluster.api.errors import Expired, Gone, StatusError
from cluster.api.meta import GVR, Clock, Object, object_key
from cluster.client.rest import Client, WatchEvent
from cluster.client.transport import Unreachable
from cluster.metrics.client import ClientMetrics

log = logging.getLogger(__name__)

Objects = list[Object]
Change = tuple[Object | None, Object | None]
"""(old, new): (None, x) added, (x, y) changed, (x, None) deleted."""
Handler = Callable[[Object | None, Object | None], None]
BatchHandler = Callable[[Sequence[Change]], None]
IndexFunction = Callable[[Object], Iterable[str]]

WATCH_SECONDS = (300, 600)
BACKOFF_SECONDS = (0.1, 1.0)
"""Unlike Kubernetes (0.8 to 30 s): a cluster in a few processes heals in seconds and must show
it."""


class Informer:
    """One resource under one pair of selectors."""

    def __init__(
        self,
        client: Client,
        gvr: GVR,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        clock: Clock | None = None,
        rng: random.Random | None = None,
        metrics: ClientMetrics | None = None,
    ) -> None:
        self.gvr = gvr
        self._client = client
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._rng = rng or random.Random(0)
        self._metrics = metrics
        self._store: dict[str, Object] = {}
        self._indexers: dict[str, IndexFunction] = {}
        self._indices: dict[str, dict[str, dict[str, Object]]] = {}
        self._handlers: list[BatchHandler] = []
        self._resource_version = ""
        self._synced = asyncio.Event()
        self._cycle: asyncio.Task[None] | None = None

    # Reading

    @property
    def has_synced(self) -> bool:
        """The first list is in and all handlers have seen it."""
        return self._synced.is_set()

    @property
    def resource_version(self) -> str:
        """The last version seen."""
        return self._resource_version

    async def wait_synced(self) -> None:
        await self._synced.wait()

    def get(self, key: str) -> Object | None:
        """By `namespace/name`, or `name` for a cluster-scoped resource."""
        return self._store.get(key)

    def list(self, namespace: str = "") -> Objects:
        if not namespace:
            return [*self._store.values()]
        return [o for o in self._store.values() if o["metadata"].get("namespace") == namespace]

    def keys(self) -> Iterable[str]:
        return self._store.keys()

    def __len__(self) -> int:
        return len(self._store)

    def by_index(self, name: str, value: str) -> Objects:
        return [*self._indices[name].get(value, {}).values()]

    # Subscribing

    def add_handler(self, handler: Handler) -> None:
        """`handler(old, new)` for each change, first for all there is."""

        def each(changes: Sequence[Change]) -> None:
            for old, new in changes:
                handler(old, new)

        self.add_handler_batch(each)

    def add_handler_batch(self, handler: BatchHandler) -> None:
        """`handler([(old, new), ...])`, first with all there is."""
        self._handlers.append(handler)
        if self._store:
            handler([(None, obj) for obj in self._store.values()])

    def add_index(self, name: str, function: IndexFunction) -> None:
        """`function(obj)` gives the values under which `by_index(name, value)` finds it.
        Idempotent by name."""
        if name in self._indexers:
            return
        self._indexers[name] = function
        index: dict[str, dict[str, Object]] = {}
        for key, obj in self._store.items():
            for value in function(obj):
                index.setdefault(value, {})[key] = obj
        self._indices[name] = index

    def set_field_selector(self, field_selector: str) -> None:
        """Follow other objects from now on: lists again at once; what no longer matches is told as
        deleted."""
        if field_selector == self._field_selector:
            return
        self._field_selector = field_selector
        self._resource_version = ""
        if self._cycle is not None:
            self._cycle.cancel()

    # Deciding

    def replace(self, items: Iterable[Object], resource_version: str) -> None:
        """A full list: tell what differs from what is held."""
        changes: list[Change] = []
        fresh: dict[str, Object] = {}
        for obj in items:
            key = object_key(obj)
            fresh[key] = obj
            old = self._store.get(key)
            if old is None or _version(old) != _version(obj):
                self._index(key, old, obj)
                changes.append((old, obj))
            else:
                fresh[key] = old
        for key, old in self._store.items():
            if key not in fresh:
                self._index(key, old, None)
                changes.append((old, None))
        self._store = fresh
        self._resource_version = resource_version
        self._tell(changes)
        self._synced.set()

    def handle_events(self, events: Iterable[WatchEvent]) -> None:
        """One chunk of the watch."""
        changes: list[Change] = []
        store = self._store
        obj: Object | None = None
        for kind, obj in events:
            if kind == "BOOKMARK":
                continue
            key = object_key(obj)
            if kind == "DELETED":
                old = store.pop(key, None)
                if old is not None:
                    self._index(key, old, None)
                    # The last state, as upstream hands it over: it may carry what the store has
                    # not seen.
                    changes.append((obj, None))
            else:
                old = store.get(key)
                store[key] = obj
                self._index(key, old, obj)
                changes.append((old, obj))
        if obj is not None:
            self._resource_version = _version(obj)
        if changes:
            self._tell(changes)

    # The shell

    async def run(self) -> None:
        """List and watch until cancelled."""
        low, high = BACKOFF_SECONDS
        delay = low
        while True:
            before = self._resource_version
            self._cycle = asyncio.ensure_future(self.run_once())
            failed = False
            try:
                await self._cycle
            except asyncio.CancelledError:
                me = asyncio.current_task()
                if me is None or me.cancelling():
                    raise  # we are cancelled, not only the cycle
            except (Expired, Gone):
                self._resource_version = ""
            except Unreachable as error:
                log.info("informer %s: %s", self.gvr.plural, error)
                failed = True
            except StatusError as error:
                log.warning("informer %s: %s", self.gvr.plural, error)
                self._resource_version = ""
                failed = True
            finally:
                self._cycle = None
            if not failed or self._resource_version != before:
                delay = low
            if failed or not self._resource_version:
                await asyncio.sleep(delay * (1 + self._rng.random()))
                delay = min(high, delay * 2)

    async def run_once(self) -> None:
        """One turn: list unless there is a version to go on from, then one watch to its end."""
        if not self._resource_version:
            await self._list()
        stream = self._client.watch(
            self.gvr,
            self._namespace,
            resource_version=self._resource_version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            timeout_seconds=self._rng.randint(*WATCH_SECONDS),
        )
        async with aclosing(stream) as batches:  # type: ignore[type-var]
            async for events in batches:
                self.handle_events(events)

    async def _list(self) -> None:
        found = await self._client.list(
            self.gvr,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )
        if self._metrics is not None:
            self._metrics.relists.labels(self.gvr.plural).inc()
        self.replace(found.items, found.resource_version)

    def _index(self, key: str, old: Object | None, new: Object | None) -> None:
        for name, function in self._indexers.items():
            index = self._indices[name]
            before = tuple(function(old)) if old is not None else ()
            after = tuple(function(new)) if new is not None else ()
            for value in before:
                if value not in after:
                    bucket = index.get(value)
                    if bucket is not None:
                        bucket.pop(key, None)
                        if not bucket:
                            del index[value]
            if new is not None:
                for value in after:
                    index.setdefault(value, {})[key] = new

    def _tell(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        for handler in self._handlers:
            try:
                handler(changes)
            except Exception:
                log.exception("informer %s: a handler failed", self.gvr.plural)


class InformerFactory:
    """Informers shared by all parts of one component: one a resource and pair of selectors."""

    def __init__(
        self,
        client: Client,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        metrics: ClientMetrics | None = None,
    ) -> None:
        self.client = client
        self._clock = clock
        self._rng = rng or random.Random(0)
        self._metrics = metrics
        self._informers: dict[tuple[GVR, str, str, str], Informer] = {}
        self._tasks: dict[tuple[GVR, str, str, str], asyncio.Task[None]] = {}
        self._started = False

    def informer(
        self,
        gvr: GVR,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> Informer:
        """The shared informer. One asked for after `start` starts at once."""
        key = (gvr, namespace, label_selector, field_selector)
        found = self._informers.get(key)
        if found is None:
            found = Informer(
                self.client, gvr, namespace=namespace, label_selector=label_selector,
                field_selector=field_selector, clock=self._clock, rng=self._rng,
                metrics=self._metrics,
            )  # fmt: skip
            self._informers[key] = found
            if self._started:
                self._tasks[key] = asyncio.get_running_loop().create_task(found.run())
        return found

    def start(self) -> None:
        """Run every informer as a task. Idempotent."""
        self._started = True
        loop = asyncio.get_running_loop()
        for key, informer in self._informers.items():
            if key not in self._tasks:
                self._tasks[key] = loop.create_task(informer.run())

    async def wait_synced(self) -> None:
        """Until every informer asked for so far has its first list."""
        for informer in [*self._informers.values()]:
            await informer.wait_synced()

    async def stop(self) -> None:
        tasks = [*self._tasks.values()]
        self._tasks.clear()
        self._started = False
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run(self) -> None:
        """`start`, and `stop` when cancelled."""
        self.start()
        try:
            await asyncio.Event().wait()
        finally:
            await self.stop()


def _version(obj: Object) -> str:
    return str(obj["metadata"].get("resourceVersion", ""))
