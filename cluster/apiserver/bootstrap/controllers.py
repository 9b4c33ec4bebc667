"""Roles of the controllers: plays .../rbac/bootstrappolicy/controller_policy.go and
namespace_policy.go. Each is bound to the service account of its name in kube-system."""

from __future__ import annotations

from cluster.api.meta import Object
from cluster.apiserver.authn import groups
from cluster.apiserver.bootstrap.policy import (
    CORE,
    READ,
    cluster_binding,
    cluster_role,
    events_rule,
    role,
    role_binding,
    rule,
)

_PREFIX = "system:controller:"
_APPS = "apps extensions"
_CERTIFICATES = "certificates.k8s.io"
_COORDINATION = "coordination.k8s.io"
_DISCOVERY = "discovery.k8s.io"
_NETWORKING = "networking.k8s.io"
_RESOURCE = "resource.k8s.io"
_STORAGE = "storage.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"
_PODS_OF_OWNER = "list watch create delete patch"


def controller_roles() -> list[Object]:
    rules = {
        **_workloads(),
        **_replicas(),
        **_endpoints(),
        **_volumes(),
        **_nodes(),
        **_cluster(),
        **_security(),
    }
    return [cluster_role(_PREFIX + name, rules[name]) for name in sorted(rules)]


def controller_role_bindings() -> list[Object]:
    bindings = []
    for controller in controller_roles():
        name = controller["metadata"]["name"]
        account = "kube-system/" + name[len(_PREFIX) :]
        bindings.append(cluster_binding(name, [("ServiceAccount", account)]))
    return bindings


def namespace_roles() -> list[Object]:
    system, public = "kube-system", "kube-public"
    return [
        role(
            system,
            "extension-apiserver-authentication-reader",
            [rule(READ, CORE, "configmaps", "extension-apiserver-authentication")],
        ),
        role(system, f"{_PREFIX}bootstrap-signer", [rule(READ, CORE, "secrets")]),
        role(system, f"{_PREFIX}cloud-provider", [rule(f"create {READ}", CORE, "configmaps")]),
        role(
            system,
            f"{_PREFIX}token-cleaner",
            [rule(f"{READ} delete", CORE, "secrets"), events_rule()],
        ),
        _leader_locking("kube-controller-manager"),
        _leader_locking("kube-scheduler"),
        role(
            public,
            f"{_PREFIX}bootstrap-signer",
            [
                rule(READ, CORE, "configmaps"),
                rule("update", CORE, "configmaps", "cluster-info"),
                events_rule(),
            ],
        ),
    ]


def namespace_role_bindings() -> list[Object]:
    system, public = "kube-system", "kube-public"
    manager, scheduler = groups.KUBE_CONTROLLER_MANAGER, groups.KUBE_SCHEDULER
    reader = "extension-apiserver-authentication-reader"
    built = [
        role_binding(system, f"system::{reader}", reader, [("User", manager), ("User", scheduler)])
    ]
    for component, user in (("kube-controller-manager", manager), ("kube-scheduler", scheduler)):
        name = f"system::leader-locking-{component}"
        subjects = [("User", user), ("ServiceAccount", f"{system}/{component}")]
        built.append(role_binding(system, name, name, subjects))
    for account in ("bootstrap-signer", "cloud-provider", "token-cleaner"):
        name = _PREFIX + account
        subjects = [("ServiceAccount", f"{system}/{account}")]
        built.append(role_binding(system, name, name, subjects))
    signer = f"{_PREFIX}bootstrap-signer"
    subjects = [("ServiceAccount", f"{system}/bootstrap-signer")]
    built.append(role_binding(public, signer, signer, subjects))
    return built


def _leader_locking(component: str) -> Object:
    return role(
        "kube-system",
        f"system::leader-locking-{component}",
        [
            rule("watch", CORE, "configmaps"),
            rule("get update", CORE, "configmaps", component),
            rule("get watch list create update", _COORDINATION, "leases"),
        ],
    )


def _workloads() -> dict[str, list[Object]]:
    return {
        "cronjob-controller": [
            rule(f"{READ} update", "batch", "cronjobs"),
            rule(f"{READ} create update delete patch", "batch", "jobs"),
            rule("update", "batch", "cronjobs/status"),
            rule("update", "batch", "cronjobs/finalizers"),
            rule("list watch delete", CORE, "pods"),
            events_rule(),
        ],
        "daemon-set-controller": [
            rule(READ, _APPS, "daemonsets"),
            rule("update", _APPS, "daemonsets/status"),
            rule("update", _APPS, "daemonsets/finalizers"),
            rule("list watch", CORE, "nodes"),
            rule(_PODS_OF_OWNER, CORE, "pods"),
            rule("create", CORE, "pods/binding"),
            rule(f"{READ} create delete update patch", "apps", "controllerrevisions"),
            events_rule(),
        ],
        "deployment-controller": [
            rule(f"{READ} update", _APPS, "deployments"),
            rule("update", _APPS, "deployments/status"),
            rule("update", _APPS, "deployments/finalizers"),
            rule(f"{READ} create update patch delete", _APPS, "replicasets"),
            rule(f"{READ} update", CORE, "pods"),
            events_rule(),
        ],
        "horizontal-pod-autoscaler": [
            rule(READ, "autoscaling", "horizontalpodautoscalers"),
            rule("update", "autoscaling", "horizontalpodautoscalers/status"),
            rule("get update", "*", "*/scale"),
            rule("list watch", CORE, "pods"),
            rule("list watch", "metrics.k8s.io", "pods"),
            rule(READ, "custom.metrics.k8s.io", "*"),
            rule(READ, "external.metrics.k8s.io", "*"),
            events_rule(),
        ],
        "job-controller": [
            rule(f"{READ} update patch", "batch", "jobs"),
            rule("update", "batch", "jobs/status"),
            rule("update", "batch", "jobs/finalizers"),
            rule(_PODS_OF_OWNER, CORE, "pods"),
            events_rule(),
        ],
    }


