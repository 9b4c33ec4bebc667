"""Scores, fairness, assumption, back-off, preemption; and that nothing is ever overcommitted."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api.errors import Conflict
from cluster.scheduler.cache import Cache, NodeTable
from cluster.scheduler.config import SchedulerConfig
from cluster.scheduler.plugins.noderesources import BalancedAllocation, Fit, Strategy
from cluster.scheduler.shape import Shapes, pod_requests

from .fakes import Bench, node, pod


def table_of(*nodes: Any) -> NodeTable:
    table = NodeTable()
    for each in nodes:
        table.set_node(each)
    return table


def scores(plugin: Any, table: NodeTable, wanted: Any) -> list[int]:
    shape = Shapes().of(wanted)
    mask = np.ones(table.size, np.bool_)
    state: dict[str, Any] = {}
    plugin.pre_score(shape, table, mask, state)
    found = [int(s) for s in plugin.score(shape, table, mask, state)]
    rows = [plugin.score_row(shape, table, state, row) for row in range(table.size)]
    assert found == rows, "the scores of all rows and of each row must agree"
    return found


def test_least_allocated_counts_what_is_left_after_the_pod() -> None:
    table = table_of(node("a", cpu="4", memory="10000"), node("b", cpu="6", memory="10000"))
    wanted = pod("p", cpu="3", memory="5000")
    # (4000-3000)/4000 = 25, (10000-5000)/10000 = 50; (6000-3000)/6000 = 50, 50
    assert scores(Fit(), table, wanted) == [37, 50]


def test_most_allocated_prefers_the_fuller_node() -> None:
    table = table_of(node("a", cpu="4", memory="10000"), node("b", cpu="6", memory="10000"))
    wanted = pod("p", cpu="3", memory="5000")
    assert scores(Fit(Strategy("MostAllocated")), table, wanted) == [62, 50]


def test_requested_to_capacity_ratio_follows_its_shape() -> None:
    table = table_of(node("a", cpu="4", memory="10000"), node("b", cpu="6", memory="10000"))
    strategy = Strategy("RequestedToCapacityRatio", points=((0, 0), (100, 10)))
    assert scores(Fit(strategy), table, pod("p", cpu="3", memory="5000")) == [63, 50]


def test_a_container_without_requests_counts_as_100m_and_200mi_in_the_score_only() -> None:
    table = table_of(node("a", cpu="1", memory="1000Mi"))
    assert scores(Fit(), table, pod("p", cpu=None)) == [85]
    assert pod_requests(pod("p", cpu=None)["spec"]) == {}


def test_balanced_allocation_rewards_what_the_pod_brings_into_balance() -> None:
    table = table_of(node("a", cpu="4", memory="10000"), node("b", cpu="6", memory="10000"))
    # a: 0.75 and 0.5 -> 100 * (1 - 0.125) = 87; from 100 without: 50 + (50 + 87 - 100) // 2
    assert scores(BalancedAllocation(), table, pod("p", cpu="3", memory="5000")) == [68, 75]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8),
    st.integers(0, 4000),
    st.integers(0, 10),
)
def test_scores_of_one_row_and_of_all_rows_agree(
    sizes: list[tuple[int, int]], cpu: int, memory: int
) -> None:
    table = table_of(
        *(node(f"n{i}", cpu=str(c), memory=f"{m}Gi") for i, (c, m) in enumerate(sizes))
    )
    wanted = pod("p", cpu=f"{cpu}m", memory=f"{memory}Gi")
    for plugin in (
        Fit(),
        Fit(Strategy("MostAllocated")),
        Fit(Strategy("RequestedToCapacityRatio", points=((0, 10), (40, 3), (100, 0)))),
        BalancedAllocation(),
    ):
        scores(plugin, table, wanted)


def test_sidecars_count_with_containers_and_with_later_init_containers() -> None:
    def container(cpu: str, restart: str = "") -> dict[str, Any]:
        body: dict[str, Any] = {"resources": {"requests": {"cpu": cpu}}}
        return {**body, "restartPolicy": restart} if restart else body

    spec = {
        "initContainers": [container("4"), container("1", "Always"), container("3")],
        "containers": [container("1"), container("500m")],
        "overhead": {"cpu": "250m"},
    }
    # init: max(4, 1 + 3) = 4; running: 1 + 0.5 + 1 = 2.5
    assert pod_requests(spec) == {"cpu": 4250}


def test_equal_nodes_get_their_share_and_ties_fall_by_chance() -> None:
    async def go(seed: int) -> dict[str, str]:
        bench = Bench(seed=seed)
        bench.nodes(*(node(f"n{i}") for i in range(10)))
        return await bench.schedule(*(pod(f"p{i}") for i in range(100)))

    first, second = asyncio.run(go(1)), asyncio.run(go(2))
    assert set(Counter(first.values()).values()) == {10}
    assert first != second
    assert first == asyncio.run(go(1)), "the same seed gives the same placement"


def test_pods_of_a_replica_set_are_spread_over_hosts_and_zones_by_default() -> None:
    async def go() -> dict[str, str]:
        bench = Bench()
        zone = "topology.kubernetes.io/zone"
        bench.nodes(*(node(f"n{i}", cpu="64", labels={zone: f"z{i % 3}"}) for i in range(9)))
        selector = {"matchLabels": {"app": "web"}}
        meta = {"name": "web", "namespace": "default"}
        bench.scheduler.owners.replicasets.replace(
            [{"metadata": meta, "spec": {"selector": selector}}], "1"
        )
        pods = [pod(f"p{i}", cpu="10m", labels={"app": "web"}) for i in range(45)]
        for each in pods:
            reference = {"kind": "ReplicaSet", "name": "web", "controller": True}
            each["metadata"]["ownerReferences"] = [reference]
        return await bench.schedule(*pods)

    counts = Counter(asyncio.run(go()).values())
    assert len(counts) == 9
    assert max(counts.values()) - min(counts.values()) <= 2, counts


def test_following_single_rows_gives_what_looking_at_all_anew_gives() -> None:
    """The kept run and a fresh one must score alike after placements and removals."""

    async def go() -> None:
        bench = Bench()
        bench.nodes(*(node(f"n{i}", cpu="2", labels={"zone": f"z{i % 2}"}) for i in range(6)))
        soft = [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"app": "web"}},
            }
            for key in ("kubernetes.io/hostname", "zone")
        ]
        scheduler = bench.scheduler
        rng = random.Random(3)
        for number in range(60):
            wanted = pod(
                f"p{number}", cpu="150m", labels={"app": "web"}, topologySpreadConstraints=soft
            )
            await bench.schedule(wanted)
            if number % 5 == 4 and scheduler.cache.pods:
                gone = scheduler.cache.pods[rng.choice(sorted(scheduler.cache.pods))]
                on = {**gone.obj, "spec": {**gone.obj["spec"], "nodeName": gone.node}}
                scheduler.events.handle_pods([(on, None)])
                await bench.settle()
            kept = scheduler._current_run(
                scheduler.profiles["default-scheduler"], scheduler.cache.shapes.of(wanted)
            )
            fresh = scheduler._run_of(scheduler.cache.shapes.of(wanted))
            assert kept._total.tolist() == fresh._total.tolist(), number

    asyncio.run(go())


def test_higher_priority_goes_first() -> None:
    async def go() -> dict[str, str]:
        bench = Bench()
        bench.nodes(node("a", cpu="1"))
        return await bench.schedule(pod("low", cpu="1"), pod("high", cpu="1", priority=9))

    assert [*asyncio.run(go())] == ["high"]


def test_a_pod_that_could_not_be_placed_is_tried_when_a_node_that_fits_comes() -> None:
    async def go() -> None:
        bench = Bench()
        bench.nodes(node("a", cpu="1"))
        await bench.schedule(pod("p", cpu="2"))
        bench.nodes(node("b", cpu="1"))
        assert bench.scheduler.queue.pending()["unschedulable"] == 1, "b is too small to help"
        bench.nodes(node("c", cpu="2"))
        await bench.settle()
        assert bench.server.bindings() == {"p": "c"}

    asyncio.run(go())


def test_a_pod_that_could_not_be_placed_is_tried_when_another_goes() -> None:
    async def go() -> None:
        bench = Bench()
        bench.nodes(node("a", cpu="1"))
        running = pod("r", cpu="1", on="a")
        bench.pods(running)
        await bench.schedule(pod("p", cpu="1"))
        bench.scheduler.events.handle_pods([(running, None)])
        await bench.settle()
        assert bench.server.bindings() == {"p": "a"}

    asyncio.run(go())


def test_a_departure_that_frees_too_little_moves_nobody() -> None:
    async def go() -> None:
        bench = Bench()
        bench.nodes(node("a", cpu="1"))
        small, large = pod("s", cpu="200m", on="a"), pod("l", cpu="800m", on="a")
        bench.pods(small, large)
        await bench.schedule(*(pod(f"p{i}", cpu="500m") for i in range(100)))
        assert bench.scheduler.queue.pending()["unschedulable"] == 100
        bench.scheduler.events.handle_pods([(small, None)])
        assert bench.scheduler.queue.pending()["unschedulable"] == 100
        bench.scheduler.events.handle_pods([(large, None)])
        assert bench.scheduler.queue.pending()["backoff"] == 100, "too many to go early"
        bench.clock.time += 2
        bench.scheduler.queue.flush(bench.clock.time)
        await bench.settle()
        assert len(bench.server.bindings()) == 2

    asyncio.run(go())


def test_a_gated_pod_waits_for_its_gates() -> None:
    async def go() -> None:
        bench = Bench()
        bench.nodes(node("a"))
        gated = pod("p", schedulingGates=[{"name": "wait"}])
        await bench.schedule(gated)
        assert bench.server.items == []
        assert bench.scheduler.queue.pending()["gated"] == 1
        bench.scheduler.events.handle_pods([(gated, pod("p"))])
        await bench.settle()
        assert bench.server.bindings() == {"p": "a"}

    asyncio.run(go())


def test_a_refused_binding_frees_the_node_and_is_tried_again_after_a_second() -> None:
    async def go() -> None:
        bench = Bench()
        bench.nodes(node("a", cpu="1"))
        path = "/api/v1/namespaces/default/pods/p/binding"
        bench.server.refuse[path] = Conflict("no").to_status()
        await bench.schedule(pod("p", cpu="1"))
        assert bench.scheduler.cache.pods == {}
        (message,) = bench.server.events("FailedScheduling")
        assert message == 'binding rejected: running Bind plugin "DefaultBinder": no'
        bench.server.refuse.clear()
        bench.server.items.clear()
        await bench.settle()
        assert bench.server.bindings() == {}
        bench.clock.time += 1.01
        bench.scheduler.queue.flush(bench.clock.time)
        await bench.settle()
        assert bench.server.bindings() == {"p": "a"}

    asyncio.run(go())


def test_a_pod_being_deleted_is_not_scheduled() -> None:
    async def go() -> None:
        bench = Bench()
        bench.nodes(node("a"))
        going = pod("p")
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        await bench.schedule(going)
        assert bench.server.bindings() == {}
        assert bench.server.events("FailedScheduling") == ["skip schedule deleting pod: default/p"]

    asyncio.run(go())


def test_another_schedulers_pods_are_left_alone_but_counted_once_placed() -> None:
    async def go() -> None:
        bench = Bench()
        bench.nodes(node("a", cpu="1"))
        other = pod("o", cpu="1", schedulerName="mine")
        assert await bench.schedule(other) == {}
        bench.scheduler.events.handle_pods(
            [(other, pod("o", cpu="1", schedulerName="mine", on="a"))]
        )
        await bench.schedule(pod("p", cpu="1"))
        assert bench.server.bindings() == {}

    asyncio.run(go())


def test_preemption_takes_the_least_important_victims_that_suffice() -> None:
    async def go() -> None:
        bench = Bench()
        bench.nodes(node("a", cpu="1"), node("b", cpu="1"))
        bench.pods(
            pod("a1", cpu="500m", on="a", priority=3),
            pod("a2", cpu="500m", on="a", priority=1),
            pod("b1", cpu="1", on="b", priority=2),
        )
        await bench.schedule(pod("p", cpu="500m", priority=9))
        assert bench.server.deletes() == ["a2"]
        patches = bench.server.patches("/p/status")
        assert patches[0]["status"]["nominatedNodeName"] == "a"
        assert bench.server.events("Preempted") == ["Preempted by pod uid-p on node a"]
        assert len(bench.scheduler.cache.pods) == 3, "the dry run left no trace"

    asyncio.run(go())


def test_room_made_by_preemption_is_kept_for_the_pod_it_was_made_for() -> None:
    async def go() -> None:
        bench = Bench()
        bench.nodes(node("a", cpu="1"))
        victim = pod("v", cpu="1", on="a")
        bench.pods(victim)
        waiting = pod("p", cpu="1", priority=9)
        await bench.schedule(waiting)
        nominated = {**waiting, "status": {"phase": "Pending", "nominatedNodeName": "a"}}
        bench.scheduler.events.handle_pods([(waiting, nominated)])
        bench.scheduler.queue.activate("default/nobody")
        bench.scheduler.cache.remove_pod("default/v")
        assert await bench.schedule(pod("late", cpu="1")) == {}
        bench.scheduler.events.handle_pods([(victim, None)])
        bench.scheduler.queue.activate("default/p")
        await bench.settle()
        assert bench.server.bindings() == {"p": "a"}

    asyncio.run(go())


def test_an_assumption_that_is_never_seen_expires_when_told_to() -> None:
    cache = Cache(Shapes(), assumed_seconds=30)
    cache.nodes.set_node(node("a"))
    info = cache.info(pod("p"))
    cache.assume(info, "a")
    assert cache.expire(1e9) == [], "a binding in flight does not expire"
    cache.finish_binding(info.key, 100)
    assert cache.expire(129) == []
    assert cache.expire(131) == [info]
    assert not cache.pods


def test_a_configuration_can_pack_nodes_full() -> None:
    config = SchedulerConfig.from_dict(
        {
            "kind": "KubeSchedulerConfiguration",
            "profiles": [
                {
                    "schedulerName": "default-scheduler",
                    "plugins": {
                        "multiPoint": {"disabled": [{"name": "NodeResourcesBalancedAllocation"}]}
                    },
                    "pluginConfig": [
                        {
                            "name": "NodeResourcesFit",
                            "args": {"scoringStrategy": {"type": "MostAllocated"}},
                        }
                    ],
                }
            ],
        }
    )

    async def go() -> dict[str, str]:
        bench = Bench(config)
        bench.nodes(*(node(f"n{i}") for i in range(5)))
        return await bench.schedule(*(pod(f"p{i}") for i in range(20)))

    assert len(set(asyncio.run(go()).values())) == 1


steps = st.lists(
    st.one_of(
        st.tuples(st.just("pods"), st.integers(1, 8), st.integers(0, 1500), st.integers(0, 3)),
        st.tuples(st.just("remove"), st.integers(0, 50), st.just(0), st.just(0)),
        st.tuples(st.just("node"), st.integers(0, 7), st.integers(0, 4000), st.just(0)),
        st.tuples(st.just("unnode"), st.integers(0, 7), st.just(0), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(steps, st.integers(0, 10))
def test_no_node_is_ever_overcommitted(plan: list[tuple[str, int, int, int]], seed: int) -> None:
    """A naive ledger of what was bound where, against capacities at the time of binding."""

    async def go() -> None:
        bench = Bench(seed=seed)
        rng = random.Random(seed)
        nodes: dict[str, Any] = {}
        bound: dict[str, tuple[str, int]] = {}
        made = 0
        for action, number, amount, port in plan:
            if action == "node":
                name = f"n{number}"
                used = sum(cpu for where, cpu in bound.values() if where == name)
                fresh = node(name, cpu=f"{max(amount, used)}m", pods=5)
                bench.scheduler.events.handle_nodes([(nodes.get(name), fresh)])
                nodes[name] = fresh
            elif action == "unnode" and f"n{number}" in nodes:
                bench.scheduler.events.handle_nodes([(nodes.pop(f"n{number}"), None)])
            elif action == "remove" and bound:
                key = rng.choice(sorted(bound))
                where, cpu = bound.pop(key)
                bench.scheduler.events.handle_pods([(pod(key, cpu=f"{cpu}m", on=where), None)])
            elif action == "pods":
                extra = {"host_port": 80 + port} if port else {}
                fresh_pods = [pod(f"p{made + i}", cpu=f"{amount}m", **extra) for i in range(number)]
                made += number
                bench.pods(*fresh_pods)
            await bench.settle()
            for name, where in bench.server.bindings().items():
                if name not in bound and f"default/{name}" in bench.scheduler.cache.pods:
                    asked = bench.scheduler.cache.pods[f"default/{name}"].shape.requests
                    bound[name] = (where, asked.get("cpu", 0))
            for name, each in nodes.items():
                used = [cpu for where, cpu in bound.values() if where == name]
                capacity = int(each["status"]["allocatable"]["cpu"].rstrip("m"))
                assert sum(used) <= capacity, f"{name} is overcommitted"
                assert len(used) <= 5, f"{name} has too many pods"
            check_columns(bench)

    asyncio.run(go())


def check_columns(bench: Bench) -> None:
    """The columns are what the pods on each row add up to."""
    table = bench.scheduler.cache.nodes
    for row, entry in enumerate(table.rows):
        if entry is not None:
            pods = entry.pods.values()
            assert table.requested[0, row] == sum(p.shape.requests.get("cpu", 0) for p in pods)
            assert table.requested[3, row] == len(entry.pods)
            ports = [port for p in pods for port in p.shape.host_ports]
            assert len(ports) == len(set(ports)), "a host port was given twice"
