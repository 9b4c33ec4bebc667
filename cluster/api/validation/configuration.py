"""Core kinds that configure: ConfigMap, Secret, Namespace, Node, LimitRange, ResourceQuota,
Event, Lease."""

from __future__ import annotations

from base64 import b64decode

import orjson

from cluster.api import names
from cluster.api.errors import duplicate, forbidden, invalid, required, too_long
from cluster.api.meta import Object
from cluster.api.validation import fields, metadata, resources, scheduling
from cluster.api.validation.fields import Errors

MAX_DATA = 1024 * 1024


def config_map(obj: Object, errors: Errors) -> None:
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    size = 0
    for key, value in data.items():
        fields.name(key, names.config_key, f"data[{key}]", errors)
        if key in binary:
            errors.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        size += len(value) if value.isascii() else len(value.encode())
    for key, value in binary.items():
        fields.name(key, names.config_key, f"binaryData[{key}]", errors)
        size += _decoded_length(value)
    if size > MAX_DATA:
        errors.append(too_long("", MAX_DATA))


def config_map_update(new: Object, old: Object, errors: Errors) -> None:
    errors += fields.immutable_when("immutable", new, old, ("data", "binaryData"))


def _decoded_length(text: str) -> int:
    return len(text) * 3 // 4 - text[-2:].count("=")


def secret(obj: Object, errors: Errors) -> None:
    data = obj.get("data") or {}
    size = 0
    for key, value in data.items():
        fields.name(key, names.config_key, f"data[{key}]", errors)
        size += _decoded_length(value or "")
    if size > MAX_DATA:
        errors.append(too_long("data", MAX_DATA))
    kind = obj.get("type")
    if kind == "kubernetes.io/service-account-token":
        key = "kubernetes.io/service-account.name"
        if not (obj["metadata"].get("annotations") or {}).get(key):
            errors.append(required(f"metadata.annotations[{key}]"))
    elif kind in _JSON_SECRETS:
        _json_secret(data, _JSON_SECRETS[kind], errors)
    elif kind == "kubernetes.io/basic-auth":
        if "username" not in data and "password" not in data:
            errors.append(required("data[username]"))
            errors.append(required("data[password]"))
    elif kind == "kubernetes.io/ssh-auth":
        if not data.get("ssh-privatekey"):
            errors.append(required("data[ssh-privatekey]"))
    elif kind == "kubernetes.io/tls":
        for key in ("tls.crt", "tls.key"):
            if key not in data:
                errors.append(required(f"data[{key}]"))


_JSON_SECRETS = {
    "kubernetes.io/dockercfg": ".dockercfg",
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
}


def _json_secret(data: Object, key: str, errors: Errors) -> None:
    if key not in data:
        errors.append(required(f"data[{key}]"))
        return
    try:
        valid = isinstance(orjson.loads(b64decode(data[key])), dict)
        detail = "json: cannot unmarshal into Go value of type map[string]interface {}"
    except ValueError:
        valid, detail = False, "invalid character in JSON"
    if not valid:
        errors.append(invalid(f"data[{key}]", "<secret contents redacted>", detail))


def secret_update(new: Object, old: Object, errors: Errors) -> None:
    fields.immutable(new.get("type"), old.get("type"), "type", errors)
    errors += fields.immutable_when("immutable", new, old, ("data",))


def namespace(obj: Object, errors: Errors) -> None:
    for value in (obj.get("spec") or {}).get("finalizers") or ():
        metadata.finalizer(value, "spec.finalizers", errors)
        metadata.standard_finalizer(value, "spec.finalizers", errors)


def namespace_status(new: Object, old: Object, errors: Errors) -> None:
    phase = (new.get("status") or {}).get("phase") or ""
    ending = bool(new["metadata"].get("deletionTimestamp"))
    if not ending and phase != "Active":
        detail = "may only be 'Active' if `deletionTimestamp` is empty"
        errors.append(invalid("status.Phase", phase, detail))
    elif ending and phase != "Terminating":
        detail = "may only be 'Terminating' if `deletionTimestamp` is not empty"
        errors.append(invalid("status.Phase", phase, detail))


