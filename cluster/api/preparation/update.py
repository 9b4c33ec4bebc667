"""PrepareForUpdate: what an update may not touch is carried over from the stored object.

A main-resource update keeps the status, a status update keeps everything else; the generation
counts changes of the specification. Carried parts are shared with the stored object, so that
validation sees by identity that nothing changed: the hot path of pod status updates depends on
it.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.api.meta import Object
from cluster.api.preparation.kinds import (
    BUILT_IN_GROUPS,
    GENERATION_FIELDS,
    GENERATION_STARTS_AT_ONE,
    GroupKind,
    Kinded,
)

Carry = Callable[[Object, Object], None]

# Kinds whose main resource may write its status: there is no status subresource.
_STATUS_WITH_SPEC: frozenset[GroupKind] = frozenset({("discovery.k8s.io", "EndpointSlice")})

_STATUS_KEEPS_LABELS: frozenset[GroupKind] = frozenset({("apps", "Deployment")})

# Kinds whose status subresource resets all metadata but managedFields (ResetObjectMetaForStatus).
_STATUS_KEEPS_METADATA: frozenset[GroupKind] = frozenset({
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apiregistration.k8s.io", "APIService"), ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("networking.k8s.io", "ServiceCIDR"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("policy", "PodDisruptionBudget"), ("storage.k8s.io", "VolumeAttachment"),
    ("resource.k8s.io", "ResourceClaim"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
})  # fmt: skip

# A scale is an update of the object itself, written through a smaller one.
MAIN_RESOURCE = ("", "scale")

_META_FOR_STATUS = (
    "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "labels", "annotations",
    "finalizers", "ownerReferences", "generation",
)  # fmt: skip


def prepare(resource: Kinded, new: Object, old: Object, subresource: str) -> None:
    kind = (resource.group, resource.kind)
    _carry_metadata(new["metadata"], old["metadata"])
    if subresource not in MAIN_RESOURCE:
        carry = SUBRESOURCES.get((kind, subresource))
        if carry is not None:
            carry(new, old)
        elif subresource == "status":
            _status_only(kind, resource, new, old)
        return
    custom = resource.group not in BUILT_IN_GROUPS
    if not custom or "status" in getattr(resource, "subresources", ()):
        _keep(new, old, "status")
    special = MAIN.get(kind)
    if special is not None:
        special(new, old)
    if custom:
        _count_custom(new, old)
    elif kind in GENERATION_STARTS_AT_ONE:
        _count_generation(kind, new, old)


def _carry_metadata(new: Object, old: Object) -> None:
    """System fields that a client may leave out or must not change (rest.BeforeUpdate)."""
    for key in ("uid", "name", "namespace"):
        if not new.get(key) and old.get(key):
            new[key] = old[key]
    for key in ("creationTimestamp", "generation"):
        if old.get(key) is not None:
            new[key] = old[key]
        else:
            new.pop(key, None)
    if old.get("deletionTimestamp"):
        new["deletionTimestamp"] = old["deletionTimestamp"]
        if new.get("deletionGracePeriodSeconds") is None:
            _keep(new, old, "deletionGracePeriodSeconds")
    elif new.get("deletionTimestamp"):
        del new["deletionTimestamp"]
        new.pop("deletionGracePeriodSeconds", None)


def _keep(new: Object, old: Object, key: str) -> None:
    value = old.get(key)
    if value is not None:
        new[key] = value
    else:
        new.pop(key, None)


def _status_only(kind: GroupKind, resource: Kinded, new: Object, old: Object) -> None:
    if kind in STATUS:
        STATUS[kind](new, old)
        return
    for key in [k for k in new if k not in ("apiVersion", "kind", "metadata", "status")]:
        if key not in old:
            del new[key]
    for key, value in old.items():
        if key not in ("apiVersion", "kind", "metadata", "status"):
            new[key] = value
    if kind in _STATUS_KEEPS_METADATA or resource.group not in BUILT_IN_GROUPS:
        for key in _META_FOR_STATUS:
            _keep(new["metadata"], old["metadata"], key)
    elif kind in _STATUS_KEEPS_LABELS:
        _keep(new["metadata"], old["metadata"], "labels")


def _count_generation(kind: GroupKind, new: Object, old: Object) -> None:
    changed = any(new.get(f) != old.get(f) for f in GENERATION_FIELDS.get(kind, ("spec",)))
    if not changed and kind == ("apps", "Deployment"):
        # Upstream counts a Deployment's annotations too: they travel to its ReplicaSets.
        changed = (new["metadata"].get("annotations") or {}) != (
            old["metadata"].get("annotations") or {}
        )
    if changed:
        new["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + 1


def _count_custom(new: Object, old: Object) -> None:
    """Any change outside metadata (and status, where that is a subresource) counts."""
    ignored = ("metadata", "apiVersion")
    new_content = {k: v for k, v in new.items() if k not in ignored}
    if new_content != {k: v for k, v in old.items() if k not in ignored}:
        new["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + 1


def _pod_status(new: Object, old: Object) -> None:
    new["spec"] = old["spec"]
    metadata, old_metadata = new["metadata"], old["metadata"]
    _keep(metadata, old_metadata, "ownerReferences")
    old_status = old.get("status") or {}
    status = new.setdefault("status", {})
    if "qosClass" not in status and "qosClass" in old_status:
        status["qosClass"] = old_status["qosClass"]
    if "observedGeneration" not in status and "observedGeneration" in old_status:
        status["observedGeneration"] = old_status["observedGeneration"]
    _keep_observed_generations(status.get("conditions"), old_status.get("conditions"))
    if status.get("podIP") and not status.get("podIPs"):
        status["podIPs"] = [{"ip": status["podIP"]}]


def _keep_observed_generations(
    conditions: list[Object] | None, before: list[Object] | None
) -> None:
    if not conditions or not before:
        return
    known = {c["type"]: c["observedGeneration"] for c in before if "observedGeneration" in c}
    if not known:
        return
    for condition in conditions:
        if "observedGeneration" not in condition and condition.get("type") in known:
            condition["observedGeneration"] = known[condition["type"]]


def _pod_ephemeral_containers(new: Object, old: Object) -> None:
    containers = new["spec"].get("ephemeralContainers")
    new["spec"] = dict(old["spec"])
    if containers:
        new["spec"]["ephemeralContainers"] = containers
    else:
        new["spec"].pop("ephemeralContainers", None)
    _reset_to_old(new, old)


def _pod_resize(new: Object, old: Object) -> None:
    spec: Object = dict(old["spec"])
    for field in ("containers", "initContainers"):
        before, after = spec.get(field) or [], new["spec"].get(field) or []
        if [c.get("name") for c in before] != [c.get("name") for c in after]:
            return  # validation refuses it
        if before:
            spec[field] = [_resized(b, a) for b, a in zip(before, after, strict=True)]
    if "resources" in new["spec"]:
        spec["resources"] = new["spec"]["resources"]
    new["spec"] = spec
    _reset_to_old(new, old)


def _resized(before: Object, after: Object) -> Object:
    resized = dict(before)
    for key in ("resources", "resizePolicy"):
        _keep(resized, after, key)
    return resized


def _reset_to_old(new: Object, old: Object) -> None:
    _keep(new, old, "status")
    for key in _META_FOR_STATUS:
        _keep(new["metadata"], old["metadata"], key)
    _count_generation(("", "Pod"), new, old)


def _namespace(new: Object, old: Object) -> None:
    """Only the finalize subresource touches spec.finalizers."""
    spec = dict(new.get("spec") or {})
    _keep(spec, old.get("spec") or {}, "finalizers")
    new["spec"] = spec


def _namespace_finalize(new: Object, old: Object) -> None:
    _keep(new, old, "status")


def _daemon_set(new: Object, old: Object) -> None:
    name = "deprecated.daemonset.template.generation"
    before = (old["metadata"].get("annotations") or {}).get(name, "1")
    if new["spec"].get("template") != old["spec"].get("template"):
        before = str(int(before) + 1) if before.isdigit() else "1"
    new["metadata"].setdefault("annotations", {})[name] = before


def _secret_data(new: Object, old: Object) -> None:
    """A Secret's type cannot be dropped by a client that does not know it."""
    if not new.get("type") and old.get("type"):
        new["type"] = old["type"]


