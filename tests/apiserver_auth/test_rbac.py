from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cluster.api.errors import Forbidden
from cluster.api.meta import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    NAMESPACES,
    ROLEBINDINGS,
    ROLES,
    SERVICES,
    Object,
)
from cluster.apiserver.attributes import UserInfo
from cluster.apiserver.authz import Authorization
from cluster.apiserver.authz.rules import covers, describe_missing
from cluster.apiserver.bootstrap import BootstrapConfig, ensure
from cluster.apiserver.bootstrap.aggregation import ClusterRoleAggregation
from cluster.apiserver.bootstrap.policy import cluster_binding, cluster_role, role_binding, rule
from tests.apiserver_auth.fakes import FakeClock, FakeRegistry, asks, user, visits

GOLDEN = Path(__file__).parent / "golden" / "policy.json"
ANN = user("ann", "dev")
ANONYMOUS = UserInfo("system:anonymous", ("system:unauthenticated",))
SCHEDULER = user("system:kube-scheduler")
MANAGER = user("system:kube-controller-manager")


@pytest.fixture
def registry() -> FakeRegistry:
    registry = FakeRegistry()
    asyncio.run(ensure(registry, BootstrapConfig(), FakeClock()))
    return registry


@pytest.fixture
def authorization(registry: FakeRegistry) -> Authorization:
    return Authorization(registry)


def bind(registry: FakeRegistry, role: str, namespace: str = "", name: str = "ann") -> None:
    if namespace:
        binding = role_binding(namespace, f"{name}-{role}", role, [("User", name)])
        binding["roleRef"]["kind"] = "ClusterRole"
        registry.put(ROLEBINDINGS, binding)
    else:
        binding = cluster_binding(role, [("User", name)])
        binding["metadata"]["name"] = f"{name}-{role}"
        registry.put(CLUSTERROLEBINDINGS, binding)


def test_the_policy_is_the_recorded_one(registry: FakeRegistry) -> None:
    found: dict[str, Any] = {}
    for gvr in (CLUSTERROLES, CLUSTERROLEBINDINGS, ROLES, ROLEBINDINGS):
        for obj in registry.list(gvr):
            meta = obj["metadata"]
            key = "/".join(filter(None, (obj["kind"], meta.get("namespace"), meta["name"])))
            found[key] = {
                k: v for k, v in obj.items() if k not in ("apiVersion", "kind", "metadata")
            }
            assert meta["labels"]["kubernetes.io/bootstrapping"] == "rbac-defaults"
            assert meta["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] == "true"
    assert found == json.loads(GOLDEN.read_text())


def test_bootstrap_twice_writes_nothing_and_repairs_what_was_taken(registry: FakeRegistry) -> None:
    before = registry.writes
    asyncio.run(ensure(registry, BootstrapConfig(), FakeClock()))
    assert registry.writes == before
    stored = registry.get(CLUSTERROLES, "", "system:kube-scheduler")
    assert stored is not None
    mine = rule("get", "example.com", "widgets")
    registry.put(CLUSTERROLES, {**stored, "rules": [*stored["rules"][2:], mine]})
    registry.put(CLUSTERROLEBINDINGS, {**cluster_binding("cluster-admin", [("User", "root")])})
    asyncio.run(ensure(registry, BootstrapConfig(), FakeClock()))
    repaired = registry.get(CLUSTERROLES, "", "system:kube-scheduler")
    assert repaired is not None and mine in repaired["rules"]
    assert covers(repaired["rules"], stored["rules"]) == []
    admins = registry.get(CLUSTERROLEBINDINGS, "", "cluster-admin")
    assert admins is not None
    assert [s["name"] for s in admins["subjects"]] == ["root", "system:masters"]


def test_the_cluster_starts_with_its_namespaces_and_service(registry: FakeRegistry) -> None:
    names = [o["metadata"]["name"] for o in registry.list(NAMESPACES)]
    assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]
    service = registry.get(SERVICES, "default", "kubernetes")
    assert service is not None and service["spec"]["clusterIP"] == "10.96.0.1"


def test_masters_may_do_everything(authorization: Authorization) -> None:
    admin = user("root", "system:masters")
    assert authorization.authorize(asks(admin, "delete", "nodes")).allowed
    assert authorization.authorize(visits(admin, "/anything", "post")).allowed


