"""NodeRestriction: plugin/pkg/admission/noderestriction.

The Node authorizer says which kinds of writes a kubelet may send; here the object itself is looked
at: its own Node, its own Lease, its own pods, tokens for its own pods, and no label or taint that
would draw pods to it.
"""

from __future__ import annotations

from cluster.api.errors import Conflict
from cluster.api.meta import GVR, PODS, Object
from cluster.apiserver.admission.chain import Plugin
from cluster.apiserver.attributes import AdmissionRequest, Operation, Registry
from cluster.apiserver.authn.groups import node_name
from cluster.apiserver.authz.messages import forbidden_resource, quoted
from cluster.apiserver.authz.podreferences import pod_references

_MIRROR = "kubernetes.io/config.mirror"
_LABELS = frozenset(
    (
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    )
)
_LABEL_PREFIXES = ("kubelet.kubernetes.io/", "node.kubernetes.io/")
_RESTRICTED_PREFIX = "node-restriction.kubernetes.io/"

_HANDLED = frozenset(
    (
        ("", "pods", ""),
        ("", "pods", "status"),
        ("", "pods", "eviction"),
        ("", "pods", "ephemeralcontainers"),
        ("", "pods", "resize"),
        ("", "nodes", ""),
        ("", "nodes", "status"),
        ("", "serviceaccounts", "token"),
        ("", "persistentvolumeclaims", "status"),
        ("coordination.k8s.io", "leases", ""),
        ("storage.k8s.io", "csinodes", ""),
    )
)


class NodeRestriction(Plugin):
    name = "NodeRestriction"

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        return operation != "CONNECT" and (gvr.group, gvr.plural, subresource) in _HANDLED

    def admit(self, request: AdmissionRequest) -> None:
        user = request.user
        if not user.name.startswith("system:node:"):
            return
        node = node_name(user.name, user.groups)
        if node is None:
            return
        refusal = self._refusal(node, request)
        if refusal:
            raise forbidden_resource(request.gvr.group, request.gvr.plural, request.name, refusal)

    def _refusal(self, node: str, request: AdmissionRequest) -> str:
        if not node:
            return f"could not determine pod node identity from user {quoted(request.user.name)}"
        plural, subresource = request.gvr.plural, request.subresource
        if plural == "pods":
            return self._pod(node, request)
        if plural == "nodes":
            return _node(node, request)
        if plural == "serviceaccounts":
            return self._token(node, request)
        if plural == "leases":
            return _lease(node, request)
        if plural == "csinodes" and request.name != node:
            return "can only access CSINode with the same name as the requesting node"
        if plural == "persistentvolumeclaims" and subresource == "status":
            return _claim_status(node, request)
        return ""

    def _pod(self, node: str, request: AdmissionRequest) -> str:
        subresource, operation = request.subresource, request.operation
        shown = quoted(node)
        if subresource == "status":
            if (request.old or {}).get("spec", {}).get("nodeName") != node:
                return (
                    f"node {shown} can only update pod status for pods with spec.nodeName set to"
                    " itself"
                )
            if request.obj is not None and request.old is not None:
                new, old = request.obj["metadata"], request.old["metadata"]
                if (new.get("labels") or {}) != (old.get("labels") or {}):
                    return f"node {shown} cannot update labels through pod status"
            return ""
        if subresource == "eviction":
            pod = self._registry.get(PODS, request.namespace, request.name)
            if pod is not None and (pod.get("spec") or {}).get("nodeName") != node:
                return f"node {node} can only evict pods with spec.nodeName set to itself"
            return ""
        if subresource:
            return f"unexpected pod subresource {quoted(subresource)}"
        if operation == "CREATE":
            return _mirror_pod(node, request.obj)
        if operation == "DELETE":
            old = request.old or self._registry.get(PODS, request.namespace, request.name)
            if old is not None and (old.get("spec") or {}).get("nodeName") != node:
                return f"node {shown} can only delete pods with spec.nodeName set to itself"
            return ""
        return f"unexpected operation {quoted(operation)}, node {shown} can only create and delete"

    def _token(self, node: str, request: AdmissionRequest) -> str:
        reference = ((request.obj or {}).get("spec") or {}).get("boundObjectRef")
        if (
            not reference
            or reference.get("kind") != "Pod"
            or reference.get("apiVersion") not in ("v1", "", None)
        ):
            return "node requested token not bound to a pod"
        uid = reference.get("uid")
        if not uid:
            return "node requested token with a pod binding without a uid"
        pod = self._registry.get(PODS, request.namespace, reference.get("name", ""))
        if pod is None:
            return f'pods "{reference.get("name", "")}" not found'
        if pod["metadata"].get("uid") != uid:
            raise Conflict(
                f"the UID in the bound object reference ({uid}) does not match the UID in record."
                " The object might have been deleted and then recreated"
            )
        if (pod.get("spec") or {}).get("nodeName") != node:
            return "node requested token bound to a pod scheduled on a different node"
        return ""


