"""Events about objects, written without ever holding up the caller.

Plays k8s.io/client-go/tools/record: the same correlation (aggregation of more than 10 similar
events in 10 minutes, spam filter of 25 with one more every 5 minutes an object, repeats as a
count) and the same names and fields. Limits: 5,000 pending, then an event is dropped and counted;
4,096 correlation entries, the oldest forgotten.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TypeVar

from cluster.api.errors import NotFound, StatusError
from cluster.api.meta import EVENTS, Clock, NewUid, Object, rfc3339, rfc3339_micro
from cluster.client.rest import Client
from cluster.metrics.client import ClientMetrics

log = logging.getLogger(__name__)
V = TypeVar("V")

MAX_PENDING = 5000
MAX_ENTRIES = 4096
SIMILAR_LIMIT = 10
SIMILAR_SECONDS = 600.0
SPAM_BURST = 25.0
SPAM_RATE = 1 / 300.0


@dataclass(slots=True)
class _Repeats:
    name: str
    namespace: str
    count: int
    first: float


@dataclass(slots=True)
class _Similar:
    messages: set[str]
    last: float


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


@dataclass(slots=True)
class _Write:
    """One request to make. `patch`: the event exists already, only its count and message change."""

    event: Object
    patch: bool = False
    future: asyncio.Future[Object] | None = field(default=None)


class Correlator:
    """Decides what becomes of an event: written, counted onto an earlier one, or dropped as spam.
    Pure."""

    def __init__(self) -> None:
        self._repeats: OrderedDict[tuple[str, ...], _Repeats] = OrderedDict()
        self._similar: OrderedDict[tuple[str, ...], _Similar] = OrderedDict()
        self._spam: OrderedDict[tuple[str, ...], _Bucket] = OrderedDict()

    def correlate(self, event: Object, now: float) -> tuple[Object, bool] | None:
        """(event to write, whether as a patch of an earlier one), or None: spam."""
        ref = event["involvedObject"]
        source = event.get("source") or {}
        about = (
            source.get("component", ""), source.get("host", ""), ref.get("kind", ""),
            ref.get("namespace", ""), ref.get("name", ""), ref.get("fieldPath", ""),
            ref.get("uid", ""), ref.get("apiVersion", ""),
        )  # fmt: skip
        alike = (*about, event["type"], event["reason"], event.get("reportingComponent", ""))
        key: tuple[str, ...] = (*alike, event["message"])
        if self._aggregated(alike, event["message"], now):
            event["message"] = "(combined from similar events): " + event["message"]
            key = alike
        known = self._repeats.get(key)
        if known is None:
            metadata = event["metadata"]
            known = _Repeats(metadata["name"], metadata["namespace"], 0, now)
            _put(self._repeats, key, known)
        patch = known.count > 0
        if not self._affordable(about, now):
            return None
        known.count += 1
        if patch:
            self._repeats.move_to_end(key)
            event["metadata"]["name"] = known.name
            event["firstTimestamp"] = rfc3339(known.first)
            event["count"] = known.count
        return event, patch

    def _aggregated(self, alike: tuple[str, ...], message: str, now: float) -> bool:
        found = self._similar.get(alike)
        if found is None or now - found.last > SIMILAR_SECONDS:
            found = _Similar(set(), now)
            _put(self._similar, alike, found)
        found.messages.add(message)
        found.last = now
        if len(found.messages) < SIMILAR_LIMIT:
            return False
        found.messages.pop()  # bounded: the set only has to stay full
        return True

    def _affordable(self, about: tuple[str, ...], now: float) -> bool:
        found = self._spam.get(about)
        if found is None:
            found = _Bucket(SPAM_BURST, now)
            _put(self._spam, about, found)
        found.tokens = min(SPAM_BURST, found.tokens + (now - found.filled_at) * SPAM_RATE)
        found.filled_at = now
        if found.tokens < 1:
            return False
        found.tokens -= 1
        return True


class EventRecorder:
    """`event` returns at once; requests leave in the client's batches."""

    def __init__(
        self,
        client: Client,
        component: str,
        host: str,
        clock: Clock,
        new_uid: NewUid,
        *,
        metrics: ClientMetrics | None = None,
        new_style: bool = False,
    ) -> None:
        """`new_style`: as events.k8s.io's recorder writes them (kube-scheduler): eventTime, action
        and reportingInstance instead of source and counts."""
        self._client = client.in_background()
        self._component = component
        self._host = host
        self._clock = clock
        self._new_uid = new_uid
        self._metrics = metrics
        self._new_style = new_style
        self._correlator = Correlator()
        self._pending: deque[_Write] = deque()
        self._in_flight: set[asyncio.Future[Object]] = set()
        self._flush_wanted = False
        self._sequence = 0

    def event(
        self,
        obj: Object,
        type_: str,
        reason: str,
        message: str,
        *,
        field_path: str = "",
        action: str = "",
        related: Object | None = None,
    ) -> None:
        """`type_` is Normal or Warning; `field_path` e.g. spec.containers{web}."""
        now = self._clock.now()
        event = self._make(obj, type_, reason, message, now)
        if field_path:
            event["involvedObject"]["fieldPath"] = field_path
        if action:
            event["action"] = action
        if related is not None:
            event["related"] = reference(related)
        decided = self._correlator.correlate(event, now)
        if decided is None:
            self._drop("spam")
            return
        if len(self._pending) + len(self._in_flight) >= MAX_PENDING:
            self._drop("overflow")
            return
        self._pending.append(_Write(*decided))
        if not self._flush_wanted:
            self._flush_wanted = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def flush(self) -> None:
        """Until everything recorded so far is written or refused."""
        self._flush()
        while self._in_flight:
            await asyncio.gather(*self._in_flight, return_exceptions=True)
            await asyncio.sleep(0)

    def _flush(self) -> None:
        self._flush_wanted = False
        while self._pending:
            self._send(self._pending.popleft())

    def _send(self, write: _Write) -> None:
        event = write.event
        metadata = event["metadata"]
        if write.patch:
            patch = {
                k: event[k]
                for k in ("count", "message", "lastTimestamp")
                if event.get(k) is not None
            }
            if self._new_style:
                patch = {
                    "series": {
                        "count": event["count"],
                        "lastObservedTime": event["eventTime"],
                    }
                }
            future = self._client.patch_nowait(
                EVENTS, metadata["name"], patch, metadata["namespace"], patch_type="strategic",
                answer="none",
            )  # fmt: skip
        else:
            future = self._client.create_nowait(EVENTS, event, metadata["namespace"], answer="none")
        self._in_flight.add(future)
        future.add_done_callback(lambda done: self._written(write, done))

    def _written(self, write: _Write, done: asyncio.Future[Object]) -> None:
        self._in_flight.discard(done)
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            return
        if write.patch and isinstance(error, NotFound):
            self._send(_Write(write.event))  # it expired: write it anew, as upstream does
            return
        self._drop("refused")
        if isinstance(error, StatusError):
            log.debug("event %s: %s", write.event["metadata"]["name"], error)
        else:
            log.error("event %s: %r", write.event["metadata"]["name"], error)

    def _make(self, obj: Object, type_: str, reason: str, message: str, now: float) -> Object:
        ref = reference(obj)
        namespace = ref.get("namespace") or "default"
        self._sequence += 1
        unique = int(now * 1e9) + self._sequence % 1000
        event: Object = {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {"name": f"{ref['name']}.{unique:x}", "namespace": namespace},
            "involvedObject": ref,
            "reason": reason,
            "message": message[:1024],
            "type": type_,
            "reportingComponent": self._component,
        }
        if self._new_style:
            event["source"] = {}
            event["eventTime"] = rfc3339_micro(now)
            event["firstTimestamp"] = event["lastTimestamp"] = None
            event["reportingInstance"] = f"{self._component}-{self._host}"
        else:
            source = {"component": self._component}
            if self._host:
                source["host"] = self._host
            event["source"] = source
            event["firstTimestamp"] = event["lastTimestamp"] = rfc3339(now)
            event["count"] = 1
            event["reportingInstance"] = self._host
        return event

    def _drop(self, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.events_dropped.labels(reason).inc()


def reference(obj: Object) -> Object:
    """An ObjectReference. `obj` needs kind and apiVersion (objects from this room's client have
    them)."""
    if "involvedObject" not in obj and "metadata" not in obj:
        return dict(obj)  # a reference already
    metadata = obj["metadata"]
    ref: Object = {"kind": obj.get("kind", ""), "name": metadata["name"]}
    for name, value in (
        ("namespace", metadata.get("namespace")),
        ("uid", metadata.get("uid")),
        ("apiVersion", obj.get("apiVersion")),
        ("resourceVersion", metadata.get("resourceVersion")),
    ):
        if value:
            ref[name] = value
    return ref


def _put(table: OrderedDict[tuple[str, ...], V], key: tuple[str, ...], value: V) -> None:
    table[key] = value
    if len(table) > MAX_ENTRIES:
        table.popitem(last=False)
