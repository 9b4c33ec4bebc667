"""Which kind has which defaults."""

from __future__ import annotations

from collections.abc import Callable

from cluster.api.defaults import core, pods, policies, storage, workloads
from cluster.api.meta import Object

Default = Callable[[Object], None]

_ADMISSION = "admissionregistration.k8s.io"
_RBAC = "rbac.authorization.k8s.io"
_FLOWCONTROL = "flowcontrol.apiserver.k8s.io"

_BY_KIND: dict[tuple[str, str], Default] = {
    ("", "Pod"): pods.pod,
    ("", "PodTemplate"): core.pod_template_object,
    ("", "Service"): core.service,
    ("", "Secret"): core.secret,
    ("", "Namespace"): core.namespace,
    ("", "Node"): core.node,
    ("", "Endpoints"): core.endpoints,
    ("", "LimitRange"): core.limit_range,
    ("", "ResourceQuota"): core.resource_quota,
    ("", "ReplicationController"): core.replication_controller,
    ("", "PersistentVolume"): storage.persistent_volume,
    ("", "PersistentVolumeClaim"): storage.persistent_volume_claim,
    ("apps", "Deployment"): workloads.deployment,
    ("apps", "ReplicaSet"): workloads.replica_set,
    ("apps", "StatefulSet"): workloads.stateful_set,
    ("apps", "DaemonSet"): workloads.daemon_set,
    ("batch", "Job"): workloads.job,
    ("batch", "CronJob"): workloads.cron_job,
    ("autoscaling", "HorizontalPodAutoscaler"): workloads.horizontal_pod_autoscaler,
    ("networking.k8s.io", "NetworkPolicy"): policies.network_policy,
    ("networking.k8s.io", "IngressClass"): policies.ingress_class,
    ("discovery.k8s.io", "EndpointSlice"): policies.endpoint_slice,
    (_RBAC, "RoleBinding"): policies.role_binding,
    (_RBAC, "ClusterRoleBinding"): policies.role_binding,
    ("scheduling.k8s.io", "PriorityClass"): policies.priority_class,
    ("storage.k8s.io", "StorageClass"): storage.storage_class,
    ("storage.k8s.io", "CSIDriver"): storage.csi_driver,
    (_ADMISSION, "MutatingWebhookConfiguration"): policies.mutating_webhooks,
    (_ADMISSION, "ValidatingWebhookConfiguration"): policies.validating_webhooks,
    (_ADMISSION, "ValidatingAdmissionPolicy"): policies.admission_policy,
    (_ADMISSION, "ValidatingAdmissionPolicyBinding"): policies.admission_policy_binding,
    (_ADMISSION, "MutatingAdmissionPolicy"): policies.admission_policy,
    (_ADMISSION, "MutatingAdmissionPolicyBinding"): policies.admission_policy_binding,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): policies.custom_resource_definition,
    ("apiregistration.k8s.io", "APIService"): policies.api_service,
    (_FLOWCONTROL, "FlowSchema"): policies.flow_schema,
    (_FLOWCONTROL, "PriorityLevelConfiguration"): policies.priority_level,
}

_BY_VERSION: dict[tuple[str, str, str], Default] = {
    ("autoscaling", "v1", "HorizontalPodAutoscaler"): workloads.horizontal_pod_autoscaler_v1,
}


def defaulter(kind: tuple[str, str, str]) -> Default | None:
    """The defaults of (group, version, kind), None where there are none."""
    return _BY_VERSION.get(kind) or _BY_KIND.get((kind[0], kind[2]))