@pytest.mark.parametrize(
    ("who", "verb", "resource", "namespace", "allowed"),
    [
        (SCHEDULER, "create", "pods/binding", "default", True),
        (SCHEDULER, "list", "nodes", "", True),
        (SCHEDULER, "get", "secrets", "default", False),
        (SCHEDULER, "create", "leases.coordination.k8s.io", "kube-system", True),
        (SCHEDULER, "patch", "pods/status", "default", True),
        (SCHEDULER, "create", "events.events.k8s.io", "default", True),
        (MANAGER, "list", "secrets", "", True),
        (MANAGER, "create", "pods", "default", True),
        (MANAGER, "update", "deployments.apps/status", "default", True),
        (MANAGER, "update", "namespaces/finalize", "", True),
        (MANAGER, "create", "configmaps", "default", True),
        (MANAGER, "create", "endpointslices.discovery.k8s.io", "default", True),
        (MANAGER, "create", "clusterrolebindings.rbac.authorization.k8s.io", "", False),
        (user("system:kube-proxy"), "watch", "endpointslices.discovery.k8s.io", "", True),
        (user("system:kube-proxy"), "list", "pods", "", False),
        (user("system:kubestage:dns"), "watch", "services", "", True),
        (user("system:kubestage:dns"), "list", "secrets", "", False),
        (user("x", "kubestage:kubelet-hosts"), "watch", "pods", "", True),
        (user("x", "kubestage:kubelet-hosts"), "create", "pods", "default", False),
        (ANN, "create", "selfsubjectaccessreviews.authorization.k8s.io", "", True),
        (ANN, "list", "pods", "default", False),
        (ANONYMOUS, "list", "pods", "default", False),
    ],
)
def test_default_roles(
    authorization: Authorization,
    who: UserInfo,
    verb: str,
    resource: str,
    namespace: str,
    allowed: bool,
) -> None:
    for _ in range(2):  # decided, then remembered
        assert authorization.authorize(asks(who, verb, resource, namespace)).allowed is allowed


@pytest.mark.parametrize(
    ("who", "path", "allowed"),
    [
        (ANONYMOUS, "/healthz", True),
        (ANONYMOUS, "/version", True),
        (ANONYMOUS, "/api", False),
        (ANN, "/api/v1", True),
        (ANN, "/openapi/v3/apis/apps/v1", True),
        (ANN, "/metrics", False),
        (user("prometheus", "system:monitoring"), "/metrics", True),
        (UserInfo("sa", ("system:serviceaccounts",)), "/openid/v1/jwks", True),
        (ANN, "/apis/kubestage.io/v1/batch", True),
        (ANONYMOUS, "/apis/kubestage.io/v1/batch", False),
    ],
)
def test_paths(authorization: Authorization, who: UserInfo, path: str, allowed: bool) -> None:
    verb = "post" if path.endswith("batch") else "get"
    assert authorization.authorize(visits(who, path, verb)).allowed is allowed


def test_aggregated_roles_grow_with_what_they_select(
    registry: FakeRegistry, authorization: Authorization
) -> None:
    bind(registry, "view", "default")
    asking = asks(ANN, "get", "widgets.example.com", "default")
    assert authorization.authorize(asks(ANN, "get", "pods", "default")).allowed
    assert not authorization.authorize(asks(ANN, "get", "secrets", "default")).allowed
    assert not authorization.authorize(asks(ANN, "get", "pods", "other")).allowed
    assert not authorization.authorize(asking).allowed
    labels = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    registry.put(CLUSTERROLES, cluster_role("w", [rule("get", "example.com", "widgets")], labels))
    assert authorization.authorize(asking).allowed
    registry.remove(CLUSTERROLES, "", "w")
    assert not authorization.authorize(asking).allowed


def test_aggregated_rules_are_written_into_the_role(registry: FakeRegistry) -> None:
    aggregation = ClusterRoleAggregation(registry)
    assert aggregation.plan() == {}
    labels = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    widgets = rule("get", "example.com", "widgets")
    registry.put(CLUSTERROLES, cluster_role("w", [widgets], labels))
    asyncio.run(aggregation.reconcile())
    for name in ("view", "edit", "admin"):
        role = registry.get(CLUSTERROLES, "", name)
        assert role is not None and widgets in role["rules"]
    registry.remove(CLUSTERROLES, "", "w")
    assert set(aggregation.plan()) == {"view", "edit", "admin"}


def test_admin_includes_edit_includes_view(registry: FakeRegistry) -> None:
    rules = {
        name: registry.get(CLUSTERROLES, "", name)["rules"]  # type: ignore[index]
        for name in ("admin", "edit", "view")
    }
    assert covers(rules["admin"], rules["edit"]) == []
    assert covers(rules["edit"], rules["view"]) == []
    assert covers(rules["edit"], rules["admin"])
    assert rules["view"]


