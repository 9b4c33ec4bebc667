"""The scheduler as a client: a real API server over real HTTP, under the scheduler's own
identity."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from cluster.api.meta import EVENTS, NODES, PODS, SERVICEACCOUNTS, SystemClock
from cluster.apiserver.config import ApiServerConfig
from cluster.apiserver.server import ApiServer
from cluster.client import Client, ClientConfig, EventRecorder
from cluster.etcd import SqliteStore
from cluster.metrics.apiserver import ApiServerMetrics
from cluster.metrics.etcd import StoreMetrics
from cluster.metrics.scheduler import SchedulerMetrics
from cluster.scheduler import Scheduler, SchedulerConfig

from .fakes import node, pod

TOKENS = 'admin,admin,1,"system:masters"\nscheduler,system:kube-scheduler,2\n'


@dataclass
class World:
    url: str
    admin: Client

    def scheduler(self) -> tuple[Scheduler, Client]:
        clock = SystemClock()
        client = ClientConfig(self.url, token="scheduler").connect()
        recorder = EventRecorder(
            client, "default-scheduler", "", clock, lambda: str(uuid.uuid4()), new_style=True
        )
        metrics = SchedulerMetrics(CollectorRegistry())
        config = SchedulerConfig(initial_backoff_seconds=0.01)
        return Scheduler(client, config, clock, random.Random(1), recorder, metrics), client

    async def create_pod(self, name: str, **wanted: Any) -> None:
        body = pod(name, **wanted)
        del body["metadata"]["uid"], body["status"]
        await self.admin.create(PODS, body)

    async def add_node(self, name: str, **what: Any) -> None:
        """Ready at once: admission taints a new node until its kubelet says so."""
        await self.admin.create(NODES, node(name, **what))
        await self.admin.patch(NODES, name, {"spec": {"taints": None}})

    async def node_of(self, name: str) -> str:
        found = await self.admin.get(PODS, name, "default")
        return str(found["spec"].get("nodeName", ""))


@asynccontextmanager
async def world(tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "tokens.csv").write_text(TOKENS)
    registry, clock = CollectorRegistry(), SystemClock()
    store = await SqliteStore.open(tmp_path / "db", clock, StoreMetrics(registry))
    server = ApiServer(
        ApiServerConfig(token_file=str(tmp_path / "tokens.csv")), store, clock, random.Random(1),
        lambda: str(uuid.uuid4()), ApiServerMetrics(registry),
    )  # fmt: skip
    await server.start()
    admin = ClientConfig(server.url, token="admin").connect()
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await admin.create(SERVICEACCOUNTS, account, "default")
    try:
        yield World(server.url, admin)
    finally:
        await admin.close()
        await server.stop(0)
        await store.close()


@asynccontextmanager
async def scheduling(world: World) -> AsyncIterator[Scheduler]:
    scheduler, client = world.scheduler()
    task = asyncio.ensure_future(scheduler.run())
    try:
        yield scheduler
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await check():  # noqa: ASYNC110 - what another component writes
            await asyncio.sleep(0.01)


def test_pods_are_bound_refused_retried_and_a_new_scheduler_goes_on(tmp_path: Path) -> None:
    async def go() -> None:
        async with world(tmp_path) as w:
            await w.add_node("a", cpu="1")
            async with scheduling(w):
                await w.create_pod("first", cpu="600m")

                async def bound() -> bool:
                    return await w.node_of("first") == "a"

                await until(bound)
                await w.create_pod("second", cpu="600m")

                async def refused() -> bool:
                    found = (await w.admin.get(PODS, "second", "default"))["status"]
                    return any(
                        c["type"] == "PodScheduled" and c["reason"] == "Unschedulable"
                        for c in found.get("conditions", ())
                    )

                await until(refused)
                await w.add_node("b", cpu="1")

                async def elsewhere() -> bool:
                    return await w.node_of("second") == "b"

                await until(elsewhere)
            async with scheduling(w):
                await w.create_pod("third", cpu="600m")
                await w.create_pod("small", cpu="300m")

                async def small_bound() -> bool:
                    return bool(await w.node_of("small"))

                await until(small_bound)
                assert await w.node_of("third") == "", "what ran before is still counted"

                async def told() -> bool:
                    events = (await w.admin.list(EVENTS, "default")).items
                    reasons = {(e["involvedObject"]["name"], e["reason"]) for e in events}
                    return {("first", "Scheduled"), ("third", "FailedScheduling")} <= reasons

                await until(told)

    asyncio.run(go())


def test_a_more_important_pod_takes_the_place_of_a_lesser_one(tmp_path: Path) -> None:
    async def go() -> None:
        async with world(tmp_path) as w:
            await w.add_node("a", cpu="1")
            classes = NODES._replace(group="scheduling.k8s.io", plural="priorityclasses")
            await w.admin.create(
                classes,
                {
                    "apiVersion": "scheduling.k8s.io/v1",
                    "kind": "PriorityClass",
                    "metadata": {"name": "high"},
                    "value": 1000,
                },
            )
            async with scheduling(w):
                await w.create_pod("low", cpu="1")

                async def bound() -> bool:
                    return await w.node_of("low") == "a"

                await until(bound)
                await w.create_pod("high", cpu="1", priorityClassName="high")

                async def leaving() -> bool:
                    low = await w.admin.get(PODS, "low", "default")
                    high = await w.admin.get(PODS, "high", "default")
                    return (
                        "deletionTimestamp" in low["metadata"]
                        and high["status"].get("nominatedNodeName") == "a"
                    )

                await until(leaving)
                await w.admin.delete(PODS, "low", "default", grace_seconds=0)

                async def taken() -> bool:
                    return await w.node_of("high") == "a"

                await until(taken)

    asyncio.run(go())
