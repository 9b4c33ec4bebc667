"""The embedded store: etcd's semantics on one SQLite file in WAL mode, with group commit.

A writer thread takes everything that was submitted while the commit before was on its way to the
disk, decides each compare-and-swap against an index in memory, and commits once. Nothing is
acknowledged, and no watch sees it, before that commit. `kill -9` at any instant therefore loses
nothing that was acknowledged. Readers use a connection of their own and see committed data only.

Unlike etcd: one member, no leases; each write is a revision of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import Histogram

from cluster.api.meta import Clock
from cluster.etcd.store import (
    Compacted,
    CompareFailed,
    Event,
    FutureRevision,
    KeyValue,
    RangeResult,
    StoreUnavailable,
    Watch,
    Write,
)
from cluster.etcd.watch import WatchHub
from cluster.metrics.etcd import StoreMetrics

GROUP_COMMIT_WRITES = 1_000
"""Writes that share one commit at the most; what is over goes into the next."""
COMPACT_CHUNK_REVISIONS = 2_000
"""Revisions compacted between two commits of writes, so that compaction never holds writers up."""
LOCK_WAIT_SECONDS = 10.0
"""How long opening waits for a former owner of the file to die."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
  revision INTEGER PRIMARY KEY, key TEXT NOT NULL, create_revision INTEGER NOT NULL,
  prev_revision INTEGER NOT NULL, deleted INTEGER NOT NULL, value BLOB);
CREATE INDEX IF NOT EXISTS log_key ON log (key, revision);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, number INTEGER NOT NULL);
INSERT OR IGNORE INTO meta VALUES ('compacted', 0), ('revision', 0);
"""
_INSERT = "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)"
_LATEST = "SELECT key, value, create_revision, max(revision), deleted FROM log"

_Submitted = tuple[Write, "asyncio.Future[KeyValue]"]
_Row = tuple[Any, ...]


@dataclass(slots=True)
class _Group:
    """One commit's outcome on its way back to the loop."""

    results: list[tuple[asyncio.Future[KeyValue], KeyValue | Exception]]
    events: list[Event]
    revision: int
    seconds: float


