"""PrepareForCreate: what the server sets or drops on a new object, by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cluster.api.meta import Object, rfc3339
from cluster.api.preparation.kinds import (
    BUILT_IN_GROUPS,
    GENERATION_STARTS_AT_ONE,
    GroupKind,
    Kinded,
)
from cluster.api.preparation.qos import pod_qos
from cluster.api.preparation.update import normalize_cluster_ips

Prepare = Callable[[Object, float], None]


def prepare(resource: Kinded, obj: Object, now: float) -> None:
    kind = (resource.group, resource.kind)
    if kind in GENERATION_STARTS_AT_ONE:
        obj["metadata"]["generation"] = 1
    status = INITIAL_STATUS.get(kind)
    if status is not None:
        obj["status"] = dict(status)
    special = PREPARE.get(kind)
    if special is not None:
        special(obj, now)
    elif resource.group not in BUILT_IN_GROUPS:
        _custom_resource(resource, obj)


def _custom_resource(resource: Kinded, obj: Object) -> None:
    if "status" in getattr(resource, "subresources", ()):
        obj.pop("status", None)
    obj["metadata"]["generation"] = 1


def _pod(pod: Object, now: float) -> None:
    spec = pod["spec"]
    status: Object = {"phase": "Pending", "qosClass": pod_qos(spec)}
    if spec.get("schedulingGates"):
        status["conditions"] = [{
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": None,
            "lastTransitionTime": None,
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]  # fmt: skip
    pod["status"] = status
    labels = pod["metadata"].get("labels") or {}
    affinity = spec.get("affinity")
    if affinity and labels:
        _merge_affinity_keys(affinity, labels)
    for constraint in spec.get("topologySpreadConstraints") or ():
        _merge_match_label_keys(constraint, labels)


def _merge_affinity_keys(affinity: Object, labels: Mapping[str, str]) -> None:
    """Turn matchLabelKeys of pod (anti-)affinity into requirements, from this pod's own labels."""
    for side in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(side) or {}
        for term in rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ():
            _merge_match_label_keys(term, labels)
        for weighted in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            _merge_match_label_keys(weighted.get("podAffinityTerm") or {}, labels)


def _merge_match_label_keys(term: Object, labels: Mapping[str, str]) -> None:
    selector = term.get("labelSelector")
    if selector is None:
        return
    for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
        for key in term.get(field) or ():
            if key in labels:
                requirement = {"key": key, "operator": operator, "values": [labels[key]]}
                selector.setdefault("matchExpressions", []).append(requirement)


def _namespace(namespace: Object, now: float) -> None:
    spec = namespace.setdefault("spec", {})
    finalizers = spec.setdefault("finalizers", [])
    if "kubernetes" not in finalizers:
        finalizers.append("kubernetes")


def _daemon_set(daemon_set: Object, now: float) -> None:
    annotations = daemon_set["metadata"].setdefault("annotations", {})
    annotations["deprecated.daemonset.template.generation"] = "1"


def _job(job: Object, now: float) -> None:
    """Own the pods: a selector on the Job's uid, unless the user brings one by `manualSelector`."""
    spec = job["spec"]
    metadata = job["metadata"]
    uid = metadata.get("uid")
    if spec.get("manualSelector") or not uid:
        return
    template = spec.setdefault("template", {})
    labels = template.setdefault("metadata", {}).setdefault("labels", {})
    for prefix in ("", "batch.kubernetes.io/"):
        labels.setdefault(f"{prefix}controller-uid", uid)
        labels.setdefault(f"{prefix}job-name", metadata.get("name", ""))
    if not metadata.get("labels"):
        metadata["labels"] = dict(labels)
    selector = spec.get("selector")
    if selector is None:
        selector = spec["selector"] = {}
    selector.setdefault("matchLabels", {}).setdefault("batch.kubernetes.io/controller-uid", uid)


def _persistent_volume(volume: Object, now: float) -> None:
    volume["status"]["lastPhaseTransitionTime"] = rfc3339(now)


def _custom_resource_definition(crd: Object, now: float) -> None:
    versions = crd["spec"].get("versions") or ()
    stored = [v["name"] for v in versions if v.get("storage")]
    crd["status"] = {"conditions": [], "acceptedNames": {"plural": "", "kind": ""}}
    crd["status"]["storedVersions"] = stored


def _service(service: Object, now: float) -> None:
    service["status"] = {"loadBalancer": {}}
    normalize_cluster_ips(service["spec"], None)


def _ingress(ingress: Object, now: float) -> None:
    ingress["status"] = {"loadBalancer": {}}


def _resource_quota(quota: Object, now: float) -> None:
    quota["status"] = {}


PREPARE: dict[GroupKind, Prepare] = {
    ("", "Pod"): _pod,
    ("", "Namespace"): _namespace,
    ("", "Service"): _service,
    ("", "PersistentVolume"): _persistent_volume,
    ("", "ResourceQuota"): _resource_quota,
    ("apps", "DaemonSet"): _daemon_set,
    ("batch", "Job"): _job,
    ("networking.k8s.io", "Ingress"): _ingress,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _custom_resource_definition,
}

# Status of a new object, as an empty Go struct of that kind is written out.
INITIAL_STATUS: dict[GroupKind, Object] = {
    ("", "Namespace"): {"phase": "Active"},
    ("", "PersistentVolume"): {"phase": "Pending"},
    ("", "PersistentVolumeClaim"): {"phase": "Pending"},
    ("", "ReplicationController"): {"replicas": 0},
    ("apps", "Deployment"): {},
    ("apps", "ReplicaSet"): {"replicas": 0},
    ("apps", "StatefulSet"): {"replicas": 0, "availableReplicas": 0},
    ("apps", "DaemonSet"): {
        "currentNumberScheduled": 0,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 0,
        "numberReady": 0,
    },
    ("batch", "Job"): {},
    ("batch", "CronJob"): {},
    ("autoscaling", "HorizontalPodAutoscaler"): {"desiredReplicas": 0, "currentMetrics": None},
    ("policy", "PodDisruptionBudget"): {
        "disruptionsAllowed": 0,
        "currentHealthy": 0,
        "desiredHealthy": 0,
        "expectedPods": 0,
    },
    ("certificates.k8s.io", "CertificateSigningRequest"): {},
    ("apiregistration.k8s.io", "APIService"): {},
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"): {},
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"): {},
    ("storage.k8s.io", "VolumeAttachment"): {"attached": False},
    ("networking.k8s.io", "ServiceCIDR"): {},
    ("resource.k8s.io", "ResourceClaim"): {},
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): {},
}
