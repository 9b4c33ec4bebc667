"""Work queue, event recorder and leader election."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from cluster.api.errors import Conflict, NotFound
from cluster.client import (
    Batcher,
    Client,
    EventRecorder,
    LeaderElector,
    ShutDown,
    WorkQueue,
    reconcile_one,
    run_workers,
)
from cluster.client.workqueue import RateLimiter
from cluster.metrics.client import WorkQueueMetrics

from .fakes import FakeClock, FakeTransport, accept

POD = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"name": "p", "namespace": "default", "uid": "u", "resourceVersion": "3"},
}


def test_a_key_is_queued_once_and_again_only_after_it_is_done() -> None:
    queue = WorkQueue("q", FakeClock())
    queue.add("a")
    queue.add("a")
    assert len(queue) == 1
    assert queue.get_nowait() == "a"
    queue.add("a")
    assert len(queue) == 0, "never two workers at one key"
    queue.done("a")
    assert queue.get_nowait() == "a"


def test_back_off_doubles_from_5_ms_to_1000_s_and_is_forgotten() -> None:
    limiter = RateLimiter(FakeClock())
    waits = [limiter.when("a") for _ in range(20)]
    assert waits[:4] == [0.005, 0.01, 0.02, 0.04]
    assert waits[-1] == 1000.0
    assert limiter.num_requeues("a") == 20
    limiter.forget("a")
    assert limiter.when("a") == 0.005


def test_beyond_a_burst_of_100_all_keys_share_10_a_second() -> None:
    limiter = RateLimiter(FakeClock())
    waits = [limiter.when(f"k{i}") for i in range(103)]
    assert waits[99] == 0.005
    assert waits[100:] == pytest.approx([0.1, 0.2, 0.3])


def test_of_several_delays_the_soonest_counts() -> None:
    async def go() -> None:
        clock = FakeClock()
        queue = WorkQueue("q", clock)
        queue.add_after("a", 0.03)
        queue.add_after("a", 0.01)
        queue.add_after("a", 0.02)
        clock.time += 0.01
        assert await asyncio.wait_for(queue.get(), 5) == "a"
        queue.done("a")
        assert queue.idle

    asyncio.run(go())


def test_a_failed_key_comes_back_a_good_one_is_forgotten_a_number_comes_later() -> None:
    async def go() -> None:
        queue = WorkQueue("q", FakeClock())

        async def fails(key: str) -> float | None:
            raise Conflict("again")

        async def later(key: str) -> float | None:
            return 60.0

        for reconcile, requeues in ((fails, 1), (fails, 2), (later, 0)):
            queue.add("a")
            await reconcile_one(queue, reconcile, queue.get_nowait())
            assert queue.num_requeues("a") == requeues
        assert not queue.idle
        queue.shut_down()

    asyncio.run(go())


def test_workers_empty_the_queue_and_end_at_shut_down() -> None:
    async def go() -> set[str]:
        queue = WorkQueue("q", FakeClock())
        seen: set[str] = set()

        async def reconcile(key: str) -> None:
            await asyncio.sleep(0)
            seen.add(key)

        for number in range(50):
            queue.add(str(number))
        queue.shut_down()
        await run_workers(queue, reconcile, 4)
        with pytest.raises(ShutDown):
            await queue.get()
        return seen

    assert len(asyncio.run(go())) == 50


def test_a_cancelled_getter_hands_its_wake_up_on() -> None:
    async def go() -> None:
        queue = WorkQueue("q", FakeClock())
        first = asyncio.ensure_future(queue.get())
        second = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        queue.add("a")
        first.cancel()
        assert await asyncio.wait_for(second, 5) == "a"

    asyncio.run(go())


def test_the_queues_metrics_have_client_gos_names() -> None:
    registry = CollectorRegistry()
    clock = FakeClock()
    queue = WorkQueue("replicaset", clock, WorkQueueMetrics(registry))
    queue.add("a")
    queue.add("b")
    labels = {"name": "replicaset"}
    assert registry.get_sample_value("workqueue_depth", labels) == 2
    assert registry.get_sample_value("workqueue_adds_total", labels) == 2
    clock.time += 2
    queue.get_nowait()
    clock.time += 3
    assert registry.get_sample_value("workqueue_unfinished_work_seconds", labels) == 3
    assert registry.get_sample_value("workqueue_queue_duration_seconds_sum", labels) == 2


class Recorded:
    """A recorder and what it wrote."""

    def __init__(self, *, new_style: bool = False) -> None:
        self.transport = FakeTransport(accept)
        self.clock = FakeClock()
        client = Client(self.transport, batcher=Batcher(self.transport))
        self.recorder = EventRecorder(
            client, "kubelet", "node-1", self.clock, lambda: "u", new_style=new_style
        )

    async def written(self) -> list[Any]:
        await self.recorder.flush()
        return [item for _, _, body in self.transport.requests for item in body]


def test_an_event_is_written_as_client_go_writes_it() -> None:
    async def go() -> Any:
        recorded = Recorded()
        recorded.recorder.event(POD, "Normal", "Started", "go", field_path="spec.containers{c}")
        (item,) = await recorded.written()
        return item

    item = asyncio.run(go())
    event = item["b"]
    assert item["p"] == "/api/v1/namespaces/default/events"
    assert event["metadata"].pop("name").startswith("p.")
    assert event == {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {"namespace": "default"},
        "involvedObject": {
            "kind": "Pod",
            "name": "p",
            "namespace": "default",
            "uid": "u",
            "apiVersion": "v1",
            "resourceVersion": "3",
            "fieldPath": "spec.containers{c}",
        },
        "reason": "Started",
        "message": "go",
        "type": "Normal",
        "reportingComponent": "kubelet",
        "reportingInstance": "node-1",
        "source": {"component": "kubelet", "host": "node-1"},
        "firstTimestamp": "2026-01-02T03:04:05Z",
        "lastTimestamp": "2026-01-02T03:04:05Z",
        "count": 1,
    }


def test_a_repeated_event_counts_onto_the_first() -> None:
    async def go() -> list[Any]:
        recorded = Recorded()
        for _ in range(3):
            recorded.recorder.event(POD, "Warning", "BackOff", "again")
            recorded.clock.time += 10
        return await recorded.written()

    first, *repeats = asyncio.run(go())
    assert [i["m"] for i in (first, *repeats)] == ["POST", "PATCH", "PATCH"]
    assert [i["b"]["count"] for i in repeats] == [2, 3]
    assert all(i["p"].endswith(first["b"]["metadata"]["name"]) for i in repeats)


def test_many_similar_events_are_combined_and_a_flood_is_dropped() -> None:
    async def go() -> list[Any]:
        recorded = Recorded()
        for number in range(40):
            recorded.recorder.event(POD, "Warning", "Unhealthy", f"probe {number} failed")
        return await recorded.written()

    items = asyncio.run(go())
    assert len(items) == 25, "a burst of 25 an object"
    assert [i["m"] for i in items].count("POST") == 10
    assert items[10]["b"]["message"] == "(combined from similar events): probe 10 failed"


def test_a_count_onto_an_event_that_expired_writes_it_anew() -> None:
    async def go() -> list[str]:
        recorded = Recorded()
        recorded.recorder.event(POD, "Normal", "Pulled", "x")
        await recorded.recorder.flush()
        missing = NotFound("gone").to_status()

        def respond(method: str, path: str, body: Any) -> tuple[int, Any]:
            answers = [{"s": 404, "b": missing} if i["m"] == "PATCH" else {"s": 201} for i in body]
            return 200, answers

        recorded.transport.respond = respond
        recorded.recorder.event(POD, "Normal", "Pulled", "x")
        return [i["m"] for i in await recorded.written()]

    assert asyncio.run(go()) == ["POST", "PATCH", "POST"]


def test_the_new_style_has_an_action_and_a_series_instead_of_a_count() -> None:
    async def go() -> list[Any]:
        recorded = Recorded(new_style=True)
        for _ in range(2):
            recorded.recorder.event(POD, "Normal", "Scheduled", "to n", action="Binding")
        return [i["b"] for i in await recorded.written()]

    event, patch = asyncio.run(go())
    assert (event["action"], event["reportingInstance"]) == ("Binding", "kubelet-node-1")
    assert event["eventTime"] == "2026-01-02T03:04:05.000000Z"
    assert "count" not in event
    assert patch == {"series": {"count": 2, "lastObservedTime": "2026-01-02T03:04:05.000000Z"}}


class Leases:
    """An API server with leases only."""

    def __init__(self) -> None:
        self.stored: Any = None
        self.version = 0

    def respond(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "GET":
            return (200, self.stored) if self.stored else (404, NotFound("no").to_status())
        if method == "PUT" and body["metadata"]["resourceVersion"] != str(self.version):
            return 409, Conflict("changed").to_status()
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.stored = body
        return 201, body


def test_one_candidate_leads_and_another_takes_over_when_it_falls_silent() -> None:
    async def go() -> None:
        server, clock = Leases(), FakeClock()
        one, two = (
            LeaderElector(Client(FakeTransport(server.respond)), "scheduler", name, clock)
            for name in ("one", "two")
        )
        assert await one.try_once()
        assert not await two.try_once()
        clock.time += 14
        assert await one.try_once(), "renewed"
        assert not await two.try_once()
        clock.time += 16
        assert await two.try_once()
        assert server.stored["spec"]["leaseTransitions"] == 1
        assert not await one.try_once()
        await two.release()
        assert await one.try_once(), "a released lease is free at once"

    asyncio.run(go())


def test_leading_ends_with_what_is_led_and_the_lease_is_released() -> None:
    async def go() -> None:
        server = Leases()
        elector = LeaderElector(Client(FakeTransport(server.respond)), "x", "me", FakeClock())

        async def lead() -> None:
            assert elector.leading

        await elector.run(lead)
        assert server.stored["spec"]["holderIdentity"] == ""

    asyncio.run(go())