class SqliteStore:
    """A `Store` over one file. Make it with `open`; it belongs to the loop that opened it."""

    def __init__(self, path: Path, clock: Clock, metrics: StoreMetrics) -> None:
        self._path = path
        self._clock = clock
        self._metrics = metrics
        self._loop: asyncio.AbstractEventLoop
        self._lock_fd: int
        self._thread: threading.Thread
        self._writer: sqlite3.Connection
        self._reader: sqlite3.Connection
        self._durable = True  # what the writer's connection is set to
        self._hub = WatchHub()
        self._seconds: dict[str, Histogram] = {}
        self._submitted: queue.SimpleQueue[list[_Submitted] | Callable[[], None] | None] = (
            queue.SimpleQueue()
        )
        self._pending: list[_Submitted] = []
        self._index: dict[str, tuple[int, int]] = {}
        self._revision = 0  # last committed, as the loop knows it
        self._next = 1  # the writer thread's own
        self._compacted = 0
        self._closed = False
        self._readers = ThreadPoolExecutor(1, "store-reader")

    @classmethod
    async def open(cls, path: Path, clock: Clock, metrics: StoreMetrics) -> SqliteStore:
        """Open or make the file at `path` (mode 0600). Raises StoreUnavailable if another process
        holds it."""
        store = cls(path, clock, metrics)
        store._loop = asyncio.get_running_loop()
        path.parent.mkdir(parents=True, exist_ok=True)
        store._lock_fd = await _lock(path.with_suffix(".lock"))
        try:
            store._open_connections()
        except sqlite3.Error as error:
            os.close(store._lock_fd)
            raise StoreUnavailable(f"{path}: {error}") from error
        store._thread = threading.Thread(
            target=store._write_forever, name="store-writer", daemon=True
        )
        store._thread.start()
        return store

    # ---- writing: the loop's side

    def write_nowait(self, write: Write) -> asyncio.Future[KeyValue]:
        """See Store.write_nowait."""
        future: asyncio.Future[KeyValue] = self._loop.create_future()
        if self._closed:
            future.set_exception(StoreUnavailable("the store is closed"))
            return future
        if not self._pending:
            self._loop.call_soon(self._submit)
        self._pending.append((write, future))
        return future

    async def write(self, write: Write) -> KeyValue:
        """See Store.write."""
        return await self.write_nowait(write)

    def _submit(self) -> None:
        self._submitted.put(self._pending)
        self._pending = []

    def _deliver(self, group: _Group) -> None:
        """On the loop: a commit is on the disk. Watches hear of it before its writers do."""
        if group.revision:
            self._revision = group.revision
            self._metrics.revision.set(group.revision)
        self._metrics.commit_seconds.observe(group.seconds)
        self._metrics.commit_writes.observe(len(group.results))
        self._hub.publish(group.events)
        for event in group.events:
            self._observe(event.kv.key, group.seconds)
        for future, result in group.results:
            if future.cancelled():
                continue
            if isinstance(result, KeyValue):
                future.set_result(result)
            else:
                future.set_exception(result)

    def _observe(self, key: str, seconds: float) -> None:
        """The commit that a write waited for, by its resource: /registry/pods."""
        resource = key[: key.find("/", key.find("/", 1) + 1)]
        child = self._seconds.get(resource)
        if child is None:
            child = self._seconds[resource] = self._metrics.request_seconds.labels("txn", resource)
        child.observe(seconds)

    # ---- writing: the thread's side

    def _write_forever(self) -> None:
        while True:
            item = self._submitted.get()
            if item is None:
                return
            if callable(item):
                item()
                continue
            batch = item
            closing = False
            while len(batch) < GROUP_COMMIT_WRITES:
                try:
                    more = self._submitted.get_nowait()
                except queue.Empty:
                    break
                if isinstance(more, list):
                    batch = batch + more
                elif more is None:
                    closing = True
                    break
                else:
                    more()
            group = self._commit(batch)
            with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits for an answer
                self._loop.call_soon_threadsafe(self._deliver, group)
            if closing:
                return

    def _commit(self, batch: list[_Submitted]) -> _Group:
        """Decide and commit one group; on a failing disk nothing of it has happened."""
        started = self._clock.monotonic()
        first = self._next
        undo: list[tuple[str, tuple[int, int] | None]] = []
        results: list[tuple[asyncio.Future[KeyValue], KeyValue | Exception]] = []
        events: list[Event] = []
        rows: list[tuple[int, str, int, int, int, bytes | None]] = []
        fresh: dict[int, KeyValue] = {}
        try:
            self._set_durability(any(write.durable for write, _ in batch))
            self._writer.execute("BEGIN")
            for write, future in batch:
                results.append((future, self._decide(write, undo, events, rows, fresh)))
            self._writer.executemany(_INSERT, rows)
            if rows:
                self._writer.execute(
                    "UPDATE meta SET number = ? WHERE name = 'revision'", (self._next - 1,)
                )
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(undo, first)
            self._metrics.failed_writes.labels("disk").inc(len(batch))
            failure = StoreUnavailable(f"the store's disk refused a write: {error}")
            results = [(future, failure) for _, future in batch]
            events = []
        revision = self._next - 1 if events else 0
        return _Group(results, events, revision, self._clock.monotonic() - started)

    def _decide(
        self,
        write: Write,
        undo: list[tuple[str, tuple[int, int] | None]],
        events: list[Event],
        rows: list[tuple[int, str, int, int, int, bytes | None]],
        fresh: dict[int, KeyValue],
    ) -> KeyValue | Exception:
        """One compare-and-swap. `fresh` holds the group's own, not yet readable rows."""
        key = write.key
        current = self._index.get(key)
        mod, created = current or (0, 0)
        expected = write.expected
        if (expected is not None and expected != mod) or (write.value is None and current is None):
            return CompareFailed(key, self._read(key, mod, created, fresh) if current else None)
        prev = self._read(key, mod, created, fresh) if current else None
        revision = self._next
        self._next += 1
        undo.append((key, current))
        if write.value is None:
            assert prev is not None
            del self._index[key]
            rows.append((revision, key, created, mod, 1, None))
            events.append(Event("DELETE", KeyValue(key, b"", created, revision), prev))
            return KeyValue(key, prev.value, created, revision)
        created = created or revision
        self._index[key] = (revision, created)
        kv = KeyValue(key, write.value, created, revision)
        fresh[revision] = kv
        rows.append((revision, key, created, mod, 0, write.value))
        events.append(Event("PUT", kv, prev))
        return kv

    def _read(self, key: str, mod: int, created: int, fresh: dict[int, KeyValue]) -> KeyValue:
        own = fresh.get(mod)
        if own is not None:
            return own
        (value,) = self._writer.execute(
            "SELECT value FROM log WHERE revision = ?", (mod,)
        ).fetchone()
        return KeyValue(key, value, created, mod)

    def _roll_back(self, undo: list[tuple[str, tuple[int, int] | None]], first: int) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        for key, before in reversed(undo):
            if before is None:
                self._index.pop(key, None)
            else:
                self._index[key] = before
        self._next = first

    def _set_durability(self, durable: bool) -> None:
        """FULL waits for the disk at each commit; NORMAL leaves that to the kernel (a lease's
        renewal)."""
        if durable != self._durable:
            self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable

    # ---- reading

    async def get(self, key: str) -> KeyValue | None:
        """See Store.get."""
        row = await self._read_rows(f"{_LATEST} WHERE key = ?", (key,), 1)
        kvs = _key_values(row)
        return kvs[0] if kvs else None

    async def range(
        self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        """See Store.range."""
        now = self._revision
        if revision > now:
            raise FutureRevision(f"revision {revision} is in the future (now {now})")
        if revision and revision < self._compacted:
            raise Compacted(revision, self._compacted)
        at = revision or now
        low = max(start_after + "\x00" if start_after else prefix, prefix)
        sql = f"{_LATEST} WHERE key >= ? AND key < ? AND revision <= ? GROUP BY key ORDER BY key"
        rows = await self._read_rows(sql, (low, _prefix_end(prefix), at), limit)
        kvs = _key_values(rows)
        more = bool(limit) and len(kvs) > limit
        return RangeResult(kvs[:limit] if limit else kvs, at, more)

    async def watch(self, prefix: str, start_revision: int) -> Watch:
        """See Store.watch."""
        if start_revision <= self._compacted and self._compacted:
            raise Compacted(start_revision, self._compacted)
        watch = self._hub.subscribe(prefix)
        if start_revision <= self._revision:
            watch.preload(await self._replay(prefix, start_revision, self._revision))
        return watch

    async def _replay(self, prefix: str, first: int, last: int) -> list[Event]:
        sql = (
            "SELECT n.key, n.value, n.create_revision, n.revision, n.deleted, "
            "p.value, p.create_revision, p.revision "
            "FROM log n LEFT JOIN log p ON p.revision = n.prev_revision "
            "WHERE n.revision >= ? AND n.revision <= ? AND n.key >= ? AND n.key < ? "
            "ORDER BY n.revision"
        )
        rows = await self._read_rows(sql, (first, last, prefix, _prefix_end(prefix)), 0)
        return [_event(row) for row in rows]

    async def current_revision(self) -> int:
        """See Store.current_revision."""
        return self._revision

    async def _read_rows(self, sql: str, args: tuple[object, ...], limit: int) -> list[_Row]:
        """Rows in the reader thread; with a limit, no more than are needed to find limit+1 that are
        not deleted."""

        def read() -> list[_Row]:
            cursor = self._reader.execute(sql, args)
            if not limit:
                return cursor.fetchall()
            rows: list[_Row] = []
            alive = 0
            for row in cursor:
                rows.append(row)
                alive += not row[4]
                if alive > limit:
                    break
            return rows

        try:
            return await self._loop.run_in_executor(self._readers, read)
        except (sqlite3.Error, RuntimeError) as error:
            raise StoreUnavailable(f"the store cannot be read: {error}") from error

    # ---- housekeeping

    async def compact(self, revision: int) -> None:
        """See Store.compact."""
        if revision > self._revision:
            raise FutureRevision(f"cannot compact revision {revision} (now {self._revision})")
        while self._compacted < revision:
            upto = min(self._compacted + COMPACT_CHUNK_REVISIONS, revision)
            await self._in_writer(lambda upto=upto: self._compact_chunk(upto))  # type: ignore[misc]
        self._metrics.db_bytes.set(self._path.stat().st_size)

    def _compact_chunk(self, upto: int) -> None:
        span = (self._compacted, upto)
        self._writer.execute("BEGIN")
        self._writer.execute(
            "DELETE FROM log WHERE revision IN (SELECT prev_revision FROM log "
            "WHERE revision > ? AND revision <= ? AND prev_revision > 0)",
            span,
        )
        self._writer.execute(
            "DELETE FROM log WHERE deleted = 1 AND revision > ? AND revision <= ?", span
        )
        self._writer.execute("UPDATE meta SET number = ? WHERE name = 'compacted'", (upto,))
        self._writer.execute("COMMIT")
        self._compacted = upto

    async def backup(self, path: Path) -> None:
        """A consistent copy of the whole store as another SQLite file, mode 0600, while writes go
        on."""

        def copy() -> None:
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            os.close(fd)
            with contextlib.closing(sqlite3.connect(path)) as target:
                self._writer.backup(target)

        await self._in_writer(copy)

    async def _in_writer(self, work: Callable[[], None]) -> None:
        """Run `work` in the writer thread, between two commits."""
        done: asyncio.Future[None] = self._loop.create_future()

        def settle(error: Exception | None) -> None:
            if done.cancelled():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(StoreUnavailable(f"the store's disk refused: {error}"))

        def run() -> None:
            failure: Exception | None = None
            try:
                work()
            except (sqlite3.Error, OSError) as error:
                failure = error
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            self._loop.call_soon_threadsafe(settle, failure)

        self._submitted.put(run)
        await done

    async def close(self) -> None:
        """Commit what was submitted, end all watches, let go of the file."""
        if self._closed:
            return
        if self._pending:
            self._submit()
        self._closed = True
        self._submitted.put(None)
        await self._loop.run_in_executor(None, self._thread.join)
        await asyncio.sleep(0)  # the last group's delivery
        self._hub.close()
        self._readers.shutdown()
        self._reader.close()
        self._writer.close()
        os.close(self._lock_fd)

    def _open_connections(self) -> None:
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        self._writer = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._writer.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        self._writer.execute("PRAGMA wal_autocheckpoint = 4000")
        self._writer.execute("PRAGMA cache_size = -65536")
        self._writer.executescript(_SCHEMA)
        meta = dict(self._writer.execute("SELECT name, number FROM meta").fetchall())
        self._revision, self._compacted = meta["revision"], meta["compacted"]
        self._next = self._revision + 1
        for key, _, created, mod, deleted in self._writer.execute(
            "SELECT key, 0, create_revision, max(revision), deleted FROM log GROUP BY key"
        ):
            if not deleted:
                self._index[key] = (mod, created)
        self._reader = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._metrics.revision.set(self._revision)
        self._metrics.db_bytes.set(self._path.stat().st_size)


async def _lock(path: Path) -> int:
    """Hold `path` for this process; waits a little for a former owner that is dying."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LOCK_WAIT_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if loop.time() >= deadline:
                os.close(fd)
                raise StoreUnavailable(
                    f"{path} is held by another process: is this cluster running twice?"
                ) from None
            await asyncio.sleep(0.05)


def _prefix_end(prefix: str) -> str:
    """The first key after all keys with this prefix (clientv3.GetPrefixRangeEnd)."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else "\U0010ffff"


def _key_values(rows: list[_Row]) -> list[KeyValue]:
    return [
        KeyValue(key, value, created, mod)
        for key, value, created, mod, deleted in rows
        if not deleted and key is not None
    ]


def _event(row: _Row) -> Event:
    key, value, created, revision, deleted, old, old_created, old_revision = row
    prev = None
    if old_revision is not None and old is not None:
        prev = KeyValue(key, old, old_created, old_revision)
    kv = KeyValue(key, b"" if deleted else value, created, revision)
    return Event("DELETE" if deleted else "PUT", kv, prev)
