"""Which kinds do what: sets of (group, kind) that the strategies of upstream spell out one by
one."""

from __future__ import annotations

from typing import Protocol

GroupKind = tuple[str, str]


class Kinded(Protocol):
    """The part of `catalogue.Resource` that strategies look at."""

    @property
    def group(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def plural(self) -> str: ...
    @property
    def namespaced(self) -> bool: ...


ADMISSION = "admissionregistration.k8s.io"
FLOWCONTROL = "flowcontrol.apiserver.k8s.io"
RBAC = "rbac.authorization.k8s.io"

BUILT_IN_GROUPS = frozenset({
    "", "apps", "batch", "autoscaling", "policy", "networking.k8s.io", "discovery.k8s.io",
    "coordination.k8s.io", "events.k8s.io", "storage.k8s.io", "scheduling.k8s.io", "node.k8s.io",
    "resource.k8s.io", "certificates.k8s.io", "authentication.k8s.io", "authorization.k8s.io",
    "apiextensions.k8s.io", "apiregistration.k8s.io", "internal.apiserver.k8s.io",
    "storagemigration.k8s.io", ADMISSION, FLOWCONTROL, RBAC,
})  # fmt: skip

GENERATION_STARTS_AT_ONE: frozenset[GroupKind] = frozenset({
    ("", "Pod"), ("", "ReplicationController"), ("apps", "Deployment"), ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"), ("apps", "DaemonSet"), ("batch", "Job"), ("batch", "CronJob"),
    ("policy", "PodDisruptionBudget"), ("networking.k8s.io", "Ingress"),
    ("networking.k8s.io", "IngressClass"), ("networking.k8s.io", "NetworkPolicy"),
    ("discovery.k8s.io", "EndpointSlice"), ("scheduling.k8s.io", "PriorityClass"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"), ("resource.k8s.io", "DeviceClass"),
    ("resource.k8s.io", "ResourceSlice"), (ADMISSION, "MutatingWebhookConfiguration"),
    (ADMISSION, "ValidatingWebhookConfiguration"), (ADMISSION, "ValidatingAdmissionPolicy"),
    (ADMISSION, "ValidatingAdmissionPolicyBinding"), (ADMISSION, "MutatingAdmissionPolicy"),
    (ADMISSION, "MutatingAdmissionPolicyBinding"), (FLOWCONTROL, "FlowSchema"),
    (FLOWCONTROL, "PriorityLevelConfiguration"),
})  # fmt: skip

# The field whose change counts a generation, where it is not `spec`.
GENERATION_FIELDS: dict[GroupKind, tuple[str, ...]] = {
    (ADMISSION, "MutatingWebhookConfiguration"): ("webhooks",),
    (ADMISSION, "ValidatingWebhookConfiguration"): ("webhooks",),
    ("discovery.k8s.io", "EndpointSlice"): ("endpoints", "ports", "addressType"),
}

CREATED_BY_UPDATE: frozenset[GroupKind] = frozenset({
    ("", "Endpoints"), ("", "Event"), ("events.k8s.io", "Event"), ("", "LimitRange"),
    ("", "Service"), ("coordination.k8s.io", "Lease"), (RBAC, "Role"), (RBAC, "RoleBinding"),
    (RBAC, "ClusterRole"), (RBAC, "ClusterRoleBinding"),
})  # fmt: skip

UPDATED_ONLY_WITH_RESOURCE_VERSION: frozenset[GroupKind] = frozenset({
    ("coordination.k8s.io", "Lease"), ("policy", "PodDisruptionBudget"),
    ("node.k8s.io", "RuntimeClass"), ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apiregistration.k8s.io", "APIService"), ("storage.k8s.io", "VolumeAttachment"),
    ("storage.k8s.io", "CSINode"), ("storage.k8s.io", "CSIDriver"),
    ("storage.k8s.io", "CSIStorageCapacity"), (ADMISSION, "MutatingWebhookConfiguration"),
    (ADMISSION, "ValidatingWebhookConfiguration"), (ADMISSION, "ValidatingAdmissionPolicy"),
    (ADMISSION, "ValidatingAdmissionPolicyBinding"), (FLOWCONTROL, "FlowSchema"),
    (FLOWCONTROL, "PriorityLevelConfiguration"),
})  # fmt: skip
