"""The roles that every cluster has: plays .../authorizer/rbac/bootstrappolicy/policy.go.

Data only. `rule("get list", "apps", "deployments replicasets")` is one PolicyRule.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.api.meta import Object
from cluster.apiserver.authn import groups

RBAC_GROUP = "rbac.authorization.k8s.io"
LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
ANNOTATIONS = {"rbac.authorization.kubernetes.io/autoupdate": "true"}

READ = "get list watch"
WRITE = "create update patch delete deletecollection"
READ_WRITE = f"{READ} {WRITE}"
READ_UPDATE = f"{READ} update patch"
CORE = "-"
"""The core group, whose name '' cannot be written among others in one string."""

_AUTHENTICATION = "authentication.k8s.io"
_AUTHORIZATION = "authorization.k8s.io"
_CERTIFICATES = "certificates.k8s.io"
_COORDINATION = "coordination.k8s.io"
_DISCOVERY = "discovery.k8s.io"
_NETWORKING = "networking.k8s.io"
_STORAGE = "storage.k8s.io"
_RESOURCE = "resource.k8s.io"


def rule(verbs: str, api_groups: str, resources: str, names: str = "") -> Object:
    """A rule over resources; lists are sorted as upstream's are."""
    built: Object = {
        "apiGroups": sorted("" if g == CORE else g for g in api_groups.split()),
        "resources": sorted(resources.split()),
        "verbs": sorted(verbs.split()),
    }
    if names:
        built["resourceNames"] = names.split()
    return built


def urls(paths: str, verbs: str = "get") -> Object:
    """A rule over paths."""
    return {"nonResourceURLs": sorted(paths.split()), "verbs": sorted(verbs.split())}


def events_rule() -> Object:
    return rule("create update patch", f"{CORE} events.k8s.io", "events")


def node_rules() -> list[Object]:
    """What a kubelet may do at all; the Node authorizer narrows it to the node's own objects."""
    return [
        rule("create", _AUTHENTICATION, "tokenreviews"),
        rule("create", _AUTHORIZATION, "subjectaccessreviews localsubjectaccessreviews"),
        rule(READ, CORE, "services"),
        rule("create get list watch", CORE, "nodes"),
        rule("update patch", CORE, "nodes/status"),
        rule("update patch", CORE, "nodes"),
        rule("create update patch", CORE, "events"),
        rule(READ, CORE, "pods"),
        rule("create delete", CORE, "pods"),
        rule("update patch", CORE, "pods/status"),
        rule("create", CORE, "pods/eviction"),
        rule(READ, CORE, "secrets configmaps"),
        rule("get", CORE, "persistentvolumeclaims persistentvolumes"),
        rule("get", CORE, "endpoints"),
        rule("create get list watch", _CERTIFICATES, "certificatesigningrequests"),
        rule("get create update patch delete", _COORDINATION, "leases"),
        rule("get", _STORAGE, "volumeattachments"),
        rule("create", CORE, "serviceaccounts/token"),
        rule("get update patch", CORE, "persistentvolumeclaims/status"),
        rule(READ, _STORAGE, "csidrivers"),
        rule("get create update patch delete", _STORAGE, "csinodes"),
        rule(READ, "node.k8s.io", "runtimeclasses"),
        rule("get", _RESOURCE, "resourceclaims"),
        rule(f"{READ} create update patch delete deletecollection", _RESOURCE, "resourceslices"),
    ]


def cluster_roles() -> list[Object]:
    """Every default ClusterRole but the controllers'. Aggregated rules are not filled in."""
    roles = [
        *_user_roles(),
        *_component_roles(),
        *_control_plane_roles(),
        *_certificate_roles(),
    ]
    return sorted(roles, key=lambda role: str(role["metadata"]["name"]))


