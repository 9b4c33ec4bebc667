"""Where a DaemonSet's pods belong, and what such a pod looks like.

Plays NodeShouldRunDaemonPod and util.CreatePodTemplate of pkg/controller/daemon.
"""

from __future__ import annotations

from cluster.api.meta import Object
from cluster.controllers.nodematch import matches_node_affinity, untolerated
from cluster.controllers.ownership import Kind, controller_ref
from cluster.controllers.podtemplate import pod_from_template

KIND = Kind("apps/v1", "DaemonSet")
HASH_LABEL = "controller-revision-hash"
GENERATION_LABEL = "pod-template-generation"
_TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
_NETWORK = ("node.kubernetes.io/network-unavailable", "NoSchedule")


def daemon_tolerations(spec: Object) -> list[Object]:
    """A template's tolerations and those that every daemon pod has."""
    found = list(spec.get("tolerations") or ())
    wanted = (*_TOLERATED, _NETWORK) if spec.get("hostNetwork") else _TOLERATED
    for key, effect in wanted:
        entry = {"key": key, "operator": "Exists", "effect": effect}
        if entry not in found:
            found.append(entry)
    return found


def placement(daemon_set: Object, node: Object) -> tuple[bool, bool]:
    """(should run here, may go on running here)."""
    spec = daemon_set["spec"]["template"]["spec"]
    if spec.get("nodeName") not in (None, "", node["metadata"]["name"]):
        return False, False
    if not matches_node_affinity(spec, node):
        return False, False
    taints = node.get("spec", {}).get("taints") or ()
    tolerations = daemon_tolerations(spec)
    if untolerated(taints, tolerations, ("NoExecute", "NoSchedule")):
        return False, not untolerated(taints, tolerations, ("NoExecute",))
    return True, True


def make_pod(daemon_set: Object, node: str, digest: str) -> Object:
    """The pod for a node: pinned to it by affinity, so that the scheduler still has its say."""
    meta = daemon_set["metadata"]
    template = daemon_set["spec"]["template"]
    name = f"{meta['name']}-"
    pod = pod_from_template(template, controller_ref(daemon_set, KIND), generate_name=name)
    generation = (meta.get("annotations") or {}).get("deprecated.daemonset.template.generation")
    labels = {**(pod["metadata"].get("labels") or {}), HASH_LABEL: digest}
    if generation:
        labels[GENERATION_LABEL] = generation
    pod["metadata"]["labels"] = labels
    spec = dict(pod["spec"])
    spec["tolerations"] = daemon_tolerations(spec)
    affinity = dict(spec.get("affinity") or {})
    pinned = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    node_affinity = dict(affinity.get("nodeAffinity") or {})
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = (node_affinity.get(key) or {}).get("nodeSelectorTerms")
    node_affinity[key] = {
        "nodeSelectorTerms": [{**t, **pinned} for t in terms] if terms else [pinned]
    }
    affinity["nodeAffinity"] = node_affinity
    spec["affinity"] = affinity
    pod["spec"] = spec
    return pod


def node_of(pod: Object) -> str:
    """The node that a daemon pod is bound to or pinned to."""
    spec = pod.get("spec") or {}
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field["key"] == "metadata.name" and field.get("values"):
                return str(field["values"][0])
    return ""
