"""Whatever fields are missing, admission answers: it never crashes, and what watches the registry
never raises into it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from cluster.api.errors import StatusError
from cluster.api.meta import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    DEPLOYMENTS,
    GVR,
    LIMITRANGES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    PRIORITYCLASSES,
    RESOURCEQUOTAS,
    ROLEBINDINGS,
    ROLES,
    SERVICEACCOUNTS,
    SERVICES,
    Object,
)
from cluster.apiserver.admission.webhooks.configuration import MUTATING, VALIDATING
from tests.admission.conftest import World
from tests.apiserver_auth.fakes import asks, named, node, user

POD = {
    "serviceAccountName": "default",
    "imagePullSecrets": [{"name": "s"}],
    "priorityClassName": "system-node-critical",
    "hostNetwork": True,
    "overhead": {"cpu": "1"},
    "nodeName": "n1",
    "securityContext": {"seccompProfile": {"type": "Unconfined"}, "sysctls": [{"name": "a"}]},
    "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute"}],
    "containers": [
        {
            "name": "c",
            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "envFrom": [{"configMapRef": {"name": "m"}}],
            "ports": [{"hostPort": 80}],
            "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
            "securityContext": {"capabilities": {"add": ["X"]}, "runAsUser": 0},
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "livenessProbe": {"httpGet": {"host": "h", "port": 1}},
        }
    ],
    "initContainers": [{"name": "i", "restartPolicy": "Always", "resources": {"limits": {}}}],
    "volumes": [
        {"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}},
        {"name": "d", "persistentVolumeClaim": {"claimName": "d"}},
        {"name": "h", "hostPath": {"path": "/"}},
    ],
    "affinity": {
        "podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{"namespaceSelector": {}}],
            "preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {}}],
        }
    },
}
RULE = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["a"]}
SUBJECTS = [
    {"kind": "User", "name": "ann"},
    {"kind": "ServiceAccount", "name": "a", "namespace": "b"},
]
WEBHOOK = {
    "name": "w",
    "clientConfig": {"url": "https://127.0.0.1:1"},
    "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}],
    "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
    "objectSelector": {"matchLabels": {"a": "b"}},
}
WHOLE: list[tuple[GVR, Object]] = [
    (PODS, {"spec": POD, "status": {"phase": "Running"}}),
    (DEPLOYMENTS, {"spec": {"template": {"metadata": {}, "spec": POD}}}),
    (NODES, {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
    (SERVICES, {"spec": {"type": "NodePort", "ports": [{"port": 1}]}}),
    (
        PERSISTENTVOLUMECLAIMS,
        {"spec": {"storageClassName": "a", "resources": {"requests": {"storage": "1Gi"}}}},
    ),
    (
        PERSISTENTVOLUMES,
        {"spec": {
            "claimRef": {"namespace": "a", "name": "b"}, "csi": {"nodePublishSecretRef": {}},
        }},
    ),
    (PRIORITYCLASSES, {"value": 1, "globalDefault": True}),
    (SERVICEACCOUNTS, {"secrets": [{"name": "a"}], "imagePullSecrets": [{"name": "b"}]}),
    (
        LIMITRANGES,
        {"spec": {"limits": [{
            "type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "1"}, "default": {"cpu": "1"},
            "maxLimitRequestRatio": {"cpu": "2"},
        }]}},
    ),
    (
        RESOURCEQUOTAS,
        {"spec": {"hard": {"pods": "1", "cpu": "1"}, "scopes": ["BestEffort"], "scopeSelector": {
            "matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["a"]}],
        }}},
    ),
    (ROLES, {"rules": [RULE]}),
    (
        CLUSTERROLES,
        {"rules": [RULE], "aggregationRule": {"clusterRoleSelectors": [
            {"matchExpressions": [{"key": "a", "operator": "Exists"}]},
        ]}},
    ),
    (ROLEBINDINGS, {"roleRef": {"kind": "Role", "name": "a"}, "subjects": SUBJECTS}),
    (CLUSTERROLEBINDINGS, {"roleRef": {"kind": "ClusterRole", "name": "a"}, "subjects": SUBJECTS}),
    (MUTATING, {"webhooks": [WEBHOOK]}),
    (VALIDATING, {"webhooks": [WEBHOOK]}),
    (NAMESPACES, {"status": {"phase": "Active"}}),
]  # fmt: skip
CLUSTER_SCOPED = {
    NODES, PERSISTENTVOLUMES, PRIORITYCLASSES, CLUSTERROLES, CLUSTERROLEBINDINGS, MUTATING,
    VALIDATING, NAMESPACES,
}  # fmt: skip


def thin(value: Any, keep: Callable[[], bool]) -> Any:
    """A copy with parts left out."""
    if isinstance(value, dict):
        return {k: thin(v, keep) for k, v in value.items() if keep()}
    if isinstance(value, list):
        return [thin(v, keep) for v in value if keep()]
    return value


@pytest.mark.parametrize("seed", range(20))
def test_missing_fields_never_crash(world: World, seed: int) -> None:
    chances = random.Random(seed)
    for _ in range(40):
        send_one(world, chances)


def send_one(world: World, chances: random.Random) -> None:
    labelled = chances.random() < 0.5
    gvr, whole = chances.choice(WHOLE)
    obj = thin(whole, lambda: chances.random() < 0.85)
    namespace = "" if gvr in CLUSTER_SCOPED else "default"
    obj.update(named(f"x{chances.randrange(4)}", namespace))
    level = chances.choice(["baseline", "restricted"]) if labelled else "privileged"
    guarded = named("default")
    guarded["metadata"]["labels"] = {
        "pod-security.kubernetes.io/enforce": "privileged",
        "pod-security.kubernetes.io/warn": level,
    }
    world.registry.put(NAMESPACES, guarded)
    old = chances.choice([None, thin(obj, lambda: True)])
    who = chances.choice([user("ann"), node("n1"), user("root", "system:masters")])
    request = world.request("UPDATE" if old else "CREATE", gvr, obj, old, who=who)
    try:
        world.chain.admit(request)
    except StatusError:
        pass
    if gvr != NAMESPACES:
        world.registry.put(gvr, obj)
    for asked in (asks(user("ann"), "get", "pods", "default"), asks(node("n1"), "get", "secrets")):
        world.authorization.authorize(asked)
    world.authorization.rules_for(user("ann"), "default")
    world.chain.waits("CREATE", PODS, "")


@pytest.mark.parametrize("gvr", [RESOURCEQUOTAS, LIMITRANGES])
def test_amounts_that_are_none_do_not_crash_the_registry(world: World, gvr: GVR) -> None:
    limits = [{"type": "Container", "max": {"cpu": "much"}}]
    world.registry.put(
        gvr, named("q", "default", spec={"hard": {"pods": "many"}, "limits": limits})
    )