def _replicas() -> dict[str, list[Object]]:
    return {
        "replicaset-controller": [
            rule(f"{READ} update", _APPS, "replicasets"),
            rule("update", _APPS, "replicasets/status"),
            rule("update", _APPS, "replicasets/finalizers"),
            rule(_PODS_OF_OWNER, CORE, "pods"),
            events_rule(),
        ],
        "replication-controller": [
            rule(f"{READ} update", CORE, "replicationcontrollers"),
            rule("update", CORE, "replicationcontrollers/status"),
            rule("update", CORE, "replicationcontrollers/finalizers"),
            rule(_PODS_OF_OWNER, CORE, "pods"),
            events_rule(),
        ],
        "statefulset-controller": [
            rule("list watch", CORE, "pods"),
            rule(READ, "apps", "statefulsets"),
            rule("update", "apps", "statefulsets/status"),
            rule("update", "apps", "statefulsets/finalizers"),
            rule("get create delete update patch", CORE, "pods"),
            rule("get create delete update patch list watch", "apps", "controllerrevisions"),
            rule("get create list watch", CORE, "persistentvolumeclaims"),
            rule("update delete", CORE, "persistentvolumeclaims"),
            rule("update", CORE, "pods/finalizers"),
            events_rule(),
        ],
        "ttl-after-finished-controller": [
            rule(f"{READ} delete", "batch", "jobs"),
            events_rule(),
        ],
        "disruption-controller": [
            rule(READ, _APPS, "deployments"),
            rule(READ, _APPS, "replicasets"),
            rule(READ, CORE, "replicationcontrollers"),
            rule(READ, "policy", "poddisruptionbudgets"),
            rule(READ, "apps", "statefulsets"),
            rule("update", "policy", "poddisruptionbudgets/status"),
            rule("patch update", CORE, "pods/status"),
            rule("get", "*", "*/scale"),
            events_rule(),
        ],
    }


def _endpoints() -> dict[str, list[Object]]:
    slices = rule(f"{READ} create update delete", _DISCOVERY, "endpointslices")
    finalizers = rule("update", CORE, "services/finalizers")
    return {
        "endpoint-controller": [
            rule(READ, CORE, "services pods"),
            rule(f"{READ} create update delete", CORE, "endpoints"),
            rule("create", CORE, "endpoints/restricted"),
            events_rule(),
        ],
        "endpointslice-controller": [
            rule(READ, CORE, "services pods nodes"),
            finalizers,
            slices,
            events_rule(),
        ],
        "endpointslicemirroring-controller": [
            rule(READ, CORE, "services endpoints"),
            finalizers,
            rule("update", CORE, "endpoints/finalizers"),
            slices,
            events_rule(),
        ],
        "service-controller": [
            rule(READ, CORE, "services"),
            rule("patch update", CORE, "services/status"),
            rule("list watch", CORE, "nodes"),
            events_rule(),
        ],
        "service-cidrs-controller": [
            rule(f"{READ} patch update", _NETWORKING, "servicecidrs"),
            rule("patch update", _NETWORKING, "servicecidrs/finalizers"),
            rule("patch update", _NETWORKING, "servicecidrs/status"),
            rule(READ, _NETWORKING, "ipaddresses"),
            events_rule(),
        ],
    }


