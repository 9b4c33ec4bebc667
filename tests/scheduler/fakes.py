"""An API server that is a dict, a clock moved by hand, and short ways to write nodes and pods."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from cluster.api.meta import Object
from cluster.client import Answer, Batcher, Client, EventRecorder
from cluster.metrics.scheduler import SchedulerMetrics
from cluster.scheduler import Scheduler, SchedulerConfig


class FakeClock:
    def __init__(self) -> None:
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class FakeServer:
    """Takes batches, remembers every item, answers with what `refuse` says (path -> Status)."""

    host = "fake"

    def __init__(self) -> None:
        self.items: list[Object] = []
        self.refuse: dict[str, Object] = {}

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        assert path == "/apis/kubestage.io/v1/batch", path
        results = []
        for item in orjson.loads(body or b"[]"):
            self.items.append(item)
            status = self.refuse.get(item["p"])
            results.append({"s": status["code"], "b": status} if status else {"s": 201})
        return Answer(200, {}, orjson.dumps(results))

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        raise AssertionError("no watch in this test")
        yield

    async def close(self) -> None:
        pass

    def bindings(self) -> dict[str, str]:
        """Pod name -> node, of every binding that was sent."""
        return {
            item["b"]["metadata"]["name"]: item["b"]["target"]["name"]
            for item in self.items
            if item["p"].endswith("/binding")
        }

    def events(self, reason: str) -> list[str]:
        return [
            item["b"]["message"]
            for item in self.items
            if item["p"].endswith("/events") and item["b"]["reason"] == reason
        ]

    def patches(self, suffix: str) -> list[Object]:
        return [i["b"] for i in self.items if i["m"] == "PATCH" and i["p"].endswith(suffix)]

    def deletes(self) -> list[str]:
        return [item["p"].rpartition("/")[2] for item in self.items if item["m"] == "DELETE"]


class Bench:
    """A scheduler with its world."""

    def __init__(self, config: SchedulerConfig | None = None, seed: int = 1) -> None:
        self.server = FakeServer()
        self.clock = FakeClock()
        self.client = Client(self.server, batcher=Batcher(self.server))
        self.registry = CollectorRegistry()
        uids = iter(range(10**9))
        recorder = EventRecorder(
            self.client, "default-scheduler", "h", self.clock, lambda: str(next(uids)),
            new_style=True,
        )  # fmt: skip
        self.scheduler = Scheduler(
            self.client, config or SchedulerConfig(), self.clock, random.Random(seed), recorder,
            SchedulerMetrics(self.registry),
        )  # fmt: skip

    def nodes(self, *nodes: Object) -> None:
        self.scheduler.events.handle_nodes([(None, n) for n in nodes])

    def pods(self, *pods: Object) -> None:
        self.scheduler.events.handle_pods([(None, p) for p in pods])

    async def settle(self) -> None:
        """Schedule all that is ready and let what was sent be answered."""
        while self.scheduler.queue.has_ready:
            self.scheduler.schedule_run()
        for _ in range(12):
            await asyncio.sleep(0)

    async def schedule(self, *pods: Object) -> dict[str, str]:
        self.pods(*pods)
        await self.settle()
        return self.server.bindings()


def node(
    name: str,
    *,
    cpu: str = "4",
    memory: str = "8Gi",
    pods: int = 110,
    labels: Mapping[str, str] | None = None,
    taints: Sequence[Mapping[str, str]] = (),
    unschedulable: bool = False,
    images: Mapping[str, int] | None = None,
    **allocatable: str,
) -> Object:
    spec: dict[str, Any] = {}
    if taints:
        spec["taints"] = [*taints]
    if unschedulable:
        spec["unschedulable"] = True
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "pods": str(pods), **allocatable},
            "images": [{"names": [n], "sizeBytes": s} for n, s in (images or {}).items()],
        },
    }


def pod(
    name: str,
    *,
    cpu: str | None = "100m",
    memory: str | None = None,
    namespace: str = "default",
    on: str = "",
    labels: Mapping[str, str] | None = None,
    requests: Mapping[str, str] | None = None,
    status: Mapping[str, Any] | None = None,
    **spec: Any,
) -> Object:
    wanted = {"cpu": cpu, "memory": memory, **(requests or {})}
    resources = {"requests": {k: v for k, v in wanted.items() if v is not None}}
    container: dict[str, Any] = {"name": "c", "image": "nginx", "resources": resources}
    if "host_port" in spec:
        container["ports"] = [{"containerPort": 80, "hostPort": spec.pop("host_port")}]
    body: dict[str, Any] = {"schedulerName": "default-scheduler", "containers": [container], **spec}
    if on:
        body["nodeName"] = on
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace, "uid": f"uid-{name}",
            "labels": {**(labels or {})},
        },
        "spec": body,
        "status": {"phase": "Pending", **(status or {})},
    }  # fmt: skip
