"""PersistentVolumes, claims and storage classes."""

from __future__ import annotations

from cluster.api import names
from cluster.api.errors import forbidden, invalid, required
from cluster.api.meta import Object
from cluster.api.validation import fields, selectors
from cluster.api.validation.fields import Errors
from cluster.api.validation.volumes import host_path, nfs

_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES = ("Block", "Filesystem")
_RECLAIM = ("Delete", "Recycle", "Retain")
_POSITIVE = "must be greater than zero"
_NOT_SOURCES = frozenset({
    "capacity", "accessModes", "claimRef", "persistentVolumeReclaimPolicy", "storageClassName",
    "mountOptions", "volumeMode", "nodeAffinity", "volumeAttributesClassName",
})  # fmt: skip


def persistent_volume(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    _access_modes(spec, "spec", "", errors)
    capacity = spec.get("capacity") or {}
    if not capacity:
        errors.append(required("spec.capacity"))
    elif "storage" not in capacity or len(capacity) > 1:
        at = "spec.capacity"
        errors.append(fields.unsupported(at, sorted(capacity), ("storage",)))
    for resource, value in capacity.items():
        _positive(value, f"spec.capacity[{resource}]", errors)
    policy = spec.get("persistentVolumeReclaimPolicy")
    if policy and policy not in _RECLAIM:
        at = "spec.persistentVolumeReclaimPolicy"
        errors.append(fields.unsupported(at, policy, _RECLAIM))
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        if affinity.get("required") is None:
            detail = "must specify required node constraints"
            errors.append(required("spec.nodeAffinity.required", detail))
        else:
            selectors.node_selector(affinity["required"], "spec.nodeAffinity.required", errors)
    sources = [k for k, v in spec.items() if k not in _NOT_SOURCES and v is not None]
    if not sources:
        errors.append(required("spec", "must specify a volume type"))
    for extra in sources[1:]:
        errors.append(forbidden(f"spec.{extra}", "may not specify more than 1 volume type"))
    if sources and sources[0] == "hostPath":
        host_path(spec["hostPath"], "spec.hostPath", errors)
    elif sources and sources[0] == "nfs":
        nfs(spec["nfs"], "spec.nfs", errors)
    if spec.get("storageClassName"):
        at = "spec.storageClassName"
        fields.name(spec["storageClassName"], names.dns_subdomain, at, errors)
    _volume_mode(spec, "spec", errors)


def persistent_volume_update(new: Object, old: Object, errors: Errors) -> None:
    spec, before = new["spec"], old["spec"]
    sources = {k for k in {*spec, *before} if k not in _NOT_SOURCES}
    if any(spec.get(key) != before.get(key) for key in sources):
        detail = "spec.persistentvolumesource is immutable after creation"
        errors.append(forbidden("spec.persistentvolumesource", detail))
    mode = "volumeMode"
    fields.immutable(spec.get(mode), before.get(mode), mode, errors)
    affinity = before.get("nodeAffinity")
    if affinity is not None and affinity != spec.get("nodeAffinity"):
        detail = f"{fields.IMMUTABLE}, except for updating from beta label to GA"
        errors.append(invalid("spec.nodeAffinity", spec.get("nodeAffinity"), detail))


def _access_modes(spec: Object, path: str, why: str, errors: Errors) -> None:
    modes = spec.get("accessModes") or []
    if not modes:
        errors.append(required(f"{path}.accessModes", why))
    for mode in modes:
        if mode not in _MODES:
            errors.append(fields.unsupported(f"{path}.accessModes", mode, _MODES))
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        detail = "may not use ReadWriteOncePod with other access modes"
        errors.append(forbidden(f"{path}.accessModes", detail))


def _volume_mode(spec: Object, path: str, errors: Errors) -> None:
    mode = spec.get("volumeMode")
    if mode is not None and mode not in _VOLUME_MODES:
        errors.append(fields.unsupported(f"{path}.volumeMode", mode, _VOLUME_MODES))


def _positive(value: str, path: str, errors: Errors) -> None:
    number = fields.checked_amount(value, path, errors)
    if number is not None and number <= 0:
        errors.append(invalid(path, value, _POSITIVE))


def persistent_volume_claim(obj: Object, errors: Errors) -> None:
    claim_spec(obj.get("spec") or {}, "spec", errors)


def claim_spec(spec: Object, path: str, errors: Errors) -> None:
    """A claim of its own or the template of an ephemeral volume."""
    _access_modes(spec, path, "at least 1 access mode is required", errors)
    selectors.label_selector(spec.get("selector"), f"{path}.selector", errors)
    requests = (spec.get("resources") or {}).get("requests") or {}
    if "storage" not in requests:
        errors.append(required(f"{path}.resources[storage]"))
    else:
        _positive(requests["storage"], f"{path}.resources[storage]", errors)
    if spec.get("storageClassName"):
        at = f"{path}.storageClassName"
        fields.name(spec["storageClassName"], names.dns_subdomain, at, errors)
    _volume_mode(spec, path, errors)


_SPEC_IMMUTABLE = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for "
    "bound claims"
)