def _volumes() -> dict[str, list[Object]]:
    claims = "persistentvolumeclaims"
    return {
        "attachdetach-controller": [
            rule("list watch", CORE, f"persistentvolumes {claims}"),
            rule(READ, CORE, "nodes"),
            rule("patch update", CORE, "nodes/status"),
            rule("list watch", CORE, "pods"),
            events_rule(),
            rule(f"{READ} create delete", _STORAGE, "volumeattachments"),
            rule(READ, _STORAGE, "csidrivers"),
            rule(READ, _STORAGE, "csinodes"),
        ],
        "expand-controller": [
            rule(f"{READ} update patch", CORE, "persistentvolumes"),
            rule("update patch", CORE, f"{claims}/status"),
            rule(READ, CORE, claims),
            events_rule(),
            rule("get", CORE, "services"),
        ],
        "ephemeral-volume-controller": [
            rule(READ, CORE, "pods"),
            rule("update", CORE, "pods/finalizers"),
            rule(f"{READ} create", CORE, claims),
            events_rule(),
        ],
        "resource-claim-controller": [
            rule(READ, CORE, "pods"),
            rule("update", CORE, "pods/finalizers"),
            rule(f"{READ} create delete", _RESOURCE, "resourceclaims"),
            rule("update patch", _RESOURCE, "resourceclaims resourceclaims/status"),
            rule("update patch", CORE, "pods/status"),
            events_rule(),
        ],
        "persistent-volume-binder": [
            rule(f"{READ} update create delete", CORE, "persistentvolumes"),
            rule("update", CORE, "persistentvolumes/status"),
            rule(f"{READ} update", CORE, claims),
            rule("update", CORE, f"{claims}/status"),
            rule(f"{READ} create delete", CORE, "pods"),
            rule(READ, _STORAGE, "storageclasses"),
            rule("list watch", CORE, "nodes"),
            events_rule(),
            rule("watch", CORE, "events"),
            rule("get", CORE, "services"),
        ],
        "pvc-protection-controller": [
            rule(f"{READ} update", CORE, claims),
            rule(READ, CORE, "pods"),
            events_rule(),
        ],
        "pv-protection-controller": [
            rule(f"{READ} update", CORE, "persistentvolumes"),
            events_rule(),
        ],
        "volumeattributesclass-protection-controller": [
            rule(READ, CORE, claims),
            rule(READ, CORE, "persistentvolumes"),
            rule(f"{READ} update", _STORAGE, "volumeattributesclasses"),
            events_rule(),
        ],
        "selinux-warning-controller": [
            events_rule(),
            rule(READ, CORE, "persistentvolumes"),
            rule(READ, CORE, claims),
            rule(READ, CORE, "pods"),
            rule(READ, _STORAGE, "csidrivers"),
        ],
    }


def _nodes() -> dict[str, list[Object]]:
    return {
        "node-controller": [
            rule(f"{READ} update delete patch", CORE, "nodes"),
            rule("patch update", CORE, "nodes/status"),
            rule("patch update", CORE, "pods/status"),
            rule(f"{READ} delete", CORE, "pods"),
            events_rule(),
        ],
        "pod-garbage-collector": [
            rule("list watch delete", CORE, "pods"),
            rule(READ, CORE, "nodes"),
            rule("patch", CORE, "pods/status"),
        ],
        "route-controller": [
            rule("list watch", CORE, "nodes"),
            rule("patch", CORE, "nodes/status"),
            events_rule(),
        ],
        "ttl-controller": [rule("update patch list watch", CORE, "nodes"), events_rule()],
        "device-taint-eviction-controller": [
            rule(f"{READ} delete", CORE, "pods"),
            rule("update patch", CORE, "pods/status"),
            rule(READ, _RESOURCE, "resourceclaims"),
            rule(READ, _RESOURCE, "resourceslices"),
            rule(READ, _RESOURCE, "deviceclasses"),
            rule(READ, _RESOURCE, "devicetaintrules"),
            events_rule(),
        ],
    }


def _cluster() -> dict[str, list[Object]]:
    return {
        "clusterrole-aggregation-controller": [
            rule(f"escalate {READ} update patch", "rbac.authorization.k8s.io", "clusterroles")
        ],
        "generic-garbage-collector": [
            rule(f"{READ} patch update delete", "*", "*"),
            events_rule(),
        ],
        "namespace-controller": [
            rule(f"{READ} delete", CORE, "namespaces"),
            rule("update", CORE, "namespaces/finalize namespaces/status"),
            rule(f"{READ} delete deletecollection", "*", "*"),
        ],
        "resourcequota-controller": [
            rule("list watch", "*", "*"),
            rule("update", CORE, "resourcequotas/status"),
            events_rule(),
        ],
        "validatingadmissionpolicy-status-controller": [
            rule(READ, _ADMISSION, "validatingadmissionpolicies"),
            rule("get patch update", _ADMISSION, "validatingadmissionpolicies/status"),
            events_rule(),
        ],
    }


def _security() -> dict[str, list[Object]]:
    requests = "certificatesigningrequests"
    signers = (
        "kubernetes.io/legacy-unknown kubernetes.io/kube-apiserver-client"
        " kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving"
    )
    return {
        "certificate-controller": [
            rule(f"{READ} delete", _CERTIFICATES, requests),
            rule("update", _CERTIFICATES, f"{requests}/status {requests}/approval"),
            rule(
                "approve", _CERTIFICATES, "signers", "kubernetes.io/kube-apiserver-client-kubelet"
            ),
            rule("sign", _CERTIFICATES, "signers", signers),
            rule("create", "authorization.k8s.io", "subjectaccessreviews"),
            events_rule(),
        ],
        "legacy-service-account-token-cleaner": [
            rule("get", CORE, "configmaps", "kube-apiserver-legacy-service-account-token-tracking"),
            rule("patch delete", CORE, "secrets"),
        ],
        "root-ca-cert-publisher": [rule("create update", CORE, "configmaps"), events_rule()],
        "service-account-controller": [rule("create", CORE, "serviceaccounts"), events_rule()],
    }
