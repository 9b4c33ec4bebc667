from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster.api.errors import Forbidden
from cluster.api.meta import (
    CONFIGMAPS,
    LIMITRANGES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    RESOURCEQUOTAS,
    SERVICES,
    Object,
)
from cluster.apiserver.admission.quota import ResourceQuota
from tests.admission.conftest import World, pod
from tests.apiserver_auth.fakes import named


def limit(world: World, *limits: Object) -> None:
    world.registry.put(LIMITRANGES, named("limits", "default", spec={"limits": list(limits)}))


def quota(world: World, hard: Object, name: str = "q", **spec: Any) -> None:
    world.registry.put(RESOURCEQUOTAS, named(name, "default", spec={"hard": hard, **spec}))


def asking(cpu: str = "", memory: str = "") -> Object:
    requests = {k: v for k, v in (("cpu", cpu), ("memory", memory)) if v}
    return {"name": "c", "resources": {"requests": requests}}


def status(world: World, name: str = "q") -> Object:
    plugin = next(p for p in world.chain.plugins if isinstance(p, ResourceQuota))
    asyncio.run(plugin.flush())
    found = world.registry.get(RESOURCEQUOTAS, "default", name)
    assert found is not None
    used: Object = found["status"]["used"]
    return used


def refusal(world: World, name: str = "web", **spec: Any) -> str:
    with pytest.raises(Forbidden) as caught:
        world.create_pod(name, **spec)
    return caught.value.message


def test_defaults_are_set_and_written_down(world: World) -> None:
    limit(
        world,
        {
            "type": "Container",
            "default": {"cpu": "1", "memory": "1Gi"},
            "defaultRequest": {"cpu": "100m", "memory": "64Mi"},
        },
    )
    made = world.create_pod(containers=[asking(cpu="200m")])
    assert made["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "200m", "memory": "64Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    }
    assert made["metadata"]["annotations"] == {
        "kubernetes.io/limit-ranger": "LimitRanger plugin set: memory request for container c; cpu,"
        " memory limit for container c"
    }