def namespace_finalize(new: Object, old: Object, errors: Errors) -> None:
    for i, value in enumerate((new.get("spec") or {}).get("finalizers") or ()):
        metadata.finalizer(value, f"spec.finalizers[{i}]", errors)
        metadata.standard_finalizer(value, f"spec.finalizers[{i}]", errors)


def node(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    if spec.get("taints"):
        scheduling.taints(spec["taints"], "metadata.taints", errors)
    _node_resources(obj.get("status") or {}, errors)
    cidrs = spec.get("podCIDRs") or []
    for i, cidr in enumerate(cidrs):
        fields.valid_cidr(cidr, f"spec.podCIDRs[{i}]", errors)
    if len(cidrs) > 1 and (len(cidrs) > 2 or len({":" in cidr for cidr in cidrs}) == 1):
        detail = "may specify no more than one CIDR for each IP family"
        errors.append(invalid("spec.podCIDRs", cidrs, detail))


def _node_resources(status: Object, errors: Errors) -> None:
    for field in ("capacity", "allocatable"):
        for resource, value in (status.get(field) or {}).items():
            resources.quantity_value(resource, value, f"status.{field}.{resource}", errors)


def node_update(new: Object, old: Object, errors: Errors) -> None:
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    kept = before.get("podCIDRs") or []
    if kept and kept != (spec.get("podCIDRs") or []):
        detail = 'node updates may not change podCIDR except from "" to valid'
        errors.append(forbidden("spec.podCIDRs", detail))
    provider = before.get("providerID")
    if provider and provider != spec.get("providerID"):
        detail = 'node updates may not change providerID except from "" to valid'
        errors.append(forbidden("spec.providerID", detail))
    if spec.get("taints") and spec["taints"] != before.get("taints"):
        scheduling.taints(spec["taints"], "metadata.taints", errors)


def node_status(new: Object, old: Object, errors: Errors) -> None:
    status, before = new.get("status") or {}, old.get("status") or {}
    if any(status.get(f) != before.get(f) for f in ("capacity", "allocatable")):
        _node_resources(status, errors)
    addresses = status.get("addresses") or []
    if addresses != before.get("addresses"):
        for i, address in enumerate(addresses):
            if address in addresses[:i]:
                errors.append(duplicate(f"status.addresses[{i}]", address))


_LIMIT_TYPES = ("Container", "PersistentVolumeClaim", "Pod")


def limit_range(obj: Object, errors: Errors) -> None:
    seen: set[str] = set()
    for i, item in enumerate((obj.get("spec") or {}).get("limits") or ()):
        path, kind = f"spec.limits[{i}]", item.get("type") or ""
        before = len(errors)
        fields.name(kind, names.qualified_name, f"{path}.type", errors)
        if len(errors) == before and "/" not in kind and kind not in _LIMIT_TYPES:
            detail = "must be a standard limit type or fully qualified"
            errors.append(invalid(f"{path}.type", kind, detail))
        if kind in seen:
            errors.append(duplicate(f"{path}.type", kind))
        seen.add(kind)
        _limit_names(item, kind, path, errors)
        for resource in sorted({r for f in _LIMIT_FIELDS for r in item.get(f) or ()}):
            _limit_order(item, resource, path, errors)


_LIMIT_FIELDS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


def _limit_names(item: Object, kind: str, path: str, errors: Errors) -> None:
    for field in _LIMIT_FIELDS:
        if kind == "Pod" and field.startswith("default") and item.get(field):
            errors.append(forbidden(f"{path}.{field}", "may not be specified when `type` is 'Pod'"))
            continue
        for resource, value in (item.get(field) or {}).items():
            at = f"{path}.{field}[{resource}]"
            if kind in ("Pod", "Container"):
                resources.container_resource_name(resource, at, errors)
            else:
                resources.resource_name(resource, at, errors)
            fields.checked_amount(value, at, errors)
    bounded = any("storage" in (item.get(field) or {}) for field in ("min", "max"))
    if kind == "PersistentVolumeClaim" and not bounded:
        detail = "either minimum or maximum storage value is required, but neither was provided"
        errors.append(required(f"{path}.limits", detail))


def _limit_order(item: Object, resource: str, path: str, errors: Errors) -> None:
    shown = {f: (item.get(f) or {}).get(resource) for f in _LIMIT_FIELDS}
    number = {f: None if v is None else fields.amount(v) for f, v in shown.items()}

    def above(high: str, low: str) -> bool:
        left, right = number[high], number[low]
        return left is not None and right is not None and left > right

    def report(field: str, value: str, detail: str) -> None:
        errors.append(invalid(f"{path}.{field}[{resource}]", shown[value], detail))

    low, high, limit, request = (shown[f] for f in ("min", "max", "default", "defaultRequest"))
    if above("min", "max"):
        report("min", "min", f"min value {low} is greater than max value {high}")
    if above("min", "defaultRequest"):
        detail = f"min value {low} is greater than default request value {request}"
        report("defaultRequest", "defaultRequest", detail)
    if above("defaultRequest", "max"):
        detail = f"default request value {request} is greater than max value {high}"
        report("defaultRequest", "defaultRequest", detail)
    if above("defaultRequest", "default"):
        detail = f"default request value {request} is greater than default limit value {limit}"
        report("defaultRequest", "defaultRequest", detail)
    if above("min", "default"):
        report("default", "min", f"min value {low} is greater than default value {limit}")
    if above("default", "max"):
        report("default", "max", f"default value {limit} is greater than max value {high}")
    ratio = number["maxLimitRequestRatio"]
    if ratio is not None and ratio < fields.ONE:
        detail = f"ratio {shown['maxLimitRequestRatio']} is less than 1"
        report("maxLimitRequestRatio", "maxLimitRequestRatio", detail)


_SCOPES = (
    "BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass",
    "Terminating", "VolumeAttributesClass",
)  # fmt: skip
_CONFLICTING = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))


