"""Golden verdicts: what a pod that fits nowhere is told, in upstream's words."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .fakes import Bench, node, pod

HOST = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
NOT_HELPFUL = "preemption: 0/{n} nodes are available: {n} Preemption is not helpful for scheduling."
TAINT = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}
WEB = {"labelSelector": {"matchLabels": {"app": "web"}}}


def term(topology: str) -> dict[str, Any]:
    return {"topologyKey": topology, **WEB}


def required(kind: str, *terms: dict[str, Any]) -> dict[str, Any]:
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [*terms]}}


def node_term(key: str, operator: str, *values: str) -> dict[str, Any]:
    terms = [{"matchExpressions": [{"key": key, "operator": operator, "values": [*values]}]}]
    rule = {"nodeSelectorTerms": terms}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": rule}}


def verdict(nodes: list[Any], running: list[Any], wanted: Any) -> str:
    async def go() -> str:
        bench = Bench()
        bench.nodes(*nodes)
        bench.pods(*running)
        await bench.schedule(wanted)
        messages = bench.server.events("FailedScheduling")
        (condition,) = bench.server.patches("/status")[-1]["status"]["conditions"]
        assert condition["type"] == "PodScheduled"
        assert condition["status"] == "False"
        assert condition["reason"] == "Unschedulable"
        assert [condition["message"]] == messages
        return messages[0]

    return asyncio.run(go())


THREE = [node("a", labels={ZONE: "z1"}), node("b", labels={ZONE: "z2"}), node("c")]


@pytest.mark.parametrize(
    ("nodes", "running", "wanted", "message"),
    [
        pytest.param([], [], pod("p"), "no nodes available to schedule pods", id="no nodes"),
        pytest.param(
            [*(node(f"n{i}") for i in range(19)), node("t", taints=[TAINT])],
            [],
            pod("p", cpu="8"),
            "0/20 nodes are available: 1 node(s) had untolerated taint(s), 19 Insufficient cpu. "
            + NOT_HELPFUL.format(n=20),
            id="more than any node has",
        ),
        pytest.param(
            [node("a", cpu="1")],
            [pod("r", cpu="800m", on="a")],
            pod("p", cpu="500m"),
            "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: "
            "1 No preemption victims found for incoming pod.",
            id="taken by equals",
        ),
        pytest.param(
            [node("a", cpu="1", memory="1Gi")],
            [],
            pod("p", cpu="2", memory="2Gi", requests={"nvidia.com/gpu": "1"}),
            "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, "
            "1 Insufficient nvidia.com/gpu. " + NOT_HELPFUL.format(n=1),
            id="several resources of one node",
        ),
        pytest.param(
            [node("a", pods=1)],
            [pod("r", on="a")],
            pod("p"),
            "0/1 nodes are available: 1 Too many pods. preemption: 0/1 nodes are available: "
            "1 No preemption victims found for incoming pod.",
            id="no place for one more pod",
        ),
        pytest.param(
            [node("a", unschedulable=True), node("b")],
            [],
            pod("p", nodeSelector={"disk": "ssd"}),
            "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, "
            "1 node(s) were unschedulable. " + NOT_HELPFUL.format(n=2),
            id="cordoned, and a selector",
        ),
        pytest.param(
            THREE,
            [],
            pod("p", affinity=node_term(ZONE, "In", "z9")),
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. "
            + NOT_HELPFUL.format(n=3),
            id="node affinity",
        ),
        pytest.param(
            [node("a"), node("b")],
            [pod("r", on="a", host_port=80), pod("s", on="b", host_port=80)],
            pod("p", host_port=80),
            "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod "
            "ports. preemption: 0/2 nodes are available: 2 No preemption victims found for "
            "incoming pod.",
            id="host ports",
        ),
        pytest.param(
            THREE,
            [],
            pod("p", affinity=required("podAffinity", term(ZONE))),
            "0/3 nodes are available: 3 node(s) didn't match pod affinity rules. "
            + NOT_HELPFUL.format(n=3),
            id="nobody to be near to",
        ),
        pytest.param(
            THREE[:2],
            [pod("r", on="a", labels={"app": "web"}), pod("s", on="b", labels={"app": "web"})],
            pod("p", affinity=required("podAntiAffinity", term(HOST))),
            "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules. "
            "preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.",
            id="anti-affinity",
        ),
        pytest.param(
            THREE[:1],
            [pod("r", on="a", affinity=required("podAntiAffinity", term(HOST)))],
            pod("p", labels={"app": "web"}),
            "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules. "
            "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
            id="unwanted by who runs there",
        ),
        pytest.param(
            [node("c"), node("a", labels={ZONE: "z1"}), node("b", labels={ZONE: "z2"}, cpu="1m")],
            [pod("r", on="a", labels={"app": "web"})],
            pod(
                "p",
                labels={"app": "web"},
                topologySpreadConstraints=[
                    {"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", **term(ZONE)}
                ],
            ),
            "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology "
            "spread constraints, 1 node(s) didn't match pod topology spread constraints (missing "
            "required label). preemption: 0/3 nodes are available: 1 No preemption victims found "
            "for incoming pod, 2 Preemption is not helpful for scheduling.",
            id="topology spread",
        ),
        pytest.param(
            [node("a"), node("b", cpu="10m")],
            [],
            pod(
                "p",
                affinity={
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [
                                {
                                    "matchFields": [
                                        {"key": "metadata.name", "operator": "In", "values": ["b"]}
                                    ]
                                }
                            ]
                        }
                    }
                },
            ),
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) "
            "[NodeAffinity]. " + NOT_HELPFUL.format(n=2),
            id="a DaemonSet's pod on a full node",
        ),
        pytest.param(
            [node("a", cpu="1")],
            [pod("r", cpu="800m", on="a")],
            pod("p", cpu="500m", priority=5, preemptionPolicy="Never"),
            "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to "
            "preemptionPolicy=Never.",
            id="does not preempt",
        ),
        pytest.param(
            [node("a")],
            [],
            pod("p", resourceClaims=[{"name": "x"}]),
            "0/1 nodes are available: kubestage does not emulate resource claims in pods yet. "
            + NOT_HELPFUL.format(n=1),
            id="not emulated",
        ),
    ],
)
def test_an_unschedulable_pod_is_told_why(
    nodes: list[Any], running: list[Any], wanted: Any, message: str
) -> None:
    assert verdict(nodes, running, wanted) == message


@pytest.mark.parametrize(
    ("wanted", "allowed"),
    [
        (pod("p", nodeSelector={ZONE: "z1"}), {"a"}),
        (pod("p", affinity=node_term(ZONE, "NotIn", "z1")), {"b", "c"}),
        (pod("p", affinity=node_term(ZONE, "Exists")), {"a", "b"}),
        (pod("p", affinity=node_term(ZONE, "DoesNotExist")), {"c"}),
        (pod("p", affinity=node_term("generation", "Gt", "3")), {"c"}),
        (pod("p", affinity=node_term("generation", "Lt", "3")), {"b"}),
        (pod("p", tolerations=[{"key": "dedicated", "operator": "Exists"}], cpu="3"), {"t"}),
        (pod("p", labels={"app": "web"}, affinity=required("podAffinity", term(ZONE))), {"a", "b"}),
    ],
)
def test_a_pod_goes_only_where_it_may(wanted: Any, allowed: set[str]) -> None:
    async def go(seed: int) -> str:
        bench = Bench(seed=seed)
        bench.nodes(
            node("a", labels={ZONE: "z1"}, cpu="2"),
            node("b", labels={ZONE: "z2", "generation": "2"}, cpu="2"),
            node("c", labels={"generation": "4"}, cpu="2"),
            node("t", taints=[TAINT], labels={ZONE: "z3"}),
        )
        return (await bench.schedule(wanted))["p"]

    assert {asyncio.run(go(seed)) for seed in range(12)} <= allowed


def test_pods_of_a_group_follow_the_first_into_its_domain() -> None:
    async def go() -> set[str]:
        bench = Bench()
        bench.nodes(*(node(f"n{i}", labels={ZONE: f"z{i % 3}"}) for i in range(9)))
        near = required("podAffinity", term(ZONE))
        pods = [pod(f"p{i}", labels={"app": "web"}, affinity=near) for i in range(6)]
        bound = await bench.schedule(*pods)
        return {f"z{int(name[1:]) % 3}" for name in bound.values()}

    assert len(asyncio.run(go())) == 1


def test_anti_affinity_puts_each_pod_on_a_node_of_its_own() -> None:
    async def go() -> list[str]:
        bench = Bench()
        bench.nodes(*(node(f"n{i}") for i in range(5)))
        far = required("podAntiAffinity", term(HOST))
        pods = [pod(f"p{i}", labels={"app": "web"}, affinity=far) for i in range(6)]
        return [*(await bench.schedule(*pods)).values()]

    bound = asyncio.run(go())
    assert len(bound) == len(set(bound)) == 5


def test_topology_spread_keeps_the_skew() -> None:
    async def go() -> dict[str, int]:
        bench = Bench()
        bench.nodes(*(node(f"n{i}", cpu="100", labels={ZONE: f"z{i % 3}"}) for i in range(7)))
        spread = [{"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", **term(ZONE)}]
        pods = [
            pod(f"p{i}", labels={"app": "web"}, topologySpreadConstraints=spread) for i in range(30)
        ]
        counts = {"z0": 0, "z1": 0, "z2": 0}
        for name in (await bench.schedule(*pods)).values():
            counts[f"z{int(name[1:]) % 3}"] += 1
        return counts

    assert asyncio.run(go()) == {"z0": 10, "z1": 10, "z2": 10}
