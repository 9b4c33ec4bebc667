"""Deployments, ReplicaSets and their pods through the whole manager, on the API in memory."""

from __future__ import annotations

import asyncio

from cluster.api.errors import Forbidden
from cluster.api.meta import DEPLOYMENTS, EVENTS, PODS, REPLICASETS, Object
from tests.controllers.conftest import Cluster, make_ready
from tests.controllers.fake_api import FakeApi


def deployment(replicas: int = 3, image: str = "nginx:1", **spec: object) -> Object:
    return {
        "metadata": {"name": "nginx", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "nginx"}},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
            },
            "template": {
                "metadata": {"labels": {"app": "nginx"}},
                "spec": {"containers": [{"name": "a", "image": image}]},
            },
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            **spec,
        },
    }


def live_pods(api: FakeApi) -> list[Object]:
    return [p for p in api.objects(PODS) if "deletionTimestamp" not in p["metadata"]]


def play_kubelet(cluster: Cluster) -> None:
    for pod in cluster.api.objects(PODS):
        meta = pod["metadata"]
        if "deletionTimestamp" in meta:
            cluster.api.remove(PODS, f"{meta['namespace']}/{meta['name']}")
        elif pod["status"]["phase"] == "Pending":
            make_ready(cluster, pod, ip=f"10.0.0.{len(meta['name'])}")


def status(api: FakeApi) -> Object:
    found: Object = api.store[DEPLOYMENTS]["default/nginx"].get("status") or {}
    return found


def messages(api: FakeApi, reason: str) -> list[str]:
    return [e["message"] for e in api.objects(EVENTS) if e["reason"] == reason]


def condition(api: FakeApi, kind: str) -> tuple[str, str]:
    found = next(c for c in status(api)["conditions"] if c["type"] == kind)
    return found["status"], found["reason"]