def cluster_role_bindings() -> list[Object]:
    everyone = [("Group", groups.ALL_AUTHENTICATED)]
    return [
        cluster_binding("cluster-admin", [("Group", groups.MASTERS)]),
        cluster_binding("system:monitoring", [("Group", "system:monitoring")]),
        cluster_binding("system:discovery", everyone),
        cluster_binding("system:basic-user", everyone),
        cluster_binding(
            "system:public-info-viewer", [*everyone, ("Group", groups.ALL_UNAUTHENTICATED)]
        ),
        cluster_binding("system:node-proxier", [("User", groups.KUBE_PROXY)]),
        cluster_binding(
            "system:kube-controller-manager", [("User", groups.KUBE_CONTROLLER_MANAGER)]
        ),
        cluster_binding("system:kube-dns", [("ServiceAccount", "kube-system/kube-dns")]),
        cluster_binding("system:kube-scheduler", [("User", groups.KUBE_SCHEDULER)]),
        cluster_binding("system:volume-scheduler", [("User", groups.KUBE_SCHEDULER)]),
        cluster_binding("system:node", []),
        cluster_binding(
            "system:service-account-issuer-discovery", [("Group", groups.ALL_SERVICE_ACCOUNTS)]
        ),
    ]


def metadata(name: str, namespace: str = "", **labels: str) -> Object:
    built: Object = {
        "name": name,
        "labels": {**LABELS, **labels},
        "annotations": dict(ANNOTATIONS),
    }
    if namespace:
        built["namespace"] = namespace
    return built


def cluster_role(
    name: str, rules: Sequence[Object], labels: dict[str, str] | None = None
) -> Object:
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": "ClusterRole",
        "metadata": metadata(name, **(labels or {})),
        "rules": list(rules),
    }


def role(namespace: str, name: str, rules: Sequence[Object]) -> Object:
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": "Role",
        "metadata": metadata(name, namespace),
        "rules": list(rules),
    }


def cluster_binding(name: str, subjects: Sequence[tuple[str, str]]) -> Object:
    """Bind the ClusterRole of the same name. A ServiceAccount is 'namespace/name'."""
    built: Object = {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": metadata(name),
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": name},
    }
    if subjects:
        built["subjects"] = [_subject(*subject) for subject in subjects]
    return built


def role_binding(
    namespace: str, name: str, role_name: str, subjects: Sequence[tuple[str, str]]
) -> Object:
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": "RoleBinding",
        "metadata": metadata(name, namespace),
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": "Role", "name": role_name},
        "subjects": [_subject(*subject) for subject in subjects],
    }


def _subject(kind: str, name: str) -> Object:
    if kind == "ServiceAccount":
        namespace, _, account = name.partition("/")
        return {"kind": kind, "name": account, "namespace": namespace}
    return {"apiGroup": RBAC_GROUP, "kind": kind, "name": name}


def _aggregated(name: str, labels: dict[str, str] | None = None) -> Object:
    built = cluster_role(name, [], labels)
    built["aggregationRule"] = {
        "clusterRoleSelectors": [{"matchLabels": {f"{RBAC_GROUP}/aggregate-to-{name}": "true"}}]
    }
    return built


def _user_roles() -> list[Object]:
    to = f"{RBAC_GROUP}/aggregate-to-"
    return [
        cluster_role("cluster-admin", [rule("*", "*", "*"), urls("*", "*")]),
        _aggregated("admin"),
        _aggregated("edit", {f"{to}admin": "true"}),
        _aggregated("view", {f"{to}edit": "true"}),
        cluster_role(
            "system:aggregate-to-admin",
            [
                rule("create", _AUTHORIZATION, "localsubjectaccessreviews"),
                rule(READ_WRITE, RBAC_GROUP, "roles rolebindings"),
            ],
            {f"{to}admin": "true"},
        ),
        cluster_role("system:aggregate-to-edit", _edit_rules(), {f"{to}edit": "true"}),
        cluster_role("system:aggregate-to-view", _view_rules(), {f"{to}view": "true"}),
        cluster_role(
            "system:discovery",
            [
                urls(
                    "/livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/*"
                    " /apis /apis/*"
                )
            ],
        ),
        cluster_role(
            "system:basic-user",
            [
                rule("create", _AUTHORIZATION, "selfsubjectaccessreviews selfsubjectrulesreviews"),
                rule("create", _AUTHENTICATION, "selfsubjectreviews"),
            ],
        ),
        cluster_role(
            "system:public-info-viewer", [urls("/livez /readyz /healthz /version /version/")]
        ),
        cluster_role(
            "system:monitoring",
            [urls("/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*")],
        ),
        cluster_role(
            "system:service-account-issuer-discovery",
            [urls("/.well-known/openid-configuration /openid/v1/jwks")],
        ),
    ]


