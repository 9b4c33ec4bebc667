from __future__ import annotations

from typing import Any

import pytest

from cluster.api.errors import Conflict, Forbidden, Invalid, NotFound
from cluster.api.meta import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    DEPLOYMENTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    ROLEBINDINGS,
    ROLES,
    SERVICEACCOUNTS,
    Object,
)
from cluster.apiserver.bootstrap.policy import (
    cluster_binding,
    cluster_role,
    role,
    role_binding,
    rule,
)
from tests.admission.conftest import ANN, World, pod
from tests.apiserver_auth.fakes import named, node, user

N1 = node("n1")
ROOT = user("root", "system:masters")


def refused(world: World, *args: Any, **more: Any) -> str:
    with pytest.raises(Forbidden) as caught:
        world.chain.admit(world.request(*args, **more))
    return caught.value.message


def bound(name: str = "web", to: str = "n1", **meta: Any) -> Object:
    made = pod(name, nodeName=to)
    made["metadata"].update(meta)
    return made


def test_a_kubelet_updates_the_status_of_its_own_pods(world: World) -> None:
    world.chain.admit(world.request("UPDATE", PODS, bound(), bound(), who=N1, subresource="status"))
    theirs = bound(to="n2")
    assert refused(world, "UPDATE", PODS, theirs, theirs, who=N1, subresource="status") == (
        'pods "web" is forbidden: node "n1" can only update pod status for pods with spec.nodeName'
        " set to itself"
    )
    labelled = bound(labels={"a": "b"})
    message = refused(world, "UPDATE", PODS, labelled, bound(), who=N1, subresource="status")
    assert "cannot update labels through pod status" in message


def test_a_kubelet_deletes_its_own_pods(world: World) -> None:
    world.chain.admit(world.request("DELETE", PODS, None, bound(), who=N1))
    message = refused(world, "DELETE", PODS, None, bound(to="n2"), who=N1)
    assert message.endswith('node "n1" can only delete pods with spec.nodeName set to itself')


def test_a_kubelet_creates_mirror_pods_only(world: World) -> None:
    message = refused(world, "CREATE", PODS, bound(), who=N1)
    assert 'pod does not have "kubernetes.io/config.mirror" annotation' in message
    owner = {"kind": "Node", "name": "n1", "apiVersion": "v1", "uid": "u"}
    mirror = bound(annotations={"kubernetes.io/config.mirror": "x"}, ownerReferences=[owner])
    world.chain.admit(world.request("CREATE", PODS, mirror, who=N1))
    assert "volumes" not in mirror["spec"]


def test_a_kubelet_writes_its_own_node(world: World) -> None:
    def labelled(**labels: str) -> Object:
        made = named("n1", spec={})
        made["metadata"]["labels"] = {k.replace("__", "/"): v for k, v in labels.items()}
        return made

    world.chain.admit(world.request("CREATE", NODES, labelled(kubernetes__x="y"), who=N1))
    plain = labelled()
    assert refused(world, "UPDATE", NODES, named("n2"), named("n2"), who=N1) == (
        'nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2"'
    )
    drawn = named("n1", spec={})
    drawn["metadata"]["labels"] = {
        "node-restriction.kubernetes.io/a": "b",
        "own.example.com/c": "d",
    }
    assert refused(world, "UPDATE", NODES, drawn, plain, who=N1).endswith(
        'node "n1" is not allowed to modify labels: node-restriction.kubernetes.io/a'
    )
    fine = named("n1", spec={})
    fine["metadata"]["labels"] = {"kubernetes.io/hostname": "n1", "own.example.com/c": "d"}
    world.chain.admit(world.request("UPDATE", NODES, fine, plain, who=N1))
    tainted = named("n1", spec={"taints": [{"key": "a", "effect": "NoSchedule"}]})
    assert "not allowed to modify taints" in refused(
        world, "UPDATE", NODES, tainted, named("n1", spec={}), who=N1
    )


def test_a_kubelet_renews_its_own_lease(world: World) -> None:
    mine, theirs = named("n1", "kube-node-lease"), named("n2", "kube-node-lease")
    world.chain.admit(world.request("UPDATE", LEASES, mine, mine, who=N1))
    assert "same name as the requesting node" in refused(world, "CREATE", LEASES, theirs, who=N1)


def token_request(name: str, uid: str) -> Object:
    reference = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}
    return named("default", "default", spec={"boundObjectRef": reference})


def test_a_kubelet_asks_for_tokens_of_its_own_pods(world: World) -> None:
    world.registry.put(PODS, bound())
    world.registry.put(PODS, bound("far", "n2"))

    def ask(obj: Object) -> str:
        return refused(world, "CREATE", SERVICEACCOUNTS, obj, who=N1, subresource="token")

    world.chain.admit(
        world.request(
            "CREATE",
            SERVICEACCOUNTS,
            token_request("web", "uid-of-web"),
            who=N1,
            subresource="token",
        )
    )
    assert "not bound to a pod" in ask(named("default", "default", spec={}))
    assert "scheduled on a different node" in ask(token_request("far", "uid-of-far"))
    with pytest.raises(Conflict):
        ask(token_request("web", "another"))


def test_others_are_not_restricted(world: World) -> None:
    world.chain.admit(
        world.request("UPDATE", PODS, bound(to="n2"), bound(to="n2"), subresource="status")
    )


# -- granting what one does not have


def grant(world: World, *rules: Object) -> None:
    world.registry.put(CLUSTERROLES, cluster_role("anns", rules))
    binding = cluster_binding("anns", [("User", "ann")])
    world.registry.put(CLUSTERROLEBINDINGS, binding)


