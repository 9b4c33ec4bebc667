"""Namespaces, nodes, evictions and garbage through the whole manager."""

from __future__ import annotations

import asyncio

from cluster.api.meta import (
    CONFIGMAPS,
    EVENTS,
    LEASES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    SERVICEACCOUNTS,
    Object,
    rfc3339,
    rfc3339_micro,
)
from tests.controllers.conftest import Cluster
from tests.controllers.fake_api import FakeApi

LEASE = "kube-node-lease"


def run(scenario) -> None:
    asyncio.run(scenario())


def namespace(name: str) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def node(name: str, ready: str = "True", **spec: object) -> Object:
    conditions = [
        {
            "type": kind,
            "status": status,
            "lastHeartbeatTime": "2026-01-01T00:00:00Z",
            "lastTransitionTime": "x",
        }
        for kind, status in (
            ("MemoryPressure", "False"),
            ("DiskPressure", "False"),
            ("PIDPressure", "False"),
            ("Ready", ready),
        )
    ]
    return {"metadata": {"name": name}, "spec": dict(spec), "status": {"conditions": conditions}}


def taints(api: FakeApi, name: str) -> set[tuple[str, str]]:
    return {
        (t["key"].rpartition("/")[2], t["effect"])
        for t in api.store[NODES][name]["spec"].get("taints") or ()
    }


def pod(name: str, node_name: str, **spec: object) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": node_name, "containers": [], **spec},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(1)}],
        },
    }


def renew(cluster: Cluster, *names: str) -> None:
    for name in names:
        stamp = rfc3339_micro(cluster.clock.now())
        cluster.api.put(
            LEASES, {"metadata": {"name": name, "namespace": LEASE}, "spec": {"renewTime": stamp}}
        )


def test_every_namespace_gets_its_service_account_and_the_clusters_ca(running) -> None:
    async def scenario() -> None:
        async with running(root_ca_pem="PEM") as cluster:
            api = cluster.api
            api.put(NAMESPACES, namespace("a"))
            await cluster.until(lambda: "a/default" in api.store.get(SERVICEACCOUNTS, {}))
            await cluster.until(lambda: "a/kube-root-ca.crt" in api.store.get(CONFIGMAPS, {}))
            assert api.store[CONFIGMAPS]["a/kube-root-ca.crt"]["data"] == {"ca.crt": "PEM"}
            api.change(CONFIGMAPS, "a/kube-root-ca.crt", data={"ca.crt": "forged"})
            await cluster.until(
                lambda: api.store[CONFIGMAPS]["a/kube-root-ca.crt"]["data"] == {"ca.crt": "PEM"}
            )
            api.remove(SERVICEACCOUNTS, "a/default")
            await cluster.until(lambda: "a/default" in api.store[SERVICEACCOUNTS])

    run(scenario)


