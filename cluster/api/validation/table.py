"""Tables from (group, kind) to checks."""

from __future__ import annotations

from collections.abc import Callable

from cluster.api import names
from cluster.api.meta import Object
from cluster.api.validation import (
    access,
    configuration,
    drivers,
    extensions,
    flowcontrol,
    jobs,
    networking,
    pod_updates,
    pods,
    policies,
    services,
    storage,
    workloads,
)
from cluster.api.validation.fields import Errors

GroupKind = tuple[str, str]
Check = Callable[[Object, Errors], None]
Transition = Callable[[Object, Object, Errors], None]

_ADMISSION = "admissionregistration.k8s.io"
_FLOWCONTROL = "flowcontrol.apiserver.k8s.io"
_RBAC = "rbac.authorization.k8s.io"


def _any(value: str) -> names.Messages:
    return names.OK


NAMES: dict[GroupKind, names.NameCheck] = {
    ("", "Namespace"): names.dns_label,
    ("", "Service"): names.dns1035_label,
    ("", "Event"): names.path_segment,
    ("events.k8s.io", "Event"): names.path_segment,
    ("apps", "StatefulSet"): names.dns_label,
    (_RBAC, "Role"): names.path_segment,
    (_RBAC, "RoleBinding"): names.path_segment,
    (_RBAC, "ClusterRole"): names.path_segment,
    (_RBAC, "ClusterRoleBinding"): names.path_segment,
    ("apiregistration.k8s.io", "APIService"): names.path_segment,
    ("certificates.k8s.io", "CertificateSigningRequest"): _any,
    ("certificates.k8s.io", "ClusterTrustBundle"): names.path_segment,
    ("networking.k8s.io", "IPAddress"): names.path_segment,
}

# The object apart from its metadata; run on create and on updates that change it.
BODY: dict[GroupKind, Check] = {
    ("", "ConfigMap"): configuration.config_map,
    ("", "Secret"): configuration.secret,
    ("", "Namespace"): configuration.namespace,
    ("", "Node"): configuration.node,
    ("", "LimitRange"): configuration.limit_range,
    ("", "ResourceQuota"): configuration.resource_quota,
    ("", "Event"): configuration.event,
    ("", "Service"): services.service,
    ("", "Endpoints"): services.endpoints,
    ("", "ReplicationController"): workloads.replication_controller,
    ("", "PersistentVolume"): storage.persistent_volume,
    ("", "PersistentVolumeClaim"): storage.persistent_volume_claim,
    ("apps", "Deployment"): workloads.deployment,
    ("apps", "ReplicaSet"): workloads.replica_set,
    ("apps", "StatefulSet"): workloads.stateful_set,
    ("apps", "DaemonSet"): workloads.daemon_set,
    ("apps", "ControllerRevision"): workloads.controller_revision,
    ("batch", "Job"): jobs.job,
    ("batch", "CronJob"): jobs.cron_job,
    ("autoscaling", "HorizontalPodAutoscaler"): policies.horizontal_pod_autoscaler,
    ("policy", "PodDisruptionBudget"): policies.pod_disruption_budget,
    ("scheduling.k8s.io", "PriorityClass"): policies.priority_class,
    ("node.k8s.io", "RuntimeClass"): policies.runtime_class,
    ("coordination.k8s.io", "Lease"): configuration.lease,
    ("discovery.k8s.io", "EndpointSlice"): services.endpoint_slice,
    ("networking.k8s.io", "Ingress"): networking.ingress,
    ("networking.k8s.io", "IngressClass"): networking.ingress_class,
    ("networking.k8s.io", "NetworkPolicy"): networking.network_policy,
    ("storage.k8s.io", "StorageClass"): storage.storage_class,
    ("storage.k8s.io", "CSIDriver"): drivers.csi_driver,
    ("storage.k8s.io", "CSINode"): drivers.csi_node,
    ("storage.k8s.io", "VolumeAttachment"): drivers.volume_attachment,
    ("storage.k8s.io", "VolumeAttributesClass"): drivers.attributes_class,
    (_FLOWCONTROL, "FlowSchema"): flowcontrol.flow_schema,
    (_FLOWCONTROL, "PriorityLevelConfiguration"): flowcontrol.priority_level,
    (_ADMISSION, "ValidatingAdmissionPolicy"): extensions.admission_policy,
    (_ADMISSION, "ValidatingAdmissionPolicyBinding"): extensions.admission_policy_binding,
    (_RBAC, "Role"): access.role,
    (_RBAC, "ClusterRole"): access.cluster_role,
    (_RBAC, "RoleBinding"): access.role_binding,
    (_RBAC, "ClusterRoleBinding"): access.cluster_role_binding,
    (_ADMISSION, "MutatingWebhookConfiguration"): extensions.webhooks,
    (_ADMISSION, "ValidatingWebhookConfiguration"): extensions.webhooks,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): extensions.custom_resource_definition,
    ("apiregistration.k8s.io", "APIService"): extensions.api_service,
    ("certificates.k8s.io", "CertificateSigningRequest"): extensions.signing_request,
}