def _edit_rules() -> list[Object]:
    streams = "pods/attach pods/proxy pods/exec pods/portforward"
    return [
        rule(READ, CORE, f"{streams} secrets services/proxy"),
        rule("impersonate", CORE, "serviceaccounts"),
        rule(WRITE, CORE, f"pods {streams}"),
        rule("create", CORE, "pods/eviction"),
        rule(
            WRITE,
            CORE,
            "replicationcontrollers replicationcontrollers/scale serviceaccounts services"
            " services/proxy persistentvolumeclaims configmaps secrets events",
        ),
        rule("create", CORE, "serviceaccounts/token"),
        rule(
            WRITE,
            "apps",
            "statefulsets statefulsets/scale daemonsets deployments deployments/scale"
            " deployments/rollback replicasets replicasets/scale",
        ),
        rule(WRITE, "autoscaling", "horizontalpodautoscalers"),
        rule(WRITE, "batch", "jobs cronjobs"),
        rule(
            WRITE,
            "extensions",
            "daemonsets deployments deployments/scale deployments/rollback ingresses replicasets"
            " replicasets/scale replicationcontrollers/scale networkpolicies",
        ),
        rule(WRITE, "policy", "poddisruptionbudgets"),
        rule(WRITE, _NETWORKING, "networkpolicies ingresses"),
        rule(READ_WRITE, _COORDINATION, "leases"),
        rule(WRITE, _RESOURCE, "resourceclaims resourceclaimtemplates"),
    ]


