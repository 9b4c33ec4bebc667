"""A controller manager on a small API in memory, with a clock that tests move."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest
from prometheus_client import CollectorRegistry

from cluster.api.meta import Object, rfc3339
from cluster.client import Batcher, Client
from cluster.controllers.context import ControllerConfig
from cluster.controllers.manager import ControllerManager
from cluster.metrics.controllers import ControllerMetrics
from tests.controllers.fake_api import FakeApi


class TestClock:
    """Wall time that stands still until told; monotonic time is the loop's own."""

    __test__ = False

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.time = now
        self.offset = 0.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self.offset

    def advance(self, seconds: float) -> None:
        self.time += seconds
        self.offset += seconds


class Cluster:
    """The API, the clock and a running manager."""

    def __init__(self, api: FakeApi, clock: TestClock, manager: ControllerManager) -> None:
        self.api = api
        self.clock = clock
        self.manager = manager

    async def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        """Let the controllers work until `condition()` holds."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  the API in memory has nothing to wait on
                await asyncio.sleep(0.002)

    async def settle(self, seconds: float = 0.15) -> None:
        """Let the controllers come to rest."""
        before = -1
        while before != self.api.version:
            before = self.api.version
            await asyncio.sleep(seconds)


Run = Callable[..., "asyncio.AbstractServer"]


@pytest.fixture
def running() -> Callable[..., object]:
    """`async with running(config...) as cluster`."""

    @asynccontextmanager
    async def start(api: FakeApi | None = None, **settings: object) -> AsyncIterator[Cluster]:
        api = api or FakeApi()
        clock = TestClock(api.now)
        client = Client(api, batcher=Batcher(api))
        serial = itertools.count(1)
        manager = ControllerManager(
            client,
            ControllerConfig(
                **{"status_batch_period": 0.01, "endpoint_batch_period": 0.01, **settings}
            ),  # type: ignore[arg-type]
            clock,
            Random(1),
            lambda: f"new-{next(serial)}",
            ControllerMetrics(CollectorRegistry()),
        )
        task = asyncio.create_task(manager.run())
        await asyncio.sleep(0)
        await manager.wait_synced()
        try:
            yield Cluster(api, clock, manager)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return start


def make_ready(cluster: Cluster, pod: Object, ip: str = "10.0.0.1", node: str = "n1") -> None:
    """What scheduler and kubelet would do to a pod."""
    from cluster.api.meta import PODS

    meta = pod["metadata"]
    status = {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(cluster.api.now)}
        ],
    }
    key = f"{meta['namespace']}/{meta['name']}"
    cluster.api.change(PODS, key, status=status, spec={**pod["spec"], "nodeName": node})
