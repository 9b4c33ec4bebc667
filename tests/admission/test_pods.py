from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from cluster.api.errors import Forbidden, NotFound, StatusError
from cluster.api.meta import (
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    PRIORITYCLASSES,
    RUNTIMECLASSES,
    SERVICEACCOUNTS,
    Object,
)
from cluster.apiserver.admission.ingress import INGRESSCLASSES, INGRESSES
from cluster.apiserver.admission.storage import IS_DEFAULT, STORAGECLASSES
from tests.admission.conftest import World, pod
from tests.apiserver_auth.fakes import named

GOLDEN = Path(__file__).parent / "golden" / "pod.json"
MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


def test_a_bare_pod_becomes_what_kubernetes_makes_of_it(world: World) -> None:
    made = json.dumps(world.create_pod())
    suffix = re.search(r"kube-api-access-([a-z0-9]{5})\"", made)
    assert suffix is not None
    assert json.loads(made.replace(suffix[1], "SUFFIX")) == json.loads(GOLDEN.read_text())


def test_admitting_twice_changes_nothing_more(world: World) -> None:
    once = world.create_pod()
    again = json.loads(json.dumps(once))
    world.chain.mutate(world.request("CREATE", PODS, again))
    assert again == once


def test_a_container_that_mounts_something_there_keeps_it(world: World) -> None:
    mine = [{"name": "v", "mountPath": MOUNT}]
    made = world.create_pod(
        containers=[{"name": "c", "volumeMounts": mine}], volumes=[{"name": "v", "emptyDir": {}}]
    )
    assert made["spec"]["containers"][0]["volumeMounts"] == mine
    assert [v["name"] for v in made["spec"]["volumes"]] == ["v"]


@pytest.mark.parametrize(
    ("on_pod", "on_account", "mounted"),
    [(None, None, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_the_pod_decides_about_the_token_before_its_account(
    world: World, on_pod: bool | None, on_account: bool | None, mounted: bool
) -> None:
    account = named("default", "default")
    if on_account is not None:
        account["automountServiceAccountToken"] = on_account
    world.registry.put(SERVICEACCOUNTS, account)
    spec: Object = {} if on_pod is None else {"automountServiceAccountToken": on_pod}
    assert bool(world.create_pod(**spec)["spec"].get("volumes")) is mounted


def test_pull_secrets_come_from_the_account(world: World) -> None:
    secrets = [{"name": "registry"}]
    world.registry.put(SERVICEACCOUNTS, named("default", "default", imagePullSecrets=secrets))
    assert world.create_pod()["spec"]["imagePullSecrets"] == secrets
    own = [{"name": "mine"}]
    assert world.create_pod("b", imagePullSecrets=own)["spec"]["imagePullSecrets"] == own


def test_an_unknown_service_account_is_refused(world: World) -> None:
    with pytest.raises(Forbidden) as caught:
        world.create_pod(serviceAccountName="ghost")
    assert caught.value.message == (
        'pods "web" is forbidden: error looking up service account default/ghost:'
        ' serviceaccount "ghost" not found'
    )


def test_a_pod_waits_a_moment_for_the_default_account(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.apiserver.admission.accountwait.WAIT_SECONDS", 0.01)

    async def scenario() -> None:
        world.registry.put(NAMESPACES, named("new", status={"phase": "Active"}))
        assert world.chain.waits("CREATE", PODS, "")
        request = world.request("CREATE", PODS, pod(namespace="new"))
        with pytest.raises(Forbidden, match="error looking up service account new/default"):
            await world.chain.mutate_async(request)
        waiting = asyncio.ensure_future(world.chain.mutate_async(request))
        await asyncio.sleep(0)
        world.registry.put(SERVICEACCOUNTS, named("default", "new"))
        await waiting
        assert not world.chain.waits("CREATE", PODS, "")

    for namespace in ("kube-system", "kube-public", "kube-node-lease"):
        world.registry.put(SERVICEACCOUNTS, named("default", namespace))
    asyncio.run(scenario())


def test_nothing_is_created_in_a_namespace_that_is_not_there_or_ends(world: World) -> None:
    with pytest.raises(NotFound) as missing:
        world.create(PODS, pod(namespace="nowhere"))
    assert missing.value.message == 'namespaces "nowhere" not found'
    world.registry.put(NAMESPACES, named("old", status={"phase": "Terminating"}))
    with pytest.raises(Forbidden) as ending:
        world.create(PODS, pod(namespace="old"))
    assert ending.value.message == (
        'pods "web" is forbidden: unable to create new content in namespace old because it is being'
        " terminated"
    )
    assert ending.value.details is not None
    assert ending.value.details["causes"][0]["reason"] == "NamespaceTerminating"


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
def test_system_namespaces_are_not_deleted(world: World, name: str) -> None:
    with pytest.raises(Forbidden, match="this namespace may not be deleted"):
        world.chain.admit(world.request("DELETE", NAMESPACES, None, named(name)))


def test_own_tolerations_are_kept(world: World) -> None:
    mine = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}
    found = world.create_pod(tolerations=[mine])["spec"]["tolerations"]
    assert found[0] == mine and [t["key"] for t in found[1:]] == ["node.kubernetes.io/unreachable"]
    everything = [{"operator": "Exists"}]
    assert world.create_pod("b", tolerations=everything)["spec"]["tolerations"] == everything


def priority_class(name: str, value: int, **more: Any) -> Object:
    return named(name, value=value, **more)


def test_priority_comes_from_its_class(world: World) -> None:
    made = world.create_pod(priorityClassName="system-node-critical")["spec"]
    assert made["priority"] == 2_000_001_000
    world.registry.put(
        PRIORITYCLASSES,
        priority_class("usual", 5, globalDefault=True, preemptionPolicy="Never"),
    )
    made = world.create_pod("b")["spec"]
    assert (made["priorityClassName"], made["priority"]) == ("usual", 5)
    assert made["preemptionPolicy"] == "Never"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"priorityClassName": "ghost"}, "no PriorityClass with name ghost was found"),
        (
            {"priority": 7},
            "the integer value of priority (7) must not be provided in pod spec; priority admission"
            " controller computed 0 from the given PriorityClass name",
        ),
    ],
)
def test_wrong_priorities_are_refused(world: World, spec: Object, message: str) -> None:
    with pytest.raises(Forbidden) as caught:
        world.create_pod(**spec)
    assert caught.value.message == f'pods "web" is forbidden: {message}'


