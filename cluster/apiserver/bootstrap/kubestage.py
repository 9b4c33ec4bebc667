"""Roles that only this emulator has: for the identities that several emulated parts share."""

from __future__ import annotations

from cluster.api.meta import Object
from cluster.apiserver.authn import groups
from cluster.apiserver.bootstrap.controllers import controller_roles
from cluster.apiserver.bootstrap.policy import (
    CORE,
    RBAC_GROUP,
    READ,
    cluster_binding,
    cluster_role,
    events_rule,
    rule,
    urls,
)

_DISCOVERY = "discovery.k8s.io"


def cluster_roles() -> list[Object]:
    """The shared watches of an actor full of kubelets, the DNS server, stage times, and all
    controllers' rules for the user of the manager itself.

    # Unlike Kubernetes: our controllers share the manager's identity instead of a service account
    # each, so that their requests leave in one batch.
    """
    flow = ("/apis/kubestage.io/v1/flow", "/apis/kubestage.io/v1/flow/*")
    shared: list[Object] = []
    for controller in controller_roles():
        shared += [r for r in controller["rules"] if r not in shared]
    return [
        cluster_role(
            "kubestage:kubelet-host",
            [
                rule(READ, CORE, "pods nodes services"),
                rule(READ, "node.k8s.io", "runtimeclasses"),
                rule(READ, "storage.k8s.io", "csidrivers"),
                events_rule(),
            ],
        ),
        cluster_role(
            "system:coredns",
            [
                rule("list watch", CORE, "endpoints services pods namespaces"),
                rule("list watch", _DISCOVERY, "endpointslices"),
                rule("get list watch", CORE, "nodes"),
            ],
        ),
        cluster_role("kubestage:flow-reporter", [urls(" ".join(flow), "get post")]),
        cluster_role(
            "kubestage:flow-viewer",
            [urls(" ".join(flow))],
            {f"{RBAC_GROUP}/aggregate-to-view": "true"},
        ),
        cluster_role("kubestage:controllers", shared),
    ]


def cluster_role_bindings() -> list[Object]:
    return [
        cluster_binding("kubestage:kubelet-host", [("Group", groups.KUBELET_HOSTS)]),
        cluster_binding(
            "system:coredns",
            [("User", groups.DNS), ("ServiceAccount", "kube-system/coredns")],
        ),
        cluster_binding(
            "kubestage:flow-reporter",
            [
                ("Group", groups.KUBELET_HOSTS),
                ("Group", groups.NODES),
                ("User", groups.KUBE_SCHEDULER),
                ("User", groups.KUBE_CONTROLLER_MANAGER),
                ("User", groups.KUBE_PROXY),
                ("User", groups.DNS),
            ],
        ),
        cluster_binding("kubestage:controllers", [("User", groups.KUBE_CONTROLLER_MANAGER)]),
    ]