def _service_clear(new: Object, old: Object) -> None:
    """Allocated fields that an update leaves out are kept (patchAllocatedValues)."""
    spec, before = new["spec"], old["spec"]
    _drop_by_type(spec, before)
    normalize_cluster_ips(spec, before)
    if spec.get("type") == "ExternalName" or before.get("type") == "ExternalName":
        return
    for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"):
        if not spec.get(field) and before.get(field):
            if field == "healthCheckNodePort" and spec.get("externalTrafficPolicy") != "Local":
                continue
            spec[field] = before[field]
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        _carry_node_ports(spec.get("ports") or [], before.get("ports") or [])


def normalize_cluster_ips(spec: Object, before: Object | None) -> None:
    """Keep clusterIP and clusterIPs one (NormalizeClusterIPs)."""
    single, several = spec.get("clusterIP"), spec.get("clusterIPs")
    if before is None:
        if single and not several:
            spec["clusterIPs"] = [single]
        return
    old_single, old_several = before.get("clusterIP"), before.get("clusterIPs")
    if single != old_single and several == old_several:
        if not single:
            spec.pop("clusterIPs", None)
        else:
            spec["clusterIPs"] = [single, *(several or [])[1:]]
    elif several != old_several and not several and single == old_single:
        spec.pop("clusterIP", None)