def test_there_is_one_default_priority_class(world: World) -> None:
    world.create(PRIORITYCLASSES, priority_class("a", 1, globalDefault=True))
    with pytest.raises(Forbidden, match="PriorityClass a is already marked as default"):
        world.create(PRIORITYCLASSES, priority_class("b", 2, globalDefault=True))


def test_a_runtime_class_adds_its_overhead_and_scheduling(world: World) -> None:
    toleration = {"key": "kata", "operator": "Exists"}
    world.registry.put(
        RUNTIMECLASSES,
        named(
            "kata",
            overhead={"podFixed": {"cpu": "250m"}},
            scheduling={"nodeSelector": {"kata": "yes"}, "tolerations": [toleration]},
        ),
    )
    spec = world.create_pod(runtimeClassName="kata", nodeSelector={"a": "b"})["spec"]
    assert spec["overhead"] == {"cpu": "250m"}
    assert spec["nodeSelector"] == {"a": "b", "kata": "yes"}
    assert toleration in spec["tolerations"]
    with pytest.raises(Forbidden, match='RuntimeClass "ghost" not found'):
        world.create_pod("b", runtimeClassName="ghost")


def test_a_new_node_is_tainted_until_it_is_ready(world: World) -> None:
    node = world.create(NODES, named("n1", spec={}))
    assert node["spec"]["taints"] == [
        {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    ]


def test_claims_are_protected_and_get_the_newest_default_class(world: World) -> None:
    for name, day in (("old", "01"), ("new", "02")):
        storage_class = named(name)
        storage_class["metadata"]["annotations"] = {IS_DEFAULT: "true"}
        storage_class["metadata"]["creationTimestamp"] = f"2026-01-{day}T00:00:00Z"
        world.registry.put(STORAGECLASSES, storage_class)
    claim = world.create(PERSISTENTVOLUMECLAIMS, named("data", "default", spec={}))
    assert claim["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    assert claim["spec"]["storageClassName"] == "new"
    mine = world.create(
        PERSISTENTVOLUMECLAIMS, named("b", "default", spec={"storageClassName": ""})
    )
    assert mine["spec"]["storageClassName"] == ""


def test_an_ingress_gets_the_default_class(world: World) -> None:
    default = named("nginx")
    default["metadata"]["annotations"] = {"ingressclass.kubernetes.io/is-default-class": "true"}
    world.registry.put(INGRESSCLASSES, default)
    assert world.create(INGRESSES, named("a", "default", spec={}))["spec"] == {
        "ingressClassName": "nginx"
    }
    old_style = named("b", "default", spec={})
    old_style["metadata"]["annotations"] = {"kubernetes.io/ingress.class": "traefik"}
    assert world.create(INGRESSES, old_style)["spec"] == {}


def test_a_plugin_can_be_left_out_but_must_exist(world: World) -> None:
    import random

    from cluster.apiserver.admission import build_chain

    chain = build_chain(
        world.registry,
        world.authorization,
        world.clock,
        random.Random(1),
        disabled=["ServiceAccount"],
    )
    made = pod()
    chain.admit(world.request("CREATE", PODS, made))
    assert "volumes" not in made["spec"]
    with pytest.raises(ValueError, match="no such admission plugin: Nonsense"):
        build_chain(
            world.registry,
            world.authorization,
            world.clock,
            random.Random(1),
            disabled=["Nonsense"],
        )


def test_status_updates_events_and_leases_meet_no_other_plugin(world: World) -> None:
    from cluster.api.meta import EVENTS, LEASES

    def names(gvr: Any, operation: Any, subresource: str = "") -> list[str]:
        return [p.name for p in world.chain.interested(operation, gvr, subresource)]

    assert names(PODS, "UPDATE", "status") == ["NodeRestriction"]
    assert names(LEASES, "UPDATE") == ["NodeRestriction"]
    assert names(EVENTS, "CREATE") == ["NamespaceLifecycle", "ResourceQuota"]
    assert issubclass(Forbidden, StatusError)
