"""The proxy's shell: follows Services and EndpointSlices and has every change programmed.

Plays cmd/kube-proxy. One proxy programs a whole host (all its nodes share one fabric). Changes that
arrive while one sync is under way go together into the next; a sync that failed is repeated from
nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence

from cluster.api.meta import ENDPOINTSLICES, SERVICES, Clock
from cluster.client import Change, Client, Informer
from cluster.client.flow import FlowReporter
from cluster.metrics.proxy import ProxyMetrics
from cluster.proxy.plan import HEADLESS, PROXY_NAME, PlanChanges, ProxyPlan, ServicePlan

log = logging.getLogger(__name__)

Apply = Callable[[Mapping[str, ServicePlan | None], bool], Awaitable[None]]
"""apply(ports, full): program these service ports (None: remove); `full` means: and no others."""
MIN_SYNC_SECONDS = 0.02
RETRY_SECONDS = 1.0


class Proxy:
    """`run()` it; `wait_synced()` returns once all that was there at the start is programmed."""

    def __init__(
        self,
        client: Client,
        apply: Apply,
        clock: Clock,
        metrics: ProxyMetrics,
        rng: random.Random | None = None,
    ) -> None:
        self.plan = ProxyPlan()
        self._apply = apply
        self._clock = clock
        self._metrics = metrics
        self._services = Informer(
            client, SERVICES, label_selector=f"!{PROXY_NAME}", clock=clock, rng=rng
        )
        self._slices = Informer(
            client,
            ENDPOINTSLICES,
            label_selector=f"!{HEADLESS},!{PROXY_NAME}",
            clock=clock,
            rng=rng,
        )
        self._flow = FlowReporter(client, clock)
        self._wake = asyncio.Event()
        self._synced = asyncio.Event()
        self._services.add_handler_batch(self._handle_services)
        self._slices.add_handler_batch(self._handle_slices)

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._services.run())
                group.create_task(self._slices.run())
                group.create_task(self._run_syncs())
        finally:
            self._flow.close()

    async def _run_syncs(self) -> None:
        await self._services.wait_synced()
        await self._slices.wait_synced()
        full = True
        while True:
            if not full:
                await self._wake.wait()
            self._wake.clear()
            try:
                await self.sync(full=full)
                full = False
            except Exception as error:  # noqa: BLE001 - told, counted, and repeated from nothing
                log.warning("sync of the service rules failed: %s", error)
                self._metrics.failures.inc()
                full = True
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._synced.set()
            await asyncio.sleep(MIN_SYNC_SECONDS)

    async def sync(self, *, full: bool) -> PlanChanges:
        """One turn: program what has changed, or all."""
        changes = self.plan.take()
        if not full and not changes.ports:
            self._observe_pending()
            return changes
        started, began = self._clock.monotonic(), self._clock.now()
        await self._apply(self.plan.everything() if full else changes.ports, full)
        if not full:
            for (namespace, pod), service in changes.pods.items():
                marks = {"proxied": (began, self._clock.now())}
                self._flow.report(namespace, pod, marks, {"service": service})
        self._observe(changes, self._clock.monotonic() - started, full=full)
        return changes

    def _handle_services(self, changes: Sequence[Change]) -> None:
        for old, new in changes:
            self.plan.handle_service(old, new)
        self._metrics.service_changes.inc(len(changes))
        self._note()

    def _handle_slices(self, changes: Sequence[Change]) -> None:
        for old, new in changes:
            self.plan.handle_slice(old, new)
        self._metrics.endpoint_changes.inc(len(changes))
        self._note()

    def _note(self) -> None:
        self._observe_pending()
        if self.plan.dirty:
            self._wake.set()

    def _observe_pending(self) -> None:
        services, endpoints = self.plan.pending
        self._metrics.service_changes_pending.set(services)
        self._metrics.endpoint_changes_pending.set(endpoints)

    def _observe(self, changes: PlanChanges, seconds: float, *, full: bool) -> None:
        metrics, now = self._metrics, self._clock.now()
        self._observe_pending()
        metrics.sync_seconds.observe(seconds)
        (metrics.full_sync_seconds if full else metrics.partial_sync_seconds).observe(seconds)
        metrics.last_sync.set(now)
        for trigger in changes.triggers:
            metrics.programming_seconds.observe(max(0.0, now - trigger))