def _drop_by_type(spec: Object, before: Object) -> None:
    """A field that a new type of Service has no use for goes, if the user left it as it was."""
    kind, was = spec.get("type"), before.get("type")
    if kind == was:
        return
    unused: tuple[str, ...] = ()
    if kind == "ExternalName":
        unused = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")
    if kind not in ("NodePort", "LoadBalancer") and not spec.get("externalIPs"):
        unused += ("externalTrafficPolicy",)
    if kind != "LoadBalancer":
        unused += ("allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort")
    for field in unused:
        if spec.get(field) == before.get(field):
            spec.pop(field, None)
    if kind not in ("NodePort", "LoadBalancer"):
        kept = {p.get("nodePort") for p in before.get("ports") or ()}
        for port in spec.get("ports") or ():
            if port.get("nodePort") in kept:
                port.pop("nodePort", None)


def _carry_node_ports(ports: list[Object], before: list[Object]) -> None:
    known = {(p.get("port"), p.get("protocol")): p["nodePort"] for p in before if p.get("nodePort")}
    used = {p["nodePort"] for p in ports if p.get("nodePort")}
    for port in ports:
        kept = known.get((port.get("port"), port.get("protocol")))
        if kept and not port.get("nodePort") and kept not in used:
            port["nodePort"] = kept


def _node_status(new: Object, old: Object) -> None:
    new["spec"] = old.get("spec") or {}


def _signing_request(new: Object, old: Object) -> None:
    """A request for a certificate is for ever; its approval and its certificate have own doors."""
    new["spec"] = old["spec"]


def _approval(new: Object, old: Object) -> None:
    new["spec"] = old["spec"]
    status = dict(new.get("status") or {})
    _keep(status, old.get("status") or {}, "certificate")
    new["status"] = status


def _custom_resource_definition(new: Object, old: Object) -> None:
    """A version that becomes the stored one is remembered."""
    status = dict(new.get("status") or {})
    stored = list(status.get("storedVersions") or ())
    for version in new["spec"].get("versions") or ():
        if version.get("storage") and version.get("name") not in stored:
            stored.append(version["name"])
    new["status"] = {**status, "storedVersions": stored}


MAIN: dict[GroupKind, Carry] = {
    ("", "Namespace"): _namespace,
    ("", "Secret"): _secret_data,
    ("", "Service"): _service_clear,
    ("apps", "DaemonSet"): _daemon_set,
    ("certificates.k8s.io", "CertificateSigningRequest"): _signing_request,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _custom_resource_definition,
}

STATUS: dict[GroupKind, Carry] = {
    ("", "Pod"): _pod_status,
    ("", "Node"): _node_status,
}

SUBRESOURCES: dict[tuple[GroupKind, str], Carry] = {
    (("", "Pod"), "ephemeralcontainers"): _pod_ephemeral_containers,
    (("", "Pod"), "resize"): _pod_resize,
    (("", "Namespace"), "finalize"): _namespace_finalize,
    (("certificates.k8s.io", "CertificateSigningRequest"), "approval"): _approval,
}
