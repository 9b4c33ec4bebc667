"""Writes pods' statuses: one request in flight a pod, the newest status wins, then the final
delete.

Plays pkg/kubelet/status/status_manager.go. A request leaves in the client's batch of its node's
identity; what changes while it flies is sent once it has landed.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from cluster.api.errors import Conflict, Invalid, NotFound, StatusError
from cluster.api.meta import PODS, Clock, Object
from cluster.client import Client
from cluster.kubelet.statuspatch import first_patch, strategic_patch
from cluster.metrics.kubelet import KubeletMetrics

log = logging.getLogger(__name__)
RETRY_SECONDS = 2.0


@dataclass(slots=True)
class _Entry:
    client: Client
    namespace: str
    name: str
    uid: str
    sent: Object | None = None  # what the API server has, as far as we know
    wanted: Object | None = None
    flying: bool = False
    delete_wanted: bool = False
    since: float = 0.0
    failures: int = 0


class StatusManager:
    """One a process; entries live from a pod's first status to its end."""

    def __init__(self, clock: Clock, metrics: KubeletMetrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._entries: dict[str, _Entry] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._closed = False

    def publish(self, client: Client, pod: Object, status: Object) -> None:
        """Bring the API's status to `status`, soon."""
        entry = self._entry(client, pod)
        entry.wanted = status
        if not entry.flying:
            self._send(entry, pod)

    def publish_and_delete(self, client: Client, pod: Object, status: Object | None) -> None:
        """The last status of a terminated pod, then its removal from the API (grace 0, this uid
        only)."""
        entry = self._entry(client, pod)
        entry.delete_wanted = True
        if status is not None:
            entry.wanted = status
        if not entry.flying:
            self._send(entry, pod)

    def forget(self, uid: str) -> None:
        """The pod is gone from the API."""
        self._entries.pop(uid, None)

    def close(self) -> None:
        self._closed = True
        for timer in self._timers:
            timer.cancel()
        self._entries.clear()

    def _entry(self, client: Client, pod: Object) -> _Entry:
        meta = pod["metadata"]
        entry = self._entries.get(meta["uid"])
        if entry is None:
            entry = _Entry(client, meta["namespace"], meta["name"], meta["uid"])
            self._entries[meta["uid"]] = entry
        return entry

    def _send(self, entry: _Entry, pod: Object | None) -> None:
        status, entry.wanted = entry.wanted, None
        if status is not None:
            flight = self._patch(entry, pod, status)
            if flight is not None:
                entry.flying = True
                entry.since = self._clock.monotonic()
                flight.add_done_callback(lambda f: self._landed(entry, status, f))
        if entry.delete_wanted and entry.wanted is None:
            # Sent right behind the status: both leave in one batch and are done in order.
            entry.delete_wanted = False
            gone = entry.client.delete_nowait(
                PODS, entry.name, entry.namespace, grace_seconds=0, uid=entry.uid
            )
            gone.add_done_callback(lambda f: self._deleted(entry, f))

    def _patch(
        self, entry: _Entry, pod: Object | None, status: Object
    ) -> asyncio.Future[Object] | None:
        old = entry.sent
        if old is None and pod is not None:
            old = pod.get("status") or {}
            if "containerStatuses" not in old and entry.failures == 0:
                return entry.client.patch_nowait(
                    PODS, entry.name, first_patch(pod, status), entry.namespace,
                    subresource="status", answer="none",
                )  # fmt: skip
        body = strategic_patch(entry.uid, old or {}, status)
        if body is None:
            entry.sent = status
            return None
        return entry.client.patch_nowait(
            PODS, entry.name, body, entry.namespace, patch_type="strategic",
            subresource="status", answer="none",
        )  # fmt: skip

    def _landed(self, entry: _Entry, status: Object, flight: asyncio.Future[Object]) -> None:
        entry.flying = False
        if flight.cancelled() or self._closed:
            return
        self._metrics.status_seconds.observe(self._clock.monotonic() - entry.since)
        error = flight.exception()
        if error is None:
            entry.sent, entry.failures = status, 0
        elif isinstance(error, NotFound):
            entry.wanted = None
            return
        elif isinstance(error, Conflict) and entry.failures == 0:
            # Somebody else wrote: take the patch that merges.
            entry.failures = 1
            entry.sent = {}
            entry.wanted = entry.wanted or status
        else:
            if not isinstance(error, StatusError):
                log.warning("status of %s/%s: %s", entry.namespace, entry.name, error)
            self._retry(entry, status, error)
            return
        if entry.wanted is not None or entry.delete_wanted:
            self._send(entry, None)

    def _retry(self, entry: _Entry, status: Object, error: BaseException) -> None:
        entry.failures += 1
        if isinstance(error, Invalid | Conflict) and entry.failures > 5:
            log.error("status of %s/%s is refused: %s", entry.namespace, entry.name, error)
            return
        entry.wanted = entry.wanted or status
        self._later(lambda: None if entry.flying else self._send(entry, None))

    def _deleted(self, entry: _Entry, flight: asyncio.Future[Object]) -> None:
        if flight.cancelled() or self._closed:
            return
        error = flight.exception()
        if error is None or isinstance(error, NotFound | Conflict):
            return
        log.warning("removal of %s/%s: %s", entry.namespace, entry.name, error)
        entry.delete_wanted = True
        self._later(lambda: self._send(entry, None))

    def _later(self, act: object) -> None:
        assert callable(act)
        loop = asyncio.get_running_loop()

        def run() -> None:
            self._timers.discard(timer)
            if not self._closed:
                act()

        timer = loop.call_later(RETRY_SECONDS, run)
        self._timers.add(timer)