def test_a_namespace_goes_when_its_pods_and_then_the_rest_are_gone(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(NAMESPACES, namespace("a"))
            await cluster.until(lambda: "a/default" in api.store.get(SERVICEACCOUNTS, {}))
            api.put(PODS, {**pod("p", "n1"), "metadata": {"name": "p", "namespace": "a"}})
            api.put(CONFIGMAPS, {"metadata": {"name": "c", "namespace": "a"}})
            api._delete(NAMESPACES, "a", {})
            await cluster.until(
                lambda: (api.store[NAMESPACES]["a"]["status"] or {}).get("conditions")
            )
            conditions = {c["type"]: c for c in api.store[NAMESPACES]["a"]["status"]["conditions"]}
            remaining = conditions["NamespaceContentRemaining"]
            assert remaining["status"] == "True" and remaining["reason"] == "SomeResourcesRemain"
            assert (
                remaining["message"]
                == "Some resources are remaining: pods. has 1 resource instances"
            )
            assert "a/c" in api.store[CONFIGMAPS], "pods go first"
            api.remove(PODS, "a/p")
            await cluster.until(lambda: "a" not in api.store[NAMESPACES])
            assert not [o for o in api.objects(CONFIGMAPS) if o["metadata"]["namespace"] == "a"]

    run(scenario)


def test_nodes_get_ranges_of_their_own_and_ranges_come_back(running) -> None:
    async def scenario() -> None:
        async with running(cluster_cidr="10.244.0.0/22", expected_nodes=4) as cluster:
            api = cluster.api
            for i in range(5):
                api.put(NODES, node(f"n{i}"))
            await cluster.until(
                lambda: sum(bool(n["spec"].get("podCIDR")) for n in api.objects(NODES)) == 4
            )
            given = {n["spec"]["podCIDR"] for n in api.objects(NODES) if n["spec"].get("podCIDR")}
            assert given == {f"10.244.{i}.0/24" for i in range(4)}
            await cluster.until(
                lambda: any(e["reason"] == "CIDRNotAvailable" for e in api.objects(EVENTS))
            )

    run(scenario)


def test_a_nodes_conditions_become_taints_and_the_startup_taint_goes_when_it_is_ready(
    running,
) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            startup = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
            api.put(
                NODES,
                node("n1", "False", taints=[startup, {"key": "mine", "effect": "NoSchedule"}]),
            )
            await cluster.settle()
            assert taints(api, "n1") == {("not-ready", "NoSchedule"), ("mine", "NoSchedule")}
            held = api.store[NODES]["n1"]
            api.change(
                NODES,
                "n1",
                status=node("n1")["status"],
                spec={**held["spec"], "unschedulable": True},
            )
            await cluster.until(
                lambda: (
                    taints(api, "n1") == {("unschedulable", "NoSchedule"), ("mine", "NoSchedule")}
                )
            )

    run(scenario)


def test_a_silent_node_is_unknown_after_its_grace_and_its_pods_leave_when_their_time_is_over(
    running,
) -> None:
    async def scenario() -> None:
        async with running(node_monitor_period=0.01) as cluster:
            api = cluster.api
            for name in ("n1", "n2", "n3"):
                api.put(NODES, node(name))
            tolerations = [
                {
                    "key": "node.kubernetes.io/unreachable",
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": 300,
                }
            ]
            api.put(PODS, pod("stays", "n1", tolerations=tolerations))
            api.put(PODS, pod("leaves", "n1"))
            api.put(PODS, pod("elsewhere", "n2"))
            renew(cluster, "n1", "n2", "n3")
            await cluster.settle(0.05)
            cluster.clock.advance(30)
            renew(cluster, "n2", "n3")
            await cluster.settle(0.05)
            assert taints(api, "n1") == set(), "30 s of silence is within the grace period"
            cluster.clock.advance(11)
            await cluster.until(lambda: ("unreachable", "NoExecute") in taints(api, "n1"))
            await cluster.until(lambda: ("unreachable", "NoSchedule") in taints(api, "n1"))
            ready = next(
                c for c in api.store[NODES]["n1"]["status"]["conditions"] if c["type"] == "Ready"
            )
            assert (ready["status"], ready["reason"]) == ("Unknown", "NodeStatusUnknown")
            assert ready["message"] == "Kubelet stopped posting node status."
            await cluster.until(
                lambda: "deletionTimestamp" in api.store[PODS]["default/leaves"]["metadata"]
            )
            stays = api.store[PODS]["default/stays"]
            assert "deletionTimestamp" not in stays["metadata"]
            assert stays["status"]["conditions"][0]["status"] == "False", (
                "its readiness is not known any more"
            )
            assert taints(api, "n2") == set()
            await cluster.settle(0.05)
            events = {(e["reason"], e["message"]) for e in api.objects(EVENTS)}
            assert ("NodeNotReady", "Node n1 status is now: NodeNotReady") in events
            assert ("TaintManagerEviction", "Marking for deletion Pod default/leaves") in events
            api.change(NODES, "n1", status=node("n1")["status"])
            renew(cluster, "n1")
            await cluster.until(lambda: taints(api, "n1") == set())
            await cluster.until(
                lambda: any(
                    e["message"] == "Cancelling deletion of Pod default/stays"
                    for e in api.objects(EVENTS)
                )
            )

    run(scenario)


def test_when_all_nodes_fall_silent_nobody_is_evicted(running) -> None:
    async def scenario() -> None:
        async with running(node_monitor_period=0.01) as cluster:
            api = cluster.api
            for name in ("n1", "n2", "n3"):
                api.put(NODES, node(name))
            await cluster.settle(0.05)
            cluster.clock.advance(41)
            await cluster.until(
                lambda: all(
                    ("unreachable", "NoSchedule") in taints(api, n) for n in ("n1", "n2", "n3")
                )
            )
            await cluster.settle(0.3)
            assert all(
                ("unreachable", "NoExecute") not in taints(api, n) for n in ("n1", "n2", "n3")
            )

    run(scenario)


def test_pods_of_a_node_that_no_longer_exists_are_removed_after_a_quarantine(running) -> None:
    async def scenario() -> None:
        async with running(pod_gc_period=0.01) as cluster:
            api = cluster.api
            api.put(NODES, node("n1"))
            api.put(PODS, pod("a", "n1"))
            api.put(PODS, pod("b", "gone"))
            await cluster.settle(0.05)
            assert len(api.objects(PODS)) == 2
            cluster.clock.advance(41)
            await cluster.until(lambda: len(api.objects(PODS)) == 1)
            assert "default/a" in api.store[PODS]

    run(scenario)


def test_an_object_whose_owner_never_existed_is_collected_and_one_with_a_live_owner_stays(
    running,
) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            owner = api.put(CONFIGMAPS, {"metadata": {"name": "owner", "namespace": "default"}})

            def child(name: str, *uids: str) -> Object:
                refs = [
                    {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": u}
                    for u in uids
                ]
                return {"metadata": {"name": name, "namespace": "default", "ownerReferences": refs}}

            api.put(CONFIGMAPS, child("lost", "uid-never"))
            api.put(CONFIGMAPS, child("kept", owner["metadata"]["uid"]))
            api.put(CONFIGMAPS, child("half", owner["metadata"]["uid"], "uid-never"))
            await cluster.until(lambda: "default/lost" not in api.store[CONFIGMAPS])
            await cluster.until(
                lambda: (
                    len(api.store[CONFIGMAPS]["default/half"]["metadata"]["ownerReferences"]) == 1
                )
            )
            assert "default/kept" in api.store[CONFIGMAPS]

    run(scenario)


def test_a_deleted_claim_goes_when_the_last_pod_that_uses_it_has_ended(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            finalizers = ["kubernetes.io/pvc-protection"]
            claim = {"name": "data", "namespace": "default", "finalizers": finalizers}
            api.put(PERSISTENTVOLUMECLAIMS, {"metadata": claim, "spec": {}})
            volume = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
            api.put(PODS, pod("user", "n1", volumes=[volume]))
            await cluster.settle(0.05)
            api._delete(PERSISTENTVOLUMECLAIMS, "default/data", {})
            await cluster.settle(0.05)
            assert api.objects(PERSISTENTVOLUMECLAIMS)
            api.change(PODS, "default/user", status={"phase": "Succeeded"})
            await cluster.until(lambda: not api.objects(PERSISTENTVOLUMECLAIMS))

    run(scenario)


def test_when_the_api_itself_was_away_no_node_is_blamed(running) -> None:
    async def scenario() -> None:
        async with running(node_monitor_period=0.01) as cluster:
            api = cluster.api
            api.put(NODES, node("n1"))
            await cluster.settle(0.05)
            api.unreachable = True
            cluster.clock.advance(41)
            await asyncio.sleep(0.03)
            cluster.clock.advance(10)
            api.unreachable = False
            before = api.calls.get(("GET", "leases", ""), 0)
            await cluster.until(lambda: api.calls.get(("GET", "leases", ""), 0) > before)
            await asyncio.sleep(0.03)
            assert taints(api, "n1") == set()
            cluster.clock.advance(39)
            await asyncio.sleep(0.1)
            assert taints(api, "n1") == set(), "it has its whole grace again"
            cluster.clock.advance(2)
            await cluster.until(lambda: ("unreachable", "NoSchedule") in taints(api, "n1"))

    run(scenario)