def claim_update(new: Object, old: Object, errors: Errors) -> None:
    spec, before = dict(new["spec"]), old["spec"]
    if not before.get("volumeName"):
        spec.pop("volumeName", None)
        before = {k: v for k, v in before.items() if k != "volumeName"}
    if before.get("storageClassName") is None:
        spec.pop("storageClassName", None)
    bound = (new.get("status") or {}).get("phase") == "Bound"
    munged, kept = dict(spec), dict(before)
    if bound:
        for each in (munged, kept):
            each.pop("volumeAttributesClassName", None)
        munged["resources"] = {**(spec.get("resources") or {}), "requests": None}
        kept["resources"] = {**(before.get("resources") or {}), "requests": None}
    if munged != kept:
        errors.append(forbidden("spec", _SPEC_IMMUTABLE))
    size = _storage(spec.get("resources"))
    if size is not None and (_storage(before.get("resources")) or 0) > size:
        granted = fields.amount(
            ((old.get("status") or {}).get("capacity") or {}).get("storage") or "0"
        )
        if size <= (granted or 0):
            detail = "field can not be less than status.capacity"
            errors.append(forbidden("spec.resources.requests.storage", detail))
    mode = "volumeMode"
    fields.immutable(spec.get(mode), before.get(mode), mode, errors)


def _storage(resources: Object | None) -> fields.Nano | None:
    value = ((resources or {}).get("requests") or {}).get("storage")
    return None if value is None else fields.amount(value)


def storage_class(obj: Object, errors: Errors) -> None:
    provisioner = obj.get("provisioner")
    if not provisioner:
        errors.append(required("provisioner"))
    else:
        fields.name(provisioner.lower(), names.qualified_name, "provisioner", errors)
    for key in obj.get("parameters") or ():
        if not key:
            errors.append(invalid("parameters", key, "field can not be empty."))
    policy = obj.get("reclaimPolicy")
    if policy not in ("Delete", "Retain"):
        errors.append(fields.unsupported("reclaimPolicy", policy or "", ("Delete", "Retain")))
    mode = obj.get("volumeBindingMode")
    if mode is None:
        errors.append(required("volumeBindingMode"))
    elif mode not in ("Immediate", "WaitForFirstConsumer"):
        kinds = ("Immediate", "WaitForFirstConsumer")
        errors.append(fields.unsupported("volumeBindingMode", mode, kinds))


def storage_class_update(new: Object, old: Object, errors: Errors) -> None:
    for key in ("parameters", "provisioner", "reclaimPolicy"):
        if (new.get(key) or None) != (old.get(key) or None):
            errors.append(forbidden(key, f"updates to {key} are forbidden."))
    mode = "volumeBindingMode"
    fields.immutable(new.get(mode), old.get(mode), mode, errors)
