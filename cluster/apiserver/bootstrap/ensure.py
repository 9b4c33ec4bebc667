"""Create the objects that every cluster has, in the order in which they need each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from cluster.api.errors import AlreadyExists
from cluster.api.meta import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    CONFIGMAPS,
    ENDPOINTS,
    ENDPOINTSLICES,
    GVR,
    NAMESPACES,
    PRIORITYCLASSES,
    ROLEBINDINGS,
    ROLES,
    SERVICES,
    Clock,
    Object,
)
from cluster.apiserver.attributes import Registry
from cluster.apiserver.authz.aggregation import aggregated_rules
from cluster.apiserver.authz.rules import covers
from cluster.apiserver.bootstrap import controllers, kubestage, policy
from cluster.apiserver.bootstrap.aggregation import ClusterRoleAggregation

SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


@dataclass(frozen=True, slots=True)
class BootstrapConfig:
    """Addresses of the API server as pods see it, and what else it puts into the cluster.

    `advertise_addresses` are the end points behind `service_ip`; `extra` are (GVR, object) pairs.
    """

    service_ip: str = "10.96.0.1"
    advertise_addresses: tuple[str, ...] = ("127.0.0.1",)
    port: int = 6443
    client_ca_pem: str = ""
    cluster_domain: str = "cluster.local"
    extra: Sequence[tuple[GVR, Object]] = field(default_factory=tuple)


async def ensure(registry: Registry, config: BootstrapConfig, clock: Clock) -> None:
    """Idempotent: what is there and right is left alone. One commit a group of objects. From then
    on, aggregated ClusterRoles are kept current."""
    await _together([_create(registry, NAMESPACES, namespace(n)) for n in SYSTEM_NAMESPACES])
    roles = [*policy.cluster_roles(), *controllers.controller_roles(), *kubestage.cluster_roles()]
    for role in roles:
        if role.get("aggregationRule"):
            role["rules"] = aggregated_rules(role, roles)
    bindings = [
        *policy.cluster_role_bindings(),
        *controllers.controller_role_bindings(),
        *kubestage.cluster_role_bindings(),
    ]
    await _together(
        [
            *(_reconcile(registry, CLUSTERROLES, o, _merge_rules) for o in roles),
            *(_reconcile(registry, CLUSTERROLEBINDINGS, o, _merge_subjects) for o in bindings),
            *(_reconcile(registry, ROLES, o, _merge_rules) for o in controllers.namespace_roles()),
            *(
                _reconcile(registry, ROLEBINDINGS, o, _merge_subjects)
                for o in controllers.namespace_role_bindings()
            ),
            *(_create(registry, PRIORITYCLASSES, o) for o in priority_classes()),
            *(_create(registry, CONFIGMAPS, o) for o in _configmaps(config)),
            _create(registry, SERVICES, kubernetes_service(config)),
            _reconcile(registry, ENDPOINTSLICES, kubernetes_slice(config), _replace("endpoints")),
            _reconcile(registry, ENDPOINTS, kubernetes_endpoints(config), _replace("subsets")),
            *(_create(registry, gvr, o) for gvr, o in config.extra),
        ]
    )
    ClusterRoleAggregation(registry)


def namespace(name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def priority_classes() -> list[Object]:
    described = (
        ("system-node-critical", 2000001000, "must not be moved from their current node."),
        ("system-cluster-critical", 2000000000, "must run in the cluster, but can be moved to"
         " another node if necessary."),
    )  # fmt: skip
    return [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name, "generation": 1},
            "value": value,
            "description": f"Used for system critical pods that {rest}",
            "preemptionPolicy": "PreemptLowerPriority",
        }
        for name, value, rest in described
    ]


def kubernetes_service(config: BootstrapConfig) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": config.service_ip,
            "clusterIPs": [config.service_ip],
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": config.port}],
            "sessionAffinity": "None",
            "type": "ClusterIP",
        },
        "status": {"loadBalancer": {}},
    }


def kubernetes_slice(config: BootstrapConfig) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "generation": 1,
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": True}}
            for address in config.advertise_addresses
        ],
        "ports": [{"name": "https", "port": config.port, "protocol": "TCP"}],
    }


def kubernetes_endpoints(config: BootstrapConfig) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [
            {
                "addresses": [{"ip": address} for address in config.advertise_addresses],
                "ports": [{"name": "https", "port": config.port, "protocol": "TCP"}],
            }
        ],
    }


def _configmaps(config: BootstrapConfig) -> list[Object]:
    if not config.client_ca_pem:
        return []
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
            "data": {"client-ca-file": config.client_ca_pem},
        }
    ]


_Merge = Callable[[Object, Object], Object | None]
"""(stored, wanted) -> the object to store, None: as it is."""


async def _create(registry: Registry, gvr: GVR, obj: Object) -> None:
    meta = obj["metadata"]
    namespace_ = meta.get("namespace", "")
    if registry.get(gvr, namespace_, meta["name"]) is not None:
        return
    try:
        await registry.create(gvr, namespace_, obj)
    except AlreadyExists:
        return


async def _reconcile(registry: Registry, gvr: GVR, wanted: Object, merge: _Merge) -> None:
    meta = wanted["metadata"]
    namespace_, name = meta.get("namespace", ""), meta["name"]
    stored = registry.get(gvr, namespace_, name)
    if stored is None:
        await _create(registry, gvr, wanted)
        return
    annotation = "rbac.authorization.kubernetes.io/autoupdate"
    if (stored["metadata"].get("annotations") or {}).get(annotation) == "false":
        return
    if merge(orjson.loads(orjson.dumps(stored)), wanted) is not None:
        await registry.update(gvr, namespace_, name, lambda current: merge(current, wanted))


def _merge_rules(stored: Object, wanted: Object) -> Object | None:
    changed = _merge_metadata(stored, wanted)
    if not stored.get("aggregationRule"):
        missing = covers(stored.get("rules") or (), wanted.get("rules") or ())
        if missing:
            stored["rules"] = [*(stored.get("rules") or ()), *missing]
            changed = True
    return stored if changed else None


def _merge_subjects(stored: Object, wanted: Object) -> Object | None:
    changed = _merge_metadata(stored, wanted)
    have = stored.get("subjects") or []
    missing = [subject for subject in wanted.get("subjects") or () if subject not in have]
    if missing:
        stored["subjects"] = [*have, *missing]
        changed = True
    return stored if changed else None


def _merge_metadata(stored: Object, wanted: Object) -> bool:
    changed = False
    for key in ("labels", "annotations"):
        have = stored["metadata"].get(key) or {}
        lacking = {k: v for k, v in wanted["metadata"][key].items() if k not in have}
        if lacking:
            stored["metadata"][key] = {**have, **lacking}
            changed = True
    return changed


def _replace(field_: str) -> _Merge:
    def merge(stored: Object, wanted: Object) -> Object | None:
        if stored.get(field_) == wanted[field_]:
            return None
        return {**stored, field_: wanted[field_]}

    return merge


async def _together(steps: Sequence[Coroutine[Any, Any, None]]) -> None:
    """All in one turn of the loop, so that the store commits them together."""
    await asyncio.gather(*steps)
