"""The kube-scheduler actor."""

from __future__ import annotations

import random

from actors.clients import client_of
from actors.component import Component
from cluster.api.meta import SystemClock, uid_maker
from cluster.client import Client, EventRecorder
from cluster.metrics.client import ClientMetrics
from cluster.metrics.scheduler import SchedulerMetrics
from cluster.scheduler import Scheduler, SchedulerConfig


class SchedulerComponent(Component):
    """Plays kube-scheduler."""

    _client: Client
    _scheduler: Scheduler

    async def start(self) -> None:
        clock = SystemClock()
        metrics = ClientMetrics(self.registry)
        self._client = client_of(self.context, metrics)
        recorder = EventRecorder(
            self._client, "default-scheduler", "", clock, uid_maker(random.Random()),
            metrics=metrics, new_style=True,
        )  # fmt: skip
        self._scheduler = Scheduler(
            self._client, SchedulerConfig(), clock, random.Random(), recorder,
            SchedulerMetrics(self.registry),
        )  # fmt: skip

    async def serve(self) -> None:
        await self._scheduler.run()

    async def stop(self) -> None:
        await self._client.close()
