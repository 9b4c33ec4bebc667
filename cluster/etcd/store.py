"""The storage interface: what the API server asks of etcd, and nothing else.

Plays the part of go.etcd.io/etcd that k8s.io/apiserver/pkg/storage/etcd3 uses: one revision for the
whole store, compare-and-swap by mod revision, ranges in key order, watches from a revision,
compaction. Two implementations are held to the same contract tests: `SqliteStore` (embedded, the
default) and `EtcdStore` (a real etcd).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

WATCH_BUFFER_REVISIONS = 100_000
"""Committed changes a slow watch may lag behind; past that it ends with `WatchOverflow` (watch
again)."""


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One version of one key (etcd's mvccpb.KeyValue)."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Write:
    """One change. `value` None deletes. `expected` is the mod revision that must be current: 0 the
    key must not exist, None anything goes. `durable=False` (node leases) may be lost by a power
    failure, not by a killed process."""

    key: str
    value: bytes | None
    expected: int | None
    durable: bool = True


@dataclass(frozen=True, slots=True)
class Event:
    """One committed change. A DELETE's `kv` carries the revision of the deletion and no value;
    `prev` what was."""

    type: Literal["PUT", "DELETE"]
    kv: KeyValue
    prev: KeyValue | None


@dataclass(frozen=True, slots=True)
class RangeResult:
    """Keys under a prefix in order, as of `revision`; `more` says that the limit cut the answer."""

    kvs: list[KeyValue]
    revision: int
    more: bool


class StoreError(Exception):
    """The store could not answer; nothing is known to be written."""


class StoreUnavailable(StoreError):
    """Full disk, lost connection, closed: try again later."""


class Compacted(StoreError):
    """The revision asked for is older than the last compaction."""

    def __init__(self, revision: int, compacted: int) -> None:
        super().__init__(f"revision {revision} has been compacted (compacted up to {compacted})")
        self.revision = revision
        self.compacted = compacted


class FutureRevision(StoreError):
    """The revision asked for has not happened yet."""


class WatchOverflow(StoreError):
    """The reader of a watch lags too far behind; its events are dropped, watch again."""


class CompareFailed(StoreError):
    """A write's expectation did not hold; `current` is what is there (None: no such key)."""

    def __init__(self, key: str, current: KeyValue | None) -> None:
        super().__init__(f"{key} is at revision {current.mod_revision if current else 0}")
        self.key = key
        self.current = current


class Watch(Protocol):
    """Committed changes under one prefix: each item holds whole commits, in order, each change
    once."""

    def __aiter__(self) -> AsyncIterator[list[Event]]: ...

    async def close(self) -> None: ...


class Store(Protocol):
    """See the module."""

    def write_nowait(self, write: Write) -> asyncio.Future[KeyValue]:
        """Submit; all writes of one turn of the loop share a commit, in order. The future ends once
        the write is durable, with the new KeyValue (of a delete: the deleted value at the
        deletion's revision), or raises CompareFailed / StoreUnavailable."""

    async def write(self, write: Write) -> KeyValue: ...

    async def get(self, key: str) -> KeyValue | None: ...

    async def range(
        self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        """Keys that start with `prefix` and sort after `start_after`; `limit` 0 is all, `revision`
        0 is now. Raises Compacted, FutureRevision."""

    async def watch(self, prefix: str, start_revision: int) -> Watch:
        """Changes from `start_revision` on, itself included. Raises Compacted when iterated or at
        once."""

    async def current_revision(self) -> int: ...

    async def compact(self, revision: int) -> None:
        """Forget versions that were replaced or deleted at or before `revision`."""

    async def close(self) -> None: ...