def resource_quota(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    _quota_amounts(spec, "spec", ("hard",), errors)
    scopes = spec.get("scopes") or []
    for scope in scopes:
        if scope not in _SCOPES:
            errors.append(invalid("spec.scopes", scopes, "unsupported scope"))
    for pair in _CONFLICTING:
        if all(scope in scopes for scope in pair):
            errors.append(invalid("spec.scopes", scopes, "conflicting scopes"))


def _quota_amounts(holder: Object, path: str, keys: tuple[str, ...], errors: Errors) -> None:
    for field in keys:
        for resource, value in (holder.get(field) or {}).items():
            at = f"{path}.{field}[{resource}]"
            resources.quota_resource_name(resource, at, errors)
            resources.quantity_value(resource, value, at, errors)


def resource_quota_update(new: Object, old: Object, errors: Errors) -> None:
    scopes = (new.get("spec") or {}).get("scopes") or []
    if set(scopes) != set((old.get("spec") or {}).get("scopes") or ()):
        errors.append(invalid("spec.scopes", scopes, fields.IMMUTABLE))


def resource_quota_status(new: Object, old: Object, errors: Errors) -> None:
    _quota_amounts(new.get("status") or {}, "status", ("hard", "used"), errors)


def event(obj: Object, errors: Errors) -> None:
    """Core events; about a cluster-scoped object they live in default or kube-system."""
    namespace_name = obj["metadata"].get("namespace") or ""
    about = (obj.get("involvedObject") or obj.get("regarding") or {}).get("namespace") or ""
    allowed = (about,) if about else ("default", "kube-system", "")
    if namespace_name not in allowed:
        detail = "does not match event.namespace"
        errors.append(invalid("involvedObject.namespace", about, detail))


def lease(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        errors.append(invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    transitions = spec.get("leaseTransitions")
    if transitions is not None and transitions < 0:
        detail = "must be greater than or equal to 0"
        errors.append(invalid("spec.leaseTransitions", transitions, detail))
