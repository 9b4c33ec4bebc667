"""A real etcd (3.4 or newer) behind the same interface.

Plays k8s.io/apiserver/pkg/storage/etcd3: one transaction a write, compared by mod revision; keys
and values are what `etcdctl get --prefix /registry/` shows. Requests are pipelined over one HTTP/2
connection; etcd does the group commit. Every watch is a stream of its own and resumes by itself
after a lost connection, from the revision that it had reached.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio

from cluster.api.meta import Clock
from cluster.etcd.rpc import etcd_pb2
from cluster.etcd.store import (
    WATCH_BUFFER_REVISIONS,
    Compacted,
    CompareFailed,
    Event,
    FutureRevision,
    KeyValue,
    RangeResult,
    StoreError,
    StoreUnavailable,
    Write,
)
from cluster.metrics.etcd import StoreMetrics

pb: Any = etcd_pb2  # generated: it makes its classes at run time, types cannot see them

REQUEST_TIMEOUT_SECONDS = 10.0
"""After this long without an answer a request fails with StoreUnavailable."""
IN_FLIGHT_REQUESTS = 512
"""Requests on their way at once; more wait in order."""
RANGE_PAGE_KEYS = 1_000
"""Keys a page when a whole prefix is read."""
MESSAGE_BYTES = 512 << 20
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)


@dataclass(frozen=True, slots=True)
class EtcdTls:
    """Files for a mutually authenticated connection."""

    ca: Path
    cert: Path
    key: Path


class EtcdStore:
    """A `Store` over gRPC. Belongs to the loop that made it."""

    def __init__(
        self, endpoint: str, clock: Clock, metrics: StoreMetrics, tls: EtcdTls | None = None
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._slots = asyncio.Semaphore(IN_FLIGHT_REQUESTS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
            ("grpc.enable_http_proxy", 0),
        ]
        if tls is None:
            self._channel = grpc.aio.insecure_channel(endpoint, options)
        else:
            credentials = grpc.ssl_channel_credentials(
                tls.ca.read_bytes(), tls.key.read_bytes(), tls.cert.read_bytes()
            )
            self._channel = grpc.aio.secure_channel(endpoint, credentials, options)
        self._range = self._unary("KV/Range", pb.RangeRequest, pb.RangeResponse)
        self._txn = self._unary("KV/Txn", pb.TxnRequest, pb.TxnResponse)
        self._compact = self._unary("KV/Compact", pb.CompactionRequest, pb.CompactionResponse)
        self._watch = self._channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.WatchResponse.FromString,
        )

    def _unary(self, method: str, request: Any, response: Any) -> Any:
        return self._channel.unary_unary(
            f"/etcdserverpb.{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )

    # ---- writing

    def write_nowait(self, write: Write) -> asyncio.Future[KeyValue]:
        """See Store.write_nowait."""
        future: asyncio.Future[KeyValue] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(self._settle(write, future))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return future

    async def write(self, write: Write) -> KeyValue:
        """See Store.write."""
        return await self.write_nowait(write)

    async def _settle(self, write: Write, future: asyncio.Future[KeyValue]) -> None:
        try:
            async with self._slots:
                kv = await self._commit(write)
        except StoreError as error:
            if not future.done():
                future.set_exception(error)
        except asyncio.CancelledError:
            if not future.done():
                future.set_exception(StoreUnavailable("the store is closed"))
        else:
            if not future.done():
                future.set_result(kv)

    async def _commit(self, write: Write) -> KeyValue:
        """One transaction. A write is never sent twice: whether a lost one happened is unknown."""
        key = write.key.encode()
        if write.value is None:
            change = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key, prev_kv=True))
        else:
            put = pb.PutRequest(key=key, value=write.value, prev_kv=True)
            change = pb.RequestOp(request_put=put)
        look = pb.RequestOp(request_range=pb.RangeRequest(key=key))
        request = pb.TxnRequest(success=[change], failure=[look])
        compare = _compare(key, write)
        if compare is not None:
            request.compare.append(compare)
        answer = await self._call(self._txn, request, "txn", write.key)
        if not answer.succeeded:
            kvs = answer.responses[0].response_range.kvs
            raise CompareFailed(write.key, _key_value(kvs[0]) if kvs else None)
        revision = answer.header.revision
        if write.value is None:
            gone = answer.responses[0].response_delete_range.prev_kvs
            if not gone:
                raise CompareFailed(write.key, None)
            return KeyValue(write.key, gone[0].value, gone[0].create_revision, revision)
        put_answer = answer.responses[0].response_put
        created = put_answer.prev_kv.create_revision or revision
        return KeyValue(write.key, write.value, created, revision)

    async def _call(self, method: Any, request: Any, operation: str, kind: str) -> Any:
        started = self._clock.monotonic()
        try:
            return await method(request, timeout=REQUEST_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            self._metrics.failed_writes.labels("etcd").inc(operation == "txn")
            raise _store_error(error) from error
        except grpc.aio.UsageError as error:
            raise StoreUnavailable("the store is closed") from error
        finally:
            parts = kind.split("/", 3)
            label = f"/{parts[1]}/{parts[2]}" if len(parts) > 2 else kind
            self._metrics.request_seconds.labels(operation, label).observe(
                self._clock.monotonic() - started
            )

    # ---- reading

    async def get(self, key: str) -> KeyValue | None:
        """See Store.get."""
        request = pb.RangeRequest(key=key.encode())
        answer = await self._call(self._range, request, "get", key)
        return _key_value(answer.kvs[0]) if answer.kvs else None

    async def range(
        self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        """See Store.range. Reads page by page at one revision, so that no answer is too large."""
        kvs: list[KeyValue] = []
        end = _prefix_end(prefix.encode())
        start = (start_after.encode() + b"\0") if start_after else prefix.encode()
        while True:
            page = min(limit - len(kvs), RANGE_PAGE_KEYS) if limit else RANGE_PAGE_KEYS
            request = pb.RangeRequest(key=start, range_end=end, limit=page, revision=revision)
            answer = await self._call(self._range, request, "list", prefix)
            revision = revision or answer.header.revision
            kvs.extend(_key_value(kv) for kv in answer.kvs)
            full = bool(limit) and len(kvs) >= limit
            if not answer.more or full:
                return RangeResult(kvs, revision, bool(answer.more))
            start = answer.kvs[-1].key + b"\0"

    async def current_revision(self) -> int:
        """See Store.current_revision. A linearised read: asks etcd."""
        request = pb.RangeRequest(key=b"/", count_only=True)
        answer = await self._call(self._range, request, "get", "revision")
        return int(answer.header.revision)

    async def compact(self, revision: int) -> None:
        """See Store.compact. Somebody else's newer compaction is as good."""
        with contextlib.suppress(Compacted):
            await self._call(
                self._compact, pb.CompactionRequest(revision=revision), "compact", "revision"
            )

    async def watch(self, prefix: str, start_revision: int) -> EtcdWatch:
        """See Store.watch."""
        watch = EtcdWatch(self._watch, prefix, start_revision)
        await watch.wait_created()
        return watch

    async def close(self) -> None:
        """Cancel what is on its way and drop the connection."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()


class EtcdWatch:
    """One watch: a task reads the stream into a bounded backlog and reconnects when it breaks."""

    def __init__(self, method: Any, prefix: str, start_revision: int) -> None:
        self._method = method
        self._prefix = prefix
        self._next = start_revision
        self._batches: list[list[Event]] = []
        self._backlog = 0
        self._wake = asyncio.Event()
        self._created = asyncio.Event()
        self._failure: StoreError | None = None
        self._task = asyncio.ensure_future(self._run())

    async def wait_created(self) -> None:
        """Until etcd has accepted the watch. Raises Compacted at once where it applies."""
        await self._created.wait()
        if isinstance(self._failure, Compacted):
            raise self._failure

    async def _run(self) -> None:
        attempt = 0
        while self._failure is None:
            try:
                await self._follow()
                attempt = 0
            except grpc.aio.AioRpcError:
                await asyncio.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1
            except grpc.aio.UsageError:  # the channel is closed
                self._fail(StoreUnavailable("the store is closed"))

    async def _follow(self) -> None:
        """One connection's life."""
        create = pb.WatchCreateRequest(
            key=self._prefix.encode(),
            range_end=_prefix_end(self._prefix.encode()),
            start_revision=self._next,
            prev_kv=True,
            progress_notify=True,
        )
        stream = self._method()
        await stream.write(pb.WatchRequest(create_request=create))
        try:
            while True:
                answer = await stream.read()
                if answer is grpc.aio.EOF:
                    return
                self._take(answer)
                if self._failure is not None:
                    return
        finally:
            stream.cancel()

    def _take(self, answer: Any) -> None:
        if answer.canceled:
            if answer.compact_revision:
                self._fail(Compacted(self._next, answer.compact_revision))
            return
        self._created.set()
        if not answer.events:
            return
        events = [_event(e) for e in answer.events]
        self._next = events[-1].kv.mod_revision + 1
        self._backlog += len(events)
        if self._backlog > WATCH_BUFFER_REVISIONS:
            self._fail(StoreUnavailable(f"the watch of {self._prefix} lags too far behind"))
            return
        self._batches.append(events)
        self._wake.set()

    def _fail(self, error: StoreError) -> None:
        self._failure = error
        self._created.set()
        self._wake.set()

    async def close(self) -> None:
        """End the watch and its stream."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._fail(self._failure or StoreUnavailable("the watch is closed"))

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[list[Event]]:
        while True:
            if self._batches:
                batches, self._batches = self._batches, []
                self._backlog = 0
                for batch in batches:
                    yield batch
            elif self._failure is not None:
                raise self._failure
            else:
                self._wake.clear()
                await self._wake.wait()


def _compare(key: bytes, write: Write) -> Any:
    """The condition of a write: its mod revision, existence for a delete, or none."""
    if write.expected is not None:
        return pb.Compare(
            result=pb.Compare.EQUAL, target=pb.Compare.MOD, key=key, mod_revision=write.expected
        )
    return None


def _prefix_end(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes([prefix[-1] + 1])


def _key_value(kv: Any) -> KeyValue:
    return KeyValue(kv.key.decode(), kv.value, kv.create_revision, kv.mod_revision)


def _event(event: Any) -> Event:
    prev = _key_value(event.prev_kv) if event.prev_kv.mod_revision else None
    if event.type == pb.WatchedEvent.PUT:
        return Event("PUT", _key_value(event.kv), prev)
    created = prev.create_revision if prev else 0
    return Event(
        "DELETE", KeyValue(event.kv.key.decode(), b"", created, event.kv.mod_revision), prev
    )


def _store_error(error: grpc.aio.AioRpcError) -> StoreError:
    text = error.details() or ""
    if "has been compacted" in text:
        return Compacted(0, 0)
    if "future revision" in text:
        return FutureRevision(text)
    return StoreUnavailable(f"etcd: {error.code().name}: {text}")


__all__: Sequence[str] = ("EtcdStore", "EtcdTls", "EtcdWatch")
