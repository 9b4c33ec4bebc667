from __future__ import annotations

import asyncio

import pytest

from cluster.api.errors import Forbidden
from cluster.api.meta import PERSISTENTVOLUMES, PODS, Object
from cluster.apiserver.authz import Authorization
from cluster.apiserver.bootstrap import BootstrapConfig, ensure
from tests.apiserver_auth.fakes import FakeClock, FakeRegistry, asks, named, node, user

N1, N2 = node("n1"), node("n2")


def pod(name: str = "web", node_name: str = "n1", uid: str = "u1") -> Object:
    return named(
        name,
        "default",
        uid,
        spec={
            "nodeName": node_name,
            "serviceAccountName": "builder",
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "init-cm"}}]}],
            "containers": [
                {
                    "name": "c",
                    "env": [
                        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "env-s"}}},
                        {"name": "B", "value": "b"},
                    ],
                }
            ],
            "volumes": [
                {"name": "s", "secret": {"secretName": "vol-s"}},
                {"name": "p", "projected": {"sources": [
                    {"configMap": {"name": "kube-root-ca.crt"}}, {"secret": {"name": "proj-s"}},
                ]}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "e", "ephemeral": {"volumeClaimTemplate": {}}},
            ],
        },
    )  # fmt: skip


@pytest.fixture
def registry() -> FakeRegistry:
    registry = FakeRegistry()
    asyncio.run(ensure(registry, BootstrapConfig(), FakeClock()))
    return registry


@pytest.fixture
def authorization(registry: FakeRegistry) -> Authorization:
    authorization = Authorization(registry)
    registry.put(PODS, pod())
    return authorization


USES = [
    ("get", "secrets", "pull"),
    ("get", "secrets", "env-s"),
    ("watch", "secrets", "vol-s"),
    ("list", "secrets", "proj-s"),
    ("get", "configmaps", "init-cm"),
    ("get", "configmaps", "kube-root-ca.crt"),
    ("get", "persistentvolumeclaims", "data"),
    ("get", "persistentvolumeclaims", "web-e"),
    ("create", "serviceaccounts/token", "builder"),
    ("get", "pods", "web"),
]


@pytest.mark.parametrize(("verb", "resource", "name"), USES)
def test_a_node_may_use_what_its_pods_use_and_others_may_not(
    registry: FakeRegistry, authorization: Authorization, verb: str, resource: str, name: str
) -> None:
    def allowed(who: object) -> bool:
        return authorization.authorize(asks(who, verb, resource, "default", name=name)).allowed  # type: ignore[arg-type]

    assert allowed(N1) and not allowed(N2) and not allowed(user("system:node:n1"))
    registry.remove(PODS, "default", "web")
    assert not allowed(N1)


def test_two_pods_share_a_secret_until_the_last_is_gone(
    registry: FakeRegistry, authorization: Authorization
) -> None:
    asking = asks(N1, "get", "secrets", "default", name="pull")
    registry.put(PODS, pod("web2", uid="u2"))
    registry.remove(PODS, "default", "web")
    assert authorization.authorize(asking).allowed
    registry.put(PODS, pod("web2", "n2", uid="u3"))  # deleted and made again, elsewhere
    assert not authorization.authorize(asking).allowed


def test_a_pod_counts_from_its_binding_on(
    registry: FakeRegistry, authorization: Authorization
) -> None:
    waiting = pod("late", "", "u9")
    waiting["spec"]["imagePullSecrets"] = [{"name": "late-s"}]
    asking = asks(N2, "get", "secrets", "default", name="late-s")
    registry.put(PODS, waiting)
    assert not authorization.authorize(asking).allowed
    registry.put(PODS, {**waiting, "spec": {**waiting["spec"], "nodeName": "n2"}})
    assert authorization.authorize(asking).allowed


def test_a_volume_is_reached_through_its_claim(
    registry: FakeRegistry, authorization: Authorization
) -> None:
    asking = asks(N1, "get", "persistentvolumes", name="pv1")
    assert not authorization.authorize(asking).allowed
    claim = {"namespace": "default", "name": "data"}
    registry.put(PERSISTENTVOLUMES, named("pv1", spec={"claimRef": claim}))
    assert authorization.authorize(asking).allowed
    registry.put(PERSISTENTVOLUMES, named("pv1", spec={}))
    assert not authorization.authorize(asking).allowed


@pytest.mark.parametrize(
    ("verb", "resource", "namespace", "name", "field_selector", "allowed"),
    [
        ("get", "nodes", "", "n1", "", True),
        ("get", "nodes", "", "n2", "", False),
        ("watch", "nodes", "", "", "metadata.name=n1", True),
        ("list", "nodes", "", "", "", False),
        ("create", "nodes", "", "", "", True),
        ("patch", "nodes/status", "", "n1", "", True),
        ("patch", "nodes/status", "", "n2", "", False),
        ("delete", "nodes", "", "n1", "", False),
        ("list", "pods", "", "", "spec.nodeName=n1", True),
        ("list", "pods", "", "", "spec.nodeName=n2", False),
        ("list", "pods", "default", "", "", False),
        ("patch", "pods/status", "default", "web", "", True),
        ("delete", "pods", "default", "web", "", True),
        ("update", "pods", "default", "web", "", False),
        ("create", "pods/binding", "default", "web", "", False),
        ("create", "events", "default", "", "", True),
        ("list", "services", "", "", "", True),
        ("list", "secrets", "", "", "", False),
        ("update", "leases.coordination.k8s.io", "kube-node-lease", "n1", "", True),
        ("create", "leases.coordination.k8s.io", "kube-node-lease", "", "", True),
        ("update", "leases.coordination.k8s.io", "kube-node-lease", "n2", "", False),
        ("update", "leases.coordination.k8s.io", "kube-system", "n1", "", False),
        ("get", "csinodes.storage.k8s.io", "", "n1", "", True),
        ("get", "runtimeclasses.node.k8s.io", "", "kata", "", True),
        ("list", "deployments.apps", "default", "", "", False),
    ],
)
def test_a_node_writes_its_own_objects_only(
    authorization: Authorization,
    verb: str,
    resource: str,
    namespace: str,
    name: str,
    field_selector: str,
    allowed: bool,
) -> None:
    asking = asks(N1, verb, resource, namespace, name=name, field_selector=field_selector)
    for _ in range(2):
        assert authorization.authorize(asking).allowed is allowed


def test_the_refusal_says_why(authorization: Authorization) -> None:
    with pytest.raises(Forbidden) as caught:
        authorization.require(asks(N2, "get", "secrets", "default", name="pull"))
    assert caught.value.message == (
        'secrets "pull" is forbidden: User "system:node:n2" cannot get resource "secrets" in API'
        ' group "" in the namespace "default": no relationship found between node \'n2\' and this'
        " object"
    )


def test_a_member_of_the_nodes_without_a_name_gets_nothing(authorization: Authorization) -> None:
    assert not authorization.authorize(asks(node(""), "list", "services")).allowed