def _view_rules() -> list[Object]:
    return [
        rule(
            READ,
            CORE,
            "pods replicationcontrollers replicationcontrollers/scale serviceaccounts services"
            " services/status endpoints persistentvolumeclaims persistentvolumeclaims/status"
            " configmaps",
        ),
        rule(
            READ,
            CORE,
            "limitranges resourcequotas bindings events pods/status resourcequotas/status"
            " namespaces/status replicationcontrollers/status pods/log",
        ),
        rule(READ, CORE, "namespaces"),
        rule(READ, _DISCOVERY, "endpointslices"),
        rule(
            READ,
            "apps",
            "controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets"
            " daemonsets/status deployments deployments/status deployments/scale replicasets"
            " replicasets/status replicasets/scale",
        ),
        rule(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
        rule(READ, "batch", "jobs cronjobs cronjobs/status jobs/status"),
        rule(
            READ,
            "extensions",
            "daemonsets daemonsets/status deployments deployments/scale deployments/status"
            " ingresses ingresses/status replicasets replicasets/scale replicasets/status"
            " replicationcontrollers/scale networkpolicies",
        ),
        rule(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
        rule(READ, _NETWORKING, "networkpolicies ingresses ingresses/status"),
        rule(READ, _RESOURCE, "resourceclaims resourceclaims/status resourceclaimtemplates"),
    ]


def _component_roles() -> list[Object]:
    return [
        cluster_role(
            "system:heapster",
            [
                rule(READ, CORE, "events pods nodes namespaces"),
                rule(READ, "extensions", "deployments"),
            ],
        ),
        cluster_role("system:node", node_rules()),
        cluster_role(
            "system:node-problem-detector",
            [rule("get", CORE, "nodes"), rule("patch", CORE, "nodes/status"), events_rule()],
        ),
        cluster_role(
            "system:kubelet-api-admin",
            [
                rule(READ, CORE, "nodes"),
                rule("proxy", CORE, "nodes"),
                rule(
                    "*",
                    CORE,
                    "nodes/proxy nodes/metrics nodes/stats nodes/log nodes/configz nodes/healthz"
                    " nodes/pods",
                ),
            ],
        ),
        cluster_role(
            "system:auth-delegator",
            [
                rule("create", _AUTHENTICATION, "tokenreviews"),
                rule("create", _AUTHORIZATION, "subjectaccessreviews"),
            ],
        ),
    ]


def _control_plane_roles() -> list[Object]:
    return [
        cluster_role("system:kube-aggregator", [rule(READ, CORE, "services endpoints")]),
        cluster_role("system:kube-controller-manager", _controller_manager_rules()),
        cluster_role("system:kube-scheduler", _scheduler_rules()),
        cluster_role(
            "system:kube-dns",
            [
                rule("list watch", CORE, "endpoints services"),
                rule("list watch", _DISCOVERY, "endpointslices"),
            ],
        ),
        cluster_role(
            "system:persistent-volume-provisioner",
            [
                rule(f"{READ} create delete", CORE, "persistentvolumes"),
                rule(f"{READ} update", CORE, "persistentvolumeclaims"),
                rule(READ, _STORAGE, "storageclasses"),
                rule("watch", CORE, "events"),
                events_rule(),
            ],
        ),
        cluster_role(
            "system:volume-scheduler",
            [
                rule(READ_UPDATE, CORE, "persistentvolumes"),
                rule(READ, _STORAGE, "storageclasses"),
                rule(READ_UPDATE, CORE, "persistentvolumeclaims"),
            ],
        ),
        cluster_role(
            "system:node-proxier",
            [
                rule("list watch", CORE, "services endpoints"),
                rule(READ, CORE, "nodes"),
                events_rule(),
                rule("list watch", _DISCOVERY, "endpointslices"),
                rule("list watch", _NETWORKING, "servicecidrs"),
            ],
        ),
    ]


def _controller_manager_rules() -> list[Object]:
    return [
        events_rule(),
        rule("create", _COORDINATION, "leases"),
        rule("get update", _COORDINATION, "leases", "kube-controller-manager"),
        rule("create", CORE, "secrets serviceaccounts"),
        rule("delete", CORE, "secrets"),
        rule("get", CORE, "namespaces secrets serviceaccounts configmaps"),
        rule("update", CORE, "secrets serviceaccounts"),
        rule("create", _AUTHENTICATION, "tokenreviews"),
        rule("create", _AUTHORIZATION, "subjectaccessreviews"),
        rule("list watch", "*", "*"),
        rule("create", CORE, "serviceaccounts/token"),
    ]


def _scheduler_rules() -> list[Object]:
    return [
        events_rule(),
        rule("create", _COORDINATION, "leases"),
        rule("get list watch update", _COORDINATION, "leases", "kube-scheduler"),
        rule(READ, CORE, "nodes"),
        rule("get list watch delete", CORE, "pods"),
        rule("create", CORE, "pods/binding bindings"),
        rule("patch update", CORE, "pods/status"),
        rule(READ, CORE, "services replicationcontrollers"),
        rule(READ, "apps extensions", "replicasets"),
        rule(READ, "apps", "statefulsets"),
        rule(READ, "policy", "poddisruptionbudgets"),
        rule(READ, CORE, "persistentvolumeclaims persistentvolumes"),
        rule("create", _AUTHENTICATION, "tokenreviews"),
        rule("create", _AUTHORIZATION, "subjectaccessreviews"),
        rule(READ, _STORAGE, "csinodes"),
        rule(READ, CORE, "namespaces"),
        rule(READ, _STORAGE, "csidrivers"),
        rule(READ, _STORAGE, "csistoragecapacities"),
        rule(READ, _STORAGE, "volumeattachments"),
        rule(READ, _RESOURCE, "deviceclasses"),
        rule("get list watch update patch", _RESOURCE, "resourceclaims"),
        rule("update patch", _RESOURCE, "resourceclaims/status"),
        rule(READ, _RESOURCE, "resourceslices"),
    ]


def _certificate_roles() -> list[Object]:
    prefix = "system:certificates.k8s.io:"
    requests = "certificatesigningrequests"
    roles = [
        cluster_role(
            "system:node-bootstrapper", [rule("create get list watch", _CERTIFICATES, requests)]
        )
    ]
    for kind in ("nodeclient", "selfnodeclient"):
        name = f"{prefix}{requests}:{kind}"
        roles.append(cluster_role(name, [rule("create", _CERTIFICATES, f"{requests}/{kind}")]))
    for signer in (
        "legacy-unknown",
        "kubelet-serving",
        "kube-apiserver-client",
        "kube-apiserver-client-kubelet",
    ):
        approve = rule("approve", _CERTIFICATES, "signers", f"kubernetes.io/{signer}")
        roles.append(cluster_role(f"{prefix}{signer}-approver", [approve]))
    return roles