def _mirror_pod(node: str, pod: Object | None) -> str:
    if pod is None:
        return ""
    shown = quoted(node)
    if _MIRROR not in (pod["metadata"].get("annotations") or {}):
        return (
            f"pod does not have {quoted(_MIRROR)} annotation, node {shown} can only create mirror"
            " pods"
        )
    if (pod.get("spec") or {}).get("nodeName") != node:
        return f"node {shown} can only create pods with spec.nodeName set to itself"
    owners = pod["metadata"].get("ownerReferences") or ()
    if len(owners) > 1:
        return f"node {shown} can only create pods with a single owner reference set to itself"
    for owner in owners:
        if owner.get("kind") != "Node" or owner.get("name") != node:
            return f"node {shown} can only create pods with an owner reference set to itself"
        if owner.get("controller"):
            return f"node {shown} cannot create pods with controller owner reference"
    names = {
        "serviceaccount": "a service account",
        "secret": "secrets",
        "configmap": "configmaps",
        "persistentvolumeclaim": "persistentvolumeclaims",
        "resourceclaim": "resourceclaims",
    }
    for kind, _, _ in pod_references(pod):
        return f"node {shown} can not create pods that reference {names[kind]}"
    return ""


def _node(node: str, request: AdmissionRequest) -> str:
    shown = quoted(node)
    if request.operation == "DELETE":
        return f"node {shown} is not allowed to delete nodes"
    name = request.name or (request.obj or {}).get("metadata", {}).get("name", "")
    if name != node:
        return f"node {shown} is not allowed to modify node {quoted(name)}"
    obj, old = request.obj, request.old
    if obj is None:
        return ""
    if (obj.get("spec") or {}).get("configSource"):
        return f"node {shown} is not allowed to set configSource"
    old_meta = (old or {}).get("metadata") or {}
    meta = obj["metadata"]
    labels, old_labels = meta.get("labels") or {}, old_meta.get("labels") or {}
    if labels != old_labels:
        changed = {k for k in (*labels, *old_labels) if labels.get(k) != old_labels.get(k)}
        refused = sorted(k for k in changed if _label_refused(k))
        if refused:
            verb = "set" if request.operation == "CREATE" else "modify"
            what = "the following labels" if request.operation == "CREATE" else "labels"
            return f"node {shown} is not allowed to {verb} {what}: {', '.join(refused)}"
    if request.operation == "UPDATE":
        if (meta.get("ownerReferences") or []) != (old_meta.get("ownerReferences") or []):
            return f"node {shown} is not allowed to modify ownerReferences"
        spec, old_spec = obj.get("spec") or {}, (old or {}).get("spec") or {}
        if not request.subresource and (spec.get("taints") or []) != (old_spec.get("taints") or []):
            return f"node {shown} is not allowed to modify taints"
    return ""


def _label_refused(key: str) -> bool:
    """May a kubelet not set this label on its own node?"""
    if key.startswith(_RESTRICTED_PREFIX):
        return True
    namespace = key.rpartition("/")[0]
    if not namespace.endswith(("kubernetes.io", "k8s.io")):
        return False
    inside = namespace in ("kubernetes.io", "k8s.io") or namespace.endswith(
        (".kubernetes.io", ".k8s.io")
    )
    if not inside:
        return False
    return key not in _LABELS and not any(
        (namespace + "/").endswith(prefix) for prefix in _LABEL_PREFIXES
    )


def _lease(node: str, request: AdmissionRequest) -> str:
    name = request.name or (request.obj or {}).get("metadata", {}).get("name", "")
    if request.namespace != "kube-node-lease":
        return 'can only access leases in the "kube-node-lease" system namespace'
    if name != node:
        return "can only access node lease with the same name as the requesting node"
    return ""


def _claim_status(node: str, request: AdmissionRequest) -> str:
    if request.obj is None or request.old is None:
        return ""
    new, old = dict(request.obj), dict(request.old)
    for obj in (new, old):
        obj.pop("status", None)
        obj["metadata"] = {
            k: v
            for k, v in obj["metadata"].items()
            if k not in ("managedFields", "resourceVersion")
        }
    if new != old:
        return f"node {quoted(node)} is not allowed to update fields other than status"
    return ""