# Checks of creation only, in place of the body's.
CREATE: dict[GroupKind, Check] = {
    ("", "Pod"): pods.create,
    ("batch", "CronJob"): jobs.cron_job_create,
}

# What may not change.
UPDATE: dict[GroupKind, Transition] = {
    ("", "Pod"): pod_updates.update,
    ("", "ConfigMap"): configuration.config_map_update,
    ("", "Secret"): configuration.secret_update,
    ("", "Node"): configuration.node_update,
    ("", "ResourceQuota"): configuration.resource_quota_update,
    ("", "Service"): services.service_update,
    ("", "PersistentVolume"): storage.persistent_volume_update,
    ("", "PersistentVolumeClaim"): storage.claim_update,
    ("apps", "Deployment"): workloads.selector_update,
    ("apps", "ReplicaSet"): workloads.selector_update,
    ("apps", "DaemonSet"): workloads.selector_update,
    ("apps", "StatefulSet"): workloads.stateful_set_update,
    ("apps", "ControllerRevision"): workloads.controller_revision_update,
    ("batch", "Job"): jobs.job_update,
    ("scheduling.k8s.io", "PriorityClass"): policies.priority_class_update,
    ("node.k8s.io", "RuntimeClass"): policies.runtime_class_update,
    ("discovery.k8s.io", "EndpointSlice"): services.endpoint_slice_update,
    ("networking.k8s.io", "IngressClass"): networking.ingress_class_update,
    ("storage.k8s.io", "StorageClass"): storage.storage_class_update,
    ("storage.k8s.io", "CSIDriver"): drivers.csi_driver_update,
    ("storage.k8s.io", "CSINode"): drivers.csi_node_update,
    ("storage.k8s.io", "VolumeAttachment"): drivers.volume_attachment_update,
    ("storage.k8s.io", "VolumeAttributesClass"): drivers.attributes_class_update,
    (_RBAC, "RoleBinding"): access.binding_update,
    (_RBAC, "ClusterRoleBinding"): access.binding_update,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): (
        extensions.custom_resource_definition_update
    ),
}

# Kinds that say first what may not change, then what is wrong; the others the other way round.
TRANSITION_FIRST: frozenset[GroupKind] = frozenset({
    ("", "Service"), ("", "ConfigMap"), ("", "Secret"), ("apps", "StatefulSet"),
})  # fmt: skip

# Kinds whose transition looks at the body itself, or whose body is not looked at on update.
UPDATE_CHECKS_BODY: frozenset[GroupKind] = frozenset({
    ("", "Pod"), ("", "Node"), ("", "Namespace"), ("", "Event"), ("batch", "Job"),
    ("discovery.k8s.io", "EndpointSlice"),
})  # fmt: skip

SUBRESOURCES: dict[tuple[GroupKind, str], Transition] = {
    (("", "Pod"), "status"): pod_updates.status,
    (("", "Pod"), "ephemeralcontainers"): pod_updates.ephemeral_containers,
    (("", "Pod"), "resize"): pod_updates.resize,
    (("", "Node"), "status"): configuration.node_status,
    (("", "Namespace"), "status"): configuration.namespace_status,
    (("", "Namespace"), "finalize"): configuration.namespace_finalize,
    (("", "ResourceQuota"), "status"): configuration.resource_quota_status,
    (("", "ReplicationController"), "status"): workloads.status,
    (("apps", "Deployment"), "status"): workloads.status,
    (("apps", "ReplicaSet"), "status"): workloads.status,
    (("apps", "StatefulSet"), "status"): workloads.status,
    (("apps", "DaemonSet"), "status"): workloads.status,
    (("batch", "Job"), "status"): jobs.job_status,
    (("policy", "PodDisruptionBudget"), "status"): policies.pod_disruption_budget_status,
}
