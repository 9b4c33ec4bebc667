"""The Node authorizer: plays plugin/pkg/auth/authorizer/node.

A kubelet may read what its own pods use, and write its own Node, Lease, CSINode and its pods'
status. What a pod uses is counted per node when the pod is bound, and uncounted when it goes.
NodeRestriction (admission) checks the rest.
"""

from __future__ import annotations

from cluster.api.meta import PERSISTENTVOLUMES, PODS, Object
from cluster.apiserver.attributes import Attributes, Decision, Registry
from cluster.apiserver.authn.groups import node_name
from cluster.apiserver.authz.podreferences import Reference, pod_references
from cluster.apiserver.authz.rules import rule_allows
from cluster.apiserver.bootstrap.policy import node_rules

_ALLOWED = Decision(True, "")
_NO_OPINION = Decision(False, "")
_READ = frozenset(("get", "list", "watch"))
_OWN_OBJECT_VERBS = frozenset(("get", "create", "update", "patch", "delete"))
_CACHE_SIZE = 4_096

_READ_KINDS = {"secrets": "secret", "configmaps": "configmap"}


class NodeAuthorizer:
    def __init__(self, registry: Registry) -> None:
        self._rules = node_rules()
        self._by_rules: dict[tuple[str, ...], bool] = {}
        self._pods: dict[str, tuple[str, str, tuple[Reference, ...]]] = {}
        self._uses: dict[str, dict[Reference, int]] = {}
        # namespace/claim -> (volume, secrets of the volume)
        self._volumes: dict[str, tuple[str, tuple[Reference, ...]]] = {}
        registry.subscribe(PODS, self._handle_pod)
        registry.subscribe(PERSISTENTVOLUMES, self._handle_volume)

    def authorize(self, attributes: Attributes) -> Decision:
        node = node_name(attributes.user.name, attributes.user.groups)
        if node is None:
            return _NO_OPINION
        if not node:
            return Decision(False, f'unknown node for user "{attributes.user.name}"')
        if attributes.is_resource:
            refusal = self._special(node, attributes)
            if refusal is not None:
                return Decision(False, refusal) if refusal else _ALLOWED
        return _ALLOWED if self._allowed_by_rules(attributes) else _NO_OPINION

    def _special(self, node: str, a: Attributes) -> str | None:
        """'' allows, a text refuses, None: only the static rules decide."""
        group, resource = a.group, a.resource
        if group == "":
            if resource in _READ_KINDS:
                return self._read_namespaced(node, _READ_KINDS[resource], a)
            if resource == "pods":
                return self._pod(node, a)
            if resource == "nodes":
                return _own_node(node, a)
            if resource == "persistentvolumeclaims":
                return self._claim(node, a)
            if resource == "persistentvolumes":
                return self._get(node, "persistentvolume", a)
            if resource == "serviceaccounts":
                return self._service_account(node, a)
        elif group == "coordination.k8s.io" and resource == "leases":
            return _own_lease(node, a)
        elif group == "storage.k8s.io" and resource == "csinodes":
            return _own_csi_node(node, a)
        elif group == "resource.k8s.io" and resource == "resourceclaims":
            return self._get(node, "resourceclaim", a)
        return None

    def _read_namespaced(self, node: str, kind: str, a: Attributes) -> str:
        if a.verb not in _READ:
            return "can only read resources of this type"
        if a.subresource:
            return "cannot read subresource"
        if not a.namespace:
            return "can only read namespaced object of this type"
        return self._related(node, kind, a)

    def _get(self, node: str, kind: str, a: Attributes) -> str:
        if a.verb != "get":
            return "can only get individual resources of this type"
        if a.subresource:
            return "cannot get subresource"
        return self._related(node, kind, a)

    def _claim(self, node: str, a: Attributes) -> str:
        if a.subresource == "status":
            if a.verb not in ("get", "update", "patch"):
                return "can only get/update/patch this type"
            return self._related(node, "persistentvolumeclaim", a)
        return self._get(node, "persistentvolumeclaim", a)

    def _service_account(self, node: str, a: Attributes) -> str:
        if a.verb == "get" and not a.subresource:
            return self._related(node, "serviceaccount", a)
        if a.verb != "create" or a.subresource != "token":
            return "can only create tokens for individual service accounts"
        return self._related(node, "serviceaccount", a)

    def _related(self, node: str, kind: str, a: Attributes) -> str:
        if not a.name:
            return "No Object name found"
        uses = self._uses.get(node)
        if uses:
            if (kind, a.namespace, a.name) in uses:
                return ""
            if kind in ("persistentvolume", "secret") and self._through_claim(uses, kind, a):
                return ""
        return f"no relationship found between node '{node}' and this object"

    def _through_claim(self, uses: dict[Reference, int], kind: str, a: Attributes) -> bool:
        for used_kind, namespace, name in uses:
            if used_kind != "persistentvolumeclaim":
                continue
            volume = self._volumes.get(f"{namespace}/{name}")
            if volume is None:
                continue
            if kind == "persistentvolume" and volume[0] == a.name:
                return True
            if kind == "secret" and ("secret", a.namespace, a.name) in volume[1]:
                return True
        return False

    def _pod(self, node: str, a: Attributes) -> str:
        if a.subresource == "":
            if a.verb == "get":
                bound = self._pods.get(f"{a.namespace}/{a.name}")
                if bound is not None and bound[0] == node:
                    return ""
                return f"no relationship found between node '{node}' and this object"
            if a.verb in ("list", "watch"):
                if f"spec.nodeName={node}" in a.field_selector.split(","):
                    return ""
                return "can only list/watch pods with spec.nodeName field selector"
            if a.verb in ("create", "delete"):
                return ""
            return f"only get, list, watch, create, delete can be used for pods, not {a.verb}"
        if a.subresource == "status" and a.verb in ("update", "patch"):
            return ""
        if a.subresource == "eviction" and a.verb == "create":
            return ""
        return f"node '{node}' cannot {a.verb} pods/{a.subresource}"

    def _allowed_by_rules(self, a: Attributes) -> bool:
        if not a.is_resource:
            return any(rule_allows(a, rule) for rule in self._rules)
        key = (a.verb, a.group, a.resource, a.subresource)
        known = self._by_rules.get(key)
        if known is None:
            if len(self._by_rules) >= _CACHE_SIZE:
                self._by_rules.clear()
            known = self._by_rules[key] = any(rule_allows(a, rule) for rule in self._rules)
        return known

    def _handle_pod(self, old: Object | None, new: Object | None) -> None:
        pod = new or old
        assert pod is not None
        metadata = pod["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        known = self._pods.get(key)
        if new is None:
            if known is not None:
                del self._pods[key]
                self._forget(known)
            return
        uid = metadata.get("uid", "")
        if known is not None:
            if known[1] == uid:
                return
            del self._pods[key]
            self._forget(known)
        node = (new.get("spec") or {}).get("nodeName")
        if not node:
            return
        references = pod_references(new)
        self._pods[key] = (node, uid, references)
        uses = self._uses.setdefault(node, {})
        for reference in references:
            uses[reference] = uses.get(reference, 0) + 1

    def _forget(self, known: tuple[str, str, tuple[Reference, ...]]) -> None:
        node, _, references = known
        uses = self._uses.get(node)
        if uses is None:
            return
        for reference in references:
            count = uses.get(reference, 0) - 1
            if count > 0:
                uses[reference] = count
            else:
                uses.pop(reference, None)
        if not uses:
            del self._uses[node]

    def _handle_volume(self, old: Object | None, new: Object | None) -> None:
        claim = ((old or {}).get("spec") or {}).get("claimRef")
        if claim:
            self._volumes.pop(f"{claim.get('namespace')}/{claim.get('name')}", None)
        if new is None:
            return
        claim = (new.get("spec") or {}).get("claimRef")
        if claim:
            key = f"{claim.get('namespace')}/{claim.get('name')}"
            self._volumes[key] = (new["metadata"]["name"], _volume_secrets(new))


def _own_node(node: str, a: Attributes) -> str:
    if a.subresource == "":
        if a.verb == "create":
            return ""
        if a.verb in ("get", "list", "watch"):
            wanted = f"metadata.name={node}"
            if a.name == node or (not a.name and wanted in a.field_selector.split(",")):
                return ""
            return f"node '{node}' cannot read '{a.name}', only its own Node object"
        if a.verb in ("update", "patch"):
            return "" if a.name == node else _not_own(node, a.name)
        return f"node '{node}' cannot {a.verb} nodes"
    if a.subresource == "status" and a.verb in ("update", "patch"):
        return "" if a.name == node else _not_own(node, a.name)
    return f"node '{node}' cannot {a.verb} nodes/{a.subresource}"


def _not_own(node: str, name: str) -> str:
    return f"node '{node}' cannot modify '{name}', only its own Node object"


def _own_lease(node: str, a: Attributes) -> str:
    if a.verb not in _OWN_OBJECT_VERBS:
        return "can only get, create, update, patch, or delete a node lease"
    if a.namespace != "kube-node-lease":
        return 'can only access leases in the "kube-node-lease" system namespace'
    if a.verb != "create" and a.name != node:
        return "can only access node lease with the same name as the requesting node"
    return ""


def _own_csi_node(node: str, a: Attributes) -> str:
    if a.subresource:
        return "cannot authorize CSINode subresources"
    if a.verb not in _OWN_OBJECT_VERBS:
        return "can only get, create, update, patch, or delete a CSINode"
    if a.verb != "create" and a.name != node:
        return "can only access CSINode with the same name as the requesting node"
    return ""


def _volume_secrets(volume: Object) -> tuple[Reference, ...]:
    found: list[Reference] = []
    for source in (volume.get("spec") or {}).values():
        if not isinstance(source, dict):
            continue
        for key in (
            "secretRef",
            "nodePublishSecretRef",
            "nodeStageSecretRef",
            "nodeExpandSecretRef",
        ):
            secret = source.get(key)
            if isinstance(secret, dict) and secret.get("name"):
                found.append(("secret", str(secret.get("namespace", "")), str(secret["name"])))
    return tuple(found)