def test_a_verdict_is_forgotten_when_a_binding_goes(
    registry: FakeRegistry, authorization: Authorization
) -> None:
    bind(registry, "edit", "default")
    asking = asks(ANN, "create", "deployments.apps", "default")
    decision = authorization.authorize(asking)
    assert decision.allowed
    assert decision.reason == (
        'RBAC: allowed by RoleBinding "ann-edit/default" of ClusterRole "edit" to User "ann"'
    )
    registry.remove(ROLEBINDINGS, "default", "ann-edit")
    assert not authorization.authorize(asking).allowed


def test_a_named_rule_covers_its_names_only(
    registry: FakeRegistry, authorization: Authorization
) -> None:
    registry.put(CLUSTERROLES, cluster_role("one", [rule("get update", "-", "configmaps", "a b")]))
    bind(registry, "one", "default")
    for _ in range(2):
        for name, allowed in (("a", True), ("c", False), ("", False), ("b", True)):
            asking = asks(ANN, "get", "configmaps", "default", name=name)
            assert authorization.authorize(asking).allowed is allowed


def test_service_accounts_are_subjects(
    registry: FakeRegistry, authorization: Authorization
) -> None:
    binding = role_binding("ci", "b", "view", [("ServiceAccount", "ci/builder")])
    binding["roleRef"]["kind"] = "ClusterRole"
    del binding["subjects"][0]["namespace"]
    registry.put(ROLEBINDINGS, binding)
    builder = user("system:serviceaccount:ci:builder", "system:serviceaccounts")
    assert authorization.authorize(asks(builder, "list", "pods", "ci")).allowed
    other = user("system:serviceaccount:default:builder")
    assert not authorization.authorize(asks(other, "list", "pods", "ci")).allowed


@pytest.mark.parametrize(
    ("asked", "message", "details"),
    [
        (
            asks(ANN, "list", "pods", "default"),
            'pods is forbidden: User "ann" cannot list resource "pods" in API group "" in the'
            ' namespace "default"',
            {"kind": "pods"},
        ),
        (
            asks(ANN, "update", "deployments.apps/scale", "prod", name="web"),
            'deployments.apps "web" is forbidden: User "ann" cannot update resource'
            ' "deployments/scale" in API group "apps" in the namespace "prod"',
            {"name": "web", "group": "apps", "kind": "deployments"},
        ),
        (
            asks(ANN, "get", "nodes", name="n1"),
            'nodes "n1" is forbidden: User "ann" cannot get resource "nodes" in API group "" at the'
            " cluster scope",
            {"name": "n1", "kind": "nodes"},
        ),
        (visits(ANN, "/metrics"), 'forbidden: User "ann" cannot get path "/metrics"', {}),
    ],
)
def test_refusals_are_worded_as_upstream(
    authorization: Authorization, asked: Any, message: str, details: Object
) -> None:
    with pytest.raises(Forbidden) as caught:
        authorization.require(asked)
    assert caught.value.message == message
    assert caught.value.details == details


def test_a_missing_role_is_named_in_the_refusal(
    registry: FakeRegistry, authorization: Authorization
) -> None:
    bind(registry, "ghost", "default")
    with pytest.raises(Forbidden) as caught:
        authorization.require(asks(ANN, "list", "pods", "default"))
    assert caught.value.message.endswith(
        'in the namespace "default": RBAC: clusterrole.rbac.authorization.k8s.io "ghost" not found'
    )


def test_the_rules_review_lists_what_one_may(
    registry: FakeRegistry, authorization: Authorization
) -> None:
    registry.put(CLUSTERROLES, cluster_role("one", [rule("get", "-", "configmaps", "a")]))
    bind(registry, "one", "default")
    status = authorization.rules_for(ANN, "default").to_status()
    assert {
        "verbs": ["get"],
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": ["a"],
    } in status["resourceRules"]
    assert status["incomplete"] is False
    root = authorization.rules_for(user("root", "system:masters"), "default").to_status()
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    assert root["resourceRules"][0] == everything
    kubelet = UserInfo("system:node:n1", ("system:nodes", "system:authenticated"))
    assert authorization.rules_for(kubelet, "default").incomplete


def test_missing_permissions_are_printed_compactly() -> None:
    missing = covers(
        [rule("get", "-", "pods")],
        [rule("get list watch", "- apps", "pods deployments"), rule("get", "-", "secrets", "a")],
    )
    assert describe_missing(missing).splitlines()[0] == (
        '{APIGroups:[""], Resources:["deployments"], Verbs:["get" "list" "watch"]}'
    )
    named = '{APIGroups:[""], Resources:["secrets"], ResourceNames:["a"], Verbs:["get"]}'
    assert named in describe_missing(missing)
    assert describe_missing(covers([rule("*", "*", "*")], [rule("get", "x", "y/z")])) == ""
    assert covers([rule("get", "*", "*/scale")], [rule("get", "apps", "deployments/scale")]) == []
