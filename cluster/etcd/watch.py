"""Fan-out of committed changes to the watches of one process; both stores use it.

A watch never blocks a commit: its backlog is bounded (`WATCH_BUFFER_REVISIONS`), and one that falls
behind ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from cluster.etcd.store import (
    WATCH_BUFFER_REVISIONS,
    Event,
    StoreError,
    StoreUnavailable,
    WatchOverflow,
)


class HubWatch:
    """One subscriber: batches of events in order, each once."""

    def __init__(self, hub: WatchHub, prefix: str) -> None:
        self.prefix = prefix
        self._hub = hub
        self._batches: list[list[Event]] = []
        self._backlog = 0
        self._seen = 0
        self._failure: StoreError | None = None
        self._wake = asyncio.Event()

    def preload(self, events: list[Event]) -> None:
        """History that comes before everything published since the subscription; overlaps are
        dropped later."""
        if events:
            self._batches.insert(0, events)
            self._wake.set()

    def offer(self, events: list[Event]) -> None:
        if self._failure is not None:
            return
        self._backlog += len(events)
        if self._backlog > WATCH_BUFFER_REVISIONS:
            self.fail(
                WatchOverflow(f"the watch of {self.prefix} lags {self._backlog} changes behind")
            )
            return
        self._batches.append(events)
        self._wake.set()

    def fail(self, error: StoreError) -> None:
        """Ends the watch: what waits is dropped, the reader gets `error`."""
        self._failure = error
        self._batches.clear()
        self._wake.set()

    async def close(self) -> None:
        self._hub.unsubscribe(self)
        if self._failure is None:
            self.fail(StoreUnavailable("the watch is closed"))

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[list[Event]]:
        while True:
            if not self._batches:
                if self._failure is not None:
                    raise self._failure
                self._wake.clear()
                await self._wake.wait()
                continue
            batches, self._batches = self._batches, []
            self._backlog = 0
            for batch in batches:
                news = [e for e in batch if e.kv.mod_revision > self._seen]
                if news:
                    self._seen = news[-1].kv.mod_revision
                    yield news


class WatchHub:
    """Subscribers by prefix. Prefixes that end in '/' are found by the key's own parts, not one by
    one."""

    def __init__(self) -> None:
        self._by_prefix: dict[str, list[HubWatch]] = {}
        self._odd: list[HubWatch] = []

    def subscribe(self, prefix: str) -> HubWatch:
        watch = HubWatch(self, prefix)
        self._home(prefix).append(watch)
        return watch

    def unsubscribe(self, watch: HubWatch) -> None:
        home = self._home(watch.prefix)
        if watch in home:
            home.remove(watch)
            if not home:
                self._by_prefix.pop(watch.prefix, None)

    def publish(self, events: list[Event]) -> None:
        """Hand one commit's events to everybody concerned, as one batch each."""
        batches: dict[int, tuple[HubWatch, list[Event]]] = {}
        for event in events:
            for watch in self._concerned(event.kv.key):
                batches.setdefault(id(watch), (watch, []))[1].append(event)
        for watch, batch in batches.values():
            watch.offer(batch)

    def close(self) -> None:
        for watch in [w for home in self._by_prefix.values() for w in home] + self._odd:
            watch.fail(StoreUnavailable("the store is closed"))
        self._by_prefix.clear()
        self._odd.clear()

    def _home(self, prefix: str) -> list[HubWatch]:
        return self._by_prefix.setdefault(prefix, []) if prefix.endswith("/") else self._odd

    def _concerned(self, key: str) -> list[HubWatch]:
        found: list[HubWatch] = (
            [w for w in self._odd if key.startswith(w.prefix)] if self._odd else []
        )
        end = key.find("/")
        while end >= 0:
            home = self._by_prefix.get(key[: end + 1])
            if home:
                found.extend(home)
            end = key.find("/", end + 1)
        return found