def test_a_deployment_becomes_a_replica_set_becomes_pods_and_is_complete_when_they_are_ready(
    running,
) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(DEPLOYMENTS, deployment())
            await cluster.until(lambda: len(api.objects(PODS)) == 3)
            await cluster.settle()
            assert status(api)["unavailableReplicas"] == 3
            assert condition(api, "Available") == ("False", "MinimumReplicasUnavailable")
            play_kubelet(cluster)
            await cluster.until(lambda: status(api).get("availableReplicas") == 3)
            await cluster.settle()
            (replica_set,) = api.objects(REPLICASETS)
            name = replica_set["metadata"]["name"]
            digest = replica_set["metadata"]["labels"]["pod-template-hash"]
            assert name == f"nginx-{digest}"
            assert all(p["metadata"]["name"].startswith(f"{name}-") for p in api.objects(PODS))
            assert all(
                p["metadata"]["labels"]["pod-template-hash"] == digest for p in api.objects(PODS)
            )
            assert messages(api, "ScalingReplicaSet") == [
                f"Scaled up replica set {name} from 0 to 3"
            ]
            created = sorted(messages(api, "SuccessfulCreate"))
            assert created == sorted(
                f"Created pod: {p['metadata']['name']}" for p in api.objects(PODS)
            )
            held = api.store[DEPLOYMENTS]["default/nginx"]
            assert held["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
            assert replica_set["metadata"]["annotations"] == {
                "deployment.kubernetes.io/revision": "1",
                "deployment.kubernetes.io/desired-replicas": "3",
                "deployment.kubernetes.io/max-replicas": "4",
            }
            assert status(api)["updatedReplicas"] == status(api)["readyReplicas"] == 3
            assert "unavailableReplicas" not in status(api)
            assert condition(api, "Progressing") == ("True", "NewReplicaSetAvailable")
            assert condition(api, "Available") == ("True", "MinimumReplicasAvailable")
            before = api.version
            await asyncio.sleep(0.2)
            assert api.version == before, "a finished rollout writes nothing"

    asyncio.run(scenario())


def test_a_new_image_rolls_and_undo_rolls_back_to_the_old_replica_set_with_a_new_number(
    running,
) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(DEPLOYMENTS, deployment(4))
            await roll(cluster, 4)
            (first,) = api.objects(REPLICASETS)
            held = api.store[DEPLOYMENTS]["default/nginx"]
            for image, generation in (("nginx:2", 2), ("nginx:1", 3)):
                spec = deployment(4, image)["spec"]
                held = api.store[DEPLOYMENTS]["default/nginx"]
                api.put(
                    DEPLOYMENTS,
                    {
                        **held,
                        "spec": spec,
                        "metadata": {**held["metadata"], "generation": generation},
                    },
                )
                least = await roll(cluster, 4)
                assert least >= 3, "maxUnavailable 25% of 4"
                images = {p["spec"]["containers"][0]["image"] for p in live_pods(api)}
                assert images == {image}
            sets = {s["metadata"]["name"]: s for s in api.objects(REPLICASETS)}
            assert len(sets) == 2
            again = sets[first["metadata"]["name"]]
            annotations = again["metadata"]["annotations"]
            assert annotations["deployment.kubernetes.io/revision"] == "3"
            assert annotations["deployment.kubernetes.io/revision-history"] == "1"
            assert again["spec"]["replicas"] == 4

    asyncio.run(scenario())


async def roll(cluster: Cluster, replicas: int) -> int:
    """Play kubelet until the rollout is complete; the fewest ready pods seen once it had begun."""
    least = replicas
    async with asyncio.timeout(10):
        while True:
            play_kubelet(cluster)
            await asyncio.sleep(0.01)
            ready = [p for p in live_pods(cluster.api) if p["status"].get("podIP")]
            if len(cluster.api.objects(REPLICASETS)) > 1:
                least = min(least, len(ready))
            held, now = cluster.api.store[DEPLOYMENTS]["default/nginx"], status(cluster.api)
            if (
                now.get("observedGeneration") == held["metadata"]["generation"]
                and now.get("updatedReplicas")
                == now.get("replicas")
                == now.get("availableReplicas")
                == replicas
            ):
                return least


def test_a_pod_that_is_deleted_is_replaced_before_it_is_gone(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(DEPLOYMENTS, deployment(3))
            await roll(cluster, 3)
            victim = api.objects(PODS)[0]
            api._delete(PODS, f"default/{victim['metadata']['name']}", {})
            await cluster.until(lambda: len(api.objects(PODS)) == 4)
            assert len(live_pods(api)) == 3

    asyncio.run(scenario())


def test_scaling_to_zero_and_up_again_counts_and_tells(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(DEPLOYMENTS, deployment(3))
            await roll(cluster, 3)
            held = api.store[DEPLOYMENTS]["default/nginx"]
            api.change(DEPLOYMENTS, "default/nginx", spec={**held["spec"], "replicas": 0})
            await cluster.until(lambda: not live_pods(api))
            play_kubelet(cluster)
            await cluster.settle()
            assert status(api).get("replicas", 0) == 0
            name = api.objects(REPLICASETS)[0]["metadata"]["name"]
            assert f"Scaled down replica set {name} from 3 to 0" in messages(
                api, "ScalingReplicaSet"
            )

    asyncio.run(scenario())


def test_pods_that_may_not_be_created_are_reported_and_tried_again(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.refuse["POST", "pods"] = Forbidden("exceeded quota")
            api.put(DEPLOYMENTS, deployment(3))
            await cluster.until(lambda: messages(api, "FailedCreate"))
            await cluster.until(
                lambda: any(
                    c["type"] == "ReplicaFailure" for c in status(api).get("conditions", [])
                )
            )
            assert messages(api, "FailedCreate")[0] == "Error creating: exceeded quota"
            del api.refuse["POST", "pods"]
            await cluster.until(lambda: len(api.objects(PODS)) == 3)
            await cluster.until(
                lambda: all(c["type"] != "ReplicaFailure" for c in status(api)["conditions"])
            )

    asyncio.run(scenario())


def test_a_bare_pod_that_matches_is_adopted_and_one_relabelled_is_let_go(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(DEPLOYMENTS, deployment(2))
            await roll(cluster, 2)
            (replica_set,) = api.objects(REPLICASETS)
            pod = live_pods(api)[0]
            name = pod["metadata"]["name"]
            meta = {**pod["metadata"], "labels": {"app": "other"}}
            api.change(PODS, f"default/{name}", metadata=meta)
            await cluster.until(
                lambda: not api.store[PODS][f"default/{name}"]["metadata"].get("ownerReferences")
            )
            await cluster.until(lambda: len(live_pods(api)) == 3)
            play_kubelet(cluster)
            await cluster.settle()
            labels = replica_set["spec"]["template"]["metadata"]["labels"]
            stray = {"metadata": {"name": "stray", "namespace": "default", "labels": labels},
                     "spec": {"containers": []}, "status": {"phase": "Pending"}}  # fmt: skip
            api.put(PODS, stray)
            await cluster.until(
                lambda: "default/stray" not in api.store[PODS]
            )  # adopted, then one too many
            await cluster.until(lambda: len(messages(api, "SuccessfulDelete")) == 1)

    asyncio.run(scenario())


def test_deleting_a_deployment_deletes_its_pods_in_the_background(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(DEPLOYMENTS, deployment(3))
            await roll(cluster, 3)
            api._delete(DEPLOYMENTS, "default/nginx", {"propagationPolicy": "Background"})
            await cluster.until(lambda: not api.objects(REPLICASETS))
            await cluster.until(lambda: not live_pods(api))

    asyncio.run(scenario())


def test_deleting_a_deployment_in_the_foreground_keeps_it_until_all_else_is_gone(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(DEPLOYMENTS, deployment(3))
            await roll(cluster, 3)
            api._delete(DEPLOYMENTS, "default/nginx", {"propagationPolicy": "Foreground"})
            await cluster.until(lambda: not live_pods(api))
            assert api.objects(DEPLOYMENTS) and api.objects(REPLICASETS)
            play_kubelet(cluster)
            await cluster.until(lambda: not api.objects(DEPLOYMENTS))
            assert not api.objects(REPLICASETS)

    asyncio.run(scenario())


def test_orphaning_leaves_pods_without_owner(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(DEPLOYMENTS, deployment(3))
            await roll(cluster, 3)
            api._delete(DEPLOYMENTS, "default/nginx", {"propagationPolicy": "Orphan"})
            await cluster.until(lambda: not api.objects(DEPLOYMENTS))
            await cluster.settle()
            (replica_set,) = api.objects(REPLICASETS)
            assert not replica_set["metadata"].get("ownerReferences")
            assert len(live_pods(api)) == 3

    asyncio.run(scenario())


def test_recreate_waits_for_the_last_old_pod(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(DEPLOYMENTS, deployment(2, strategy={"type": "Recreate"}))
            await roll(cluster, 2)
            held = api.store[DEPLOYMENTS]["default/nginx"]
            spec = deployment(2, "nginx:2", strategy={"type": "Recreate"})["spec"]
            api.put(
                DEPLOYMENTS,
                {**held, "spec": spec, "metadata": {**held["metadata"], "generation": 2}},
            )
            await cluster.until(lambda: not live_pods(api))
            await cluster.settle()
            assert len(api.objects(PODS)) == 2, "terminating old pods hold up the new ones"
            play_kubelet(cluster)
            await cluster.until(lambda: len(live_pods(api)) == 2)

    asyncio.run(scenario())
