"""Pods with claims: where their volumes can be, and who is told what before the pod is bound."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .fakes import Bench, node, pod

ZONE = "topology.kubernetes.io/zone"
RETAIN = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}


def claim(name: str, *, class_name: str = "late", bound_to: str = "", **spec: Any) -> Any:
    body = {
        "storageClassName": class_name,
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        **spec,
    }
    if bound_to:
        body["volumeName"] = bound_to
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "resourceVersion": "2" if bound_to else "1",
        },
        "spec": body,
        "status": {"phase": "Bound" if bound_to else "Pending"},
    }


def volume(name: str, *, zone: str = "", class_name: str = "late", size: str = "1Gi") -> Any:
    spec: dict[str, Any] = {
        **RETAIN,
        "capacity": {"storage": size},
        "storageClassName": class_name,
    }
    if zone:
        term = {"matchExpressions": [{"key": ZONE, "operator": "In", "values": [zone]}]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [term]}}
    return {"metadata": {"name": name}, "spec": spec, "status": {"phase": "Available"}}


def storage_class(name: str, provisioner: str = "kubernetes.io/no-provisioner") -> Any:
    return {
        "metadata": {"name": name},
        "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def using(*claims: str) -> Any:
    volumes = [{"name": c, "persistentVolumeClaim": {"claimName": c}} for c in claims]
    return pod("p", volumes=volumes)


class StorageBench(Bench):
    def __init__(self, *, claims: Any = (), volumes: Any = (), classes: Any = ()) -> None:
        super().__init__()
        storage = self.scheduler.storage
        storage.claims.replace(claims, "1")
        storage.volumes.replace(volumes, "1")
        storage.classes.replace(classes, "1")
        self.nodes(node("a", labels={ZONE: "z1"}), node("b", labels={ZONE: "z2"}))


@pytest.mark.parametrize(
    ("world", "claims", "message"),
    [
        ({}, ["x"], 'persistentvolumeclaim "x" not found'),
        (
            {"claims": [claim("x", class_name="soon")]},
            ["x"],
            "pod has unbound immediate PersistentVolumeClaims",
        ),
        (
            {"claims": [claim("x")], "classes": [storage_class("late")]},
            ["x"],
            "2 node(s) didn't find available persistent volumes to bind",
        ),
        (
            {"claims": [claim("x", bound_to="v")], "volumes": [volume("v", zone="z9")]},
            ["x"],
            "2 node(s) didn't match PersistentVolume's node affinity",
        ),
        (
            {"claims": [claim("x", bound_to="gone")]},
            ["x"],
            "2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
        ),
    ],
)
def test_a_pod_whose_volumes_are_nowhere_is_told_why(
    world: Any, claims: list[str], message: str
) -> None:
    async def go() -> str:
        bench = StorageBench(**world)
        await bench.schedule(using(*claims))
        return bench.server.events("FailedScheduling")[0]

    assert asyncio.run(go()) == (
        f"0/2 nodes are available: {message}. preemption: 0/2 nodes are available: "
        "2 Preemption is not helpful for scheduling."
    )


def test_a_pod_follows_its_bound_volume() -> None:
    async def go() -> dict[str, str]:
        bench = StorageBench(claims=[claim("x", bound_to="v")], volumes=[volume("v", zone="z2")])
        return await bench.schedule(using("x"))

    assert asyncio.run(go()) == {"p": "b"}


def test_the_smallest_volume_that_suits_is_claimed_and_the_pod_waits_for_the_binding() -> None:
    async def go() -> None:
        bench = StorageBench(
            claims=[claim("x")],
            volumes=[volume("big", zone="z2", size="9Gi"), volume("small", zone="z2")],
            classes=[storage_class("late")],
        )
        assert await bench.schedule(using("x")) == {}
        (patch,) = bench.server.patches("/small")
        assert patch["spec"]["claimRef"]["name"] == "x"
        bench.scheduler.storage.claims.replace([claim("x", bound_to="small")], "2")
        await bench.settle()
        assert bench.server.bindings() == {"p": "b"}

    asyncio.run(go())


def test_a_provisioner_is_told_the_node_that_was_selected() -> None:
    async def go() -> None:
        bench = StorageBench(claims=[claim("x")], classes=[storage_class("late", "example.com/p")])
        await bench.schedule(using("x"))
        (patch,) = bench.server.patches("/persistentvolumeclaims/x")
        chosen = patch["metadata"]["annotations"]["volume.kubernetes.io/selected-node"]
        bench.scheduler.storage.claims.replace([claim("x", bound_to="new")], "2")
        await bench.settle()
        assert bench.server.bindings() == {"p": chosen}

    asyncio.run(go())


def test_two_pods_never_get_the_same_volume() -> None:
    async def go() -> list[str]:
        bench = StorageBench(
            claims=[claim("x"), claim("y")],
            volumes=[volume("v1"), volume("v2")],
            classes=[storage_class("late")],
        )
        first, second = using("x"), using("y")
        second["metadata"] = {**second["metadata"], "name": "q", "uid": "uid-q"}
        await bench.schedule(first, second)
        return sorted(i["p"].rpartition("/")[2] for i in bench.server.items if i["m"] == "PATCH")

    assert asyncio.run(go()) == ["v1", "v2"]


def test_a_read_write_once_pod_claim_is_for_one_pod() -> None:
    async def go() -> list[str]:
        bench = StorageBench(
            claims=[claim("x", bound_to="v", accessModes=["ReadWriteOncePod"])],
            volumes=[volume("v")],
        )
        running = pod("r", on="a", volumes=using("x")["spec"]["volumes"])
        bench.pods(running)
        await bench.schedule(using("x"))
        return bench.server.events("FailedScheduling")

    (message,) = asyncio.run(go())
    assert message.startswith(
        "0/2 nodes are available: 2 node has pod using PersistentVolumeClaim with the same name "
        "and ReadWriteOncePod access mode."
    )