@pytest.mark.parametrize(
    ("item", "container", "message"),
    [
        (
            {"max": {"cpu": "1"}},
            {"name": "c", "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "2"}}},
            "maximum cpu usage per Container is 1, but limit is 2",
        ),
        ({"max": {"cpu": "1"}}, asking(), "maximum cpu usage per Container is 1.  No limit is"
         " specified"),
        ({"min": {"memory": "64Mi"}}, asking(memory="32Mi"),
         "minimum memory usage per Container is 64Mi, but request is 32Mi"),
        ({"min": {"memory": "64Mi"}}, asking(),
         "minimum memory usage per Container is 64Mi.  No request is specified"),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"name": "c", "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "300m"}}},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
    ],
)  # fmt: skip
def test_bounds_of_a_container(world: World, item: Object, container: Object, message: str) -> None:
    limit(world, {"type": "Container", **item})
    assert refusal(world, containers=[container]) == f'pods "web" is forbidden: {message}'


def test_several_violations_are_listed(world: World) -> None:
    limit(world, {"type": "Container", "max": {"cpu": "1", "memory": "1Gi"}})
    assert refusal(world) == (
        'pods "web" is forbidden: [maximum cpu usage per Container is 1.  No limit is specified,'
        " maximum memory usage per Container is 1Gi.  No limit is specified]"
    )


def test_bounds_of_a_pod_and_of_a_claim(world: World) -> None:
    limit(
        world,
        {"type": "Pod", "max": {"cpu": "500m"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
    )
    two = [
        {"name": n, "resources": {"requests": {"cpu": "300m"}, "limits": {"cpu": "300m"}}}
        for n in "ab"
    ]
    assert "maximum cpu usage per Pod is 500m, but limit is 600m" in refusal(world, containers=two)
    claim = named("d", "default", spec={"resources": {"requests": {"storage": "2Gi"}}})
    with pytest.raises(Forbidden, match="maximum storage usage per PersistentVolumeClaim is 1Gi"):
        world.create(PERSISTENTVOLUMECLAIMS, claim)


def test_a_quota_is_charged_at_once_and_refuses_in_upstreams_words(world: World) -> None:
    quota(world, {"requests.cpu": "1", "pods": "5"})
    world.create_pod("a", containers=[asking(cpu="600m")])
    assert refusal(world, "b", containers=[asking(cpu="500m")]) == (
        'pods "b" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used:'
        " requests.cpu=600m, limited: requests.cpu=1"
    )
    world.create_pod("c", containers=[asking(cpu="400m")])
    assert status(world) == {"requests.cpu": "1", "pods": "2"}


def test_what_goes_is_given_back(world: World) -> None:
    quota(world, {"pods": "1", "count/pods": "2", "memory": "1Gi"})
    first = world.create_pod("a", containers=[asking(memory="512Mi")])
    assert "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1" in refusal(
        world, "b", containers=[asking(memory="1Mi")]
    )
    world.registry.put(PODS, {**first, "status": {"phase": "Succeeded"}})
    assert status(world) == {"pods": "0", "count/pods": "1", "memory": "0"}
    world.create_pod("b", containers=[asking(memory="1Mi")])
    world.registry.remove(PODS, "default", "a")
    assert status(world) == {"pods": "1", "count/pods": "1", "memory": "1Mi"}


def test_admitted_but_not_yet_stored_objects_count(world: World) -> None:
    quota(world, {"pods": "2"})
    for name in "ab":
        world.chain.admit(world.request("CREATE", PODS, pod(name)))
    assert "used: pods=2" in refusal(world, "c")
    world.registry.put(PODS, pod("a"))
    world.registry.put(PODS, pod("x"))  # came another way: everything is counted again
    assert "used: pods=3" in refusal(world, "c")


def test_a_dry_run_is_checked_and_not_charged(world: World) -> None:
    quota(world, {"pods": "1"})
    for name in "ab":
        world.chain.admit(world.request("CREATE", PODS, pod(name), dry_run=True))
    world.create_pod("a")
    assert status(world) == {"pods": "1"}


def test_a_compute_quota_wants_every_container_to_say_what_it_needs(world: World) -> None:
    quota(world, {"limits.cpu": "2", "requests.memory": "1Gi"})
    assert refusal(world) == (
        'pods "web" is forbidden: failed quota: q: must specify limits.cpu for: c; requests.memory'
        " for: c"
    )


@pytest.mark.parametrize(
    ("scope", "inside", "outside"),
    [
        ({"scopes": ["BestEffort"]}, {}, {"containers": [asking(cpu="1m")]}),
        ({"scopes": ["NotBestEffort"]}, {"containers": [asking(cpu="1m")]}, {}),
        ({"scopes": ["Terminating"]}, {"activeDeadlineSeconds": 5}, {}),
        ({"scopes": ["NotTerminating"]}, {}, {"activeDeadlineSeconds": 5}),
        (
            {"scopeSelector": {"matchExpressions": [{
                "scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"],
            }]}},
            {"priorityClassName": "system-node-critical"},
            {},
        ),
        (
            {"scopes": ["CrossNamespacePodAffinity"]},
            {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "zone", "namespaces": ["x"]},
            ]}}},
            {},
        ),
    ],
)  # fmt: skip
def test_scopes_select(world: World, scope: Object, inside: Object, outside: Object) -> None:
    quota(world, {"pods": "0"}, **scope)
    world.create_pod("out", **outside)
    assert "exceeded quota: q, requested: pods=1" in refusal(world, "in", **inside)


def test_other_objects_are_counted(world: World) -> None:
    quota(
        world,
        {
            "configmaps": "1",
            "count/deployments.apps": "0",
            "services.nodeports": "1",
            "requests.storage": "1Gi",
            "gold.storageclass.storage.k8s.io/requests.storage": "512Mi",
        },
    )
    world.create(CONFIGMAPS, named("a", "default"))
    with pytest.raises(Forbidden, match="requested: configmaps=1, used: configmaps=1"):
        world.create(CONFIGMAPS, named("b", "default"))
    service = named("s", "default", spec={"type": "ClusterIP", "ports": [{}, {}]})
    world.create(SERVICES, service)
    wider = {**service, "spec": {**service["spec"], "type": "NodePort"}}
    with pytest.raises(Forbidden, match=r"requested: services\.nodeports=2"):
        world.chain.admit(world.request("UPDATE", SERVICES, wider, service))
    claim = named(
        "d",
        "default",
        spec={"storageClassName": "gold", "resources": {"requests": {"storage": "600Mi"}}},
    )
    with pytest.raises(Forbidden, match=r"limited: gold\.storageclass"):
        world.create(PERSISTENTVOLUMECLAIMS, claim)


def test_the_status_is_written_by_itself_soon_after(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.apiserver.admission.quota.plugin.FLUSH_SECONDS", 0.0)

    async def scenario() -> None:
        quota(world, {"pods": "3"})
        world.create_pod("a")
        world.create_pod("b")
        for _ in range(5):
            await asyncio.sleep(0)
        await world.chain.close()

    asyncio.run(scenario())
    found = world.registry.get(RESOURCEQUOTAS, "default", "q")
    assert found is not None
    assert found["status"] == {"hard": {"pods": "3"}, "used": {"pods": "2"}}


def test_other_namespaces_are_free(world: World) -> None:
    quota(world, {"pods": "0"})
    world.registry.put(PODS, pod("other", "kube-system"))
    assert status(world) == {"pods": "0"}