def test_nobody_writes_a_role_with_more_than_they_have(world: World) -> None:
    grant(world, rule("get", "-", "pods"))
    world.create(ROLES, role("default", "small", [rule("get", "-", "pods")]))
    big = role(
        "default", "big", [rule("get list", "-", "pods"), rule("get", "apps", "deployments")]
    )
    assert refused(world, "CREATE", ROLES, big) == (
        'roles.rbac.authorization.k8s.io "big" is forbidden: user "ann"'
        ' (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently'
        ' held:\n{APIGroups:[""], Resources:["pods"], Verbs:["list"]}\n'
        '{APIGroups:["apps"], Resources:["deployments"], Verbs:["get"]}'
    )
    world.chain.admit(world.request("CREATE", ROLES, big, who=ROOT))
    grant(world, rule("escalate", "rbac.authorization.k8s.io", "roles"))
    world.chain.admit(world.request("CREATE", ROLES, big))


def test_an_unchanged_role_may_be_touched(world: World) -> None:
    big = role("default", "big", [rule("*", "*", "*")])
    touched = {**big, "metadata": {**big["metadata"], "finalizers": []}}
    world.chain.admit(world.request("UPDATE", ROLES, touched, big))


def test_nobody_binds_a_role_with_more_than_they_have(world: World) -> None:
    binding = role_binding("default", "b", "view", [("User", "bob")])
    binding["roleRef"]["kind"] = "ClusterRole"
    assert "not currently held" in refused(world, "CREATE", ROLEBINDINGS, binding)
    grant(world, rule("bind", "rbac.authorization.k8s.io", "clusterroles", "view"))
    world.chain.admit(world.request("CREATE", ROLEBINDINGS, binding))
    binding["roleRef"]["name"] = "ghost"
    with pytest.raises(
        NotFound, match=r'clusterroles\.rbac\.authorization\.k8s\.io "ghost" not found'
    ):
        world.chain.admit(world.request("CREATE", ROLEBINDINGS, binding))


# -- PodSecurity


def secured(world: World, **labels: str) -> None:
    made = named("default")
    made["metadata"]["labels"] = {
        f"pod-security.kubernetes.io/{k.replace('_', '-')}": v for k, v in labels.items()
    }
    world.registry.put(NAMESPACES, made)


def test_restricted_refuses_a_plain_pod_in_upstreams_words(world: World) -> None:
    secured(world, enforce="restricted")
    assert refused(world, "CREATE", PODS, pod()) == (
        'pods "web" is forbidden: violates PodSecurity "restricted:latest":'
        ' allowPrivilegeEscalation != false (container "c" must set'
        " securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container"
        ' "c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or'
        ' container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or'
        ' container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or'
        ' "Localhost")'
    )


def test_restricted_lets_a_careful_pod_in(world: World) -> None:
    secured(world, enforce="restricted")
    context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    careful = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    world.create_pod(
        containers=[{"name": "c", "securityContext": context}], securityContext=careful
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"hostNetwork": True, "hostPID": True},
         "host namespaces (hostNetwork=true, hostPID=true)"),
        ({"containers": [{"name": n, "securityContext": {"privileged": True}} for n in "ab"]},
         'privileged (containers "a", "b" must not set securityContext.privileged=true)'),
        ({"containers": [
            {"name": "c", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}},
        ]},
         'non-default capabilities (container "c" must not include "SYS_ADMIN" in'
         " securityContext.capabilities.add)"),
        ({"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}, 'hostPath volumes (volume "h")'),
        ({"containers": [{"name": "c", "ports": [{"hostPort": 80}]}]},
         'hostPort (container "c" uses hostPort 80)'),
        ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
         'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")'),
        ({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
         "forbidden sysctls (kernel.msgmax)"),
        ({"securityContext": {"seLinuxOptions": {"type": "x_t", "role": "r"}}},
         'seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "x_t"; role may'
         " not be set)"),
        ({"containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]},
         'procMount (container "c" must not set securityContext.procMount to "Unmasked")'),
    ],
)  # fmt: skip
def test_baseline_refuses(world: World, spec: Object, message: str) -> None:
    secured(world, enforce="baseline", enforce_version="v1.30")
    assert refused(world, "CREATE", PODS, pod(**spec)) == (
        f'pods "web" is forbidden: violates PodSecurity "baseline:v1.30": {message}'
    )


def test_warnings_come_for_pods_and_for_templates(world: World) -> None:
    secured(world, warn="baseline")
    request = world.request("CREATE", PODS, pod(hostNetwork=True))
    world.chain.admit(request)
    text = 'would violate PodSecurity "baseline:latest": host namespaces (hostNetwork=true)'
    assert request.warnings == [text]
    template = {"spec": pod(hostNetwork=True)["spec"]}
    request = world.request(
        "CREATE", DEPLOYMENTS, named("d", "default", spec={"template": template})
    )
    world.chain.admit(request)
    assert request.warnings == [text]


def test_wrong_levels_are_invalid_and_stricter_ones_warn_of_what_runs(world: World) -> None:
    world.registry.put(PODS, pod("bad", hostNetwork=True))
    namespace = named("default")
    changed = named("default")
    changed["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "strict"}
    with pytest.raises(Invalid, match="must be one of privileged, baseline, restricted"):
        world.chain.admit(world.request("UPDATE", NAMESPACES, changed, namespace, who=ANN))
    changed["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "baseline"}
    request = world.request("UPDATE", NAMESPACES, changed, namespace)
    world.chain.admit(request)
    assert request.warnings == [
        'existing pods in namespace "default" violate the new PodSecurity enforce level'
        ' "baseline:latest"',
        "bad: host namespaces",
    ]
