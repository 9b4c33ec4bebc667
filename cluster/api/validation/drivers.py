"""Storage drivers and attachments: CSIDriver, CSINode, VolumeAttachment, VolumeAttributesClass."""

from __future__ import annotations

from cluster.api import names
from cluster.api.errors import FieldError, duplicate, forbidden, invalid, required, too_long
from cluster.api.meta import Object
from cluster.api.validation import fields
from cluster.api.validation.fields import Errors

_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_LIFECYCLES = ("Ephemeral", "Persistent")


def _driver_name(name: str, path: str, errors: Errors) -> None:
    if not name:
        errors.append(required(path))
    if len(name) > 63:
        errors.append(too_long(path, 63))
    for message in names.dns_subdomain(name.lower()) if name else ():
        errors.append(invalid(path, name, message))


def csi_driver(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    for key in ("attachRequired", "podInfoOnMount", "storageCapacity"):
        if spec.get(key) is None:
            errors.append(required(f"spec.{key}"))
    policy = spec.get("fsGroupPolicy")
    fields.one_of(policy, _GROUP_POLICIES, "spec.fsGroupPolicy", errors)
    for mode in spec.get("volumeLifecycleModes") or ():
        if mode not in _LIFECYCLES:
            errors.append(fields.unsupported("spec.volumeLifecycleModes", mode, _LIFECYCLES))
    audiences: set[str] = set()
    for i, request in enumerate(spec.get("tokenRequests") or ()):
        audience = request.get("audience") or ""
        path = f"spec.tokenRequests[{i}]"
        if audience in audiences:
            errors.append(duplicate(f"{path}.audience", audience))
        audiences.add(audience)
        seconds = request.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            detail = "may not specify a duration less than 10 minutes"
            errors.append(invalid(f"{path}.expirationSeconds", seconds, detail))


def csi_driver_update(new: Object, old: Object, errors: Errors) -> None:
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    # "attachedRequired" is how upstream spells this path.
    for key, path in (
        ("attachRequired", "spec.attachedRequired"),
        ("volumeLifecycleModes", "spec.volumeLifecycleModes"),
    ):
        fields.immutable(spec.get(key), before.get(key), path, errors)


def csi_node(obj: Object, errors: Errors) -> None:
    seen: set[str] = set()
    for i, driver in enumerate((obj.get("spec") or {}).get("drivers") or ()):
        path, name = f"spec.drivers[{i}]", driver.get("name") or ""
        _driver_name(name, f"{path}.name", errors)
        if name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
        node = driver.get("nodeID") or ""
        if not node:
            errors.append(required(f"{path}.nodeID", ""))
        elif len(node) > 256:
            detail = "must be 256 characters or less"
            errors.append(invalid(f"{path}.nodeID", node, detail))
        for key in driver.get("topologyKeys") or ():
            fields.name(key, names.qualified_name, f"{path}.topologyKeys", errors)
        count = (driver.get("allocatable") or {}).get("count")
        if count is not None and count < 0:
            errors.append(invalid(f"{path}.allocatable.count", count, fields.NEGATIVE))


def csi_node_update(new: Object, old: Object, errors: Errors) -> None:
    def fixed(driver: Object) -> Object:
        return {k: v for k, v in driver.items() if k != "allocatable"}

    kept = {d.get("name"): d for d in (old.get("spec") or {}).get("drivers") or ()}
    for driver in (new.get("spec") or {}).get("drivers") or ():
        before = kept.get(driver.get("name"))
        if before is not None and fixed(before) != fixed(driver):
            errors.append(invalid("CSINodeDriver", driver, fields.IMMUTABLE))


def volume_attachment(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    _driver_name(spec.get("attacher") or "", "spec.attacher", errors)
    source = spec.get("source") or {}
    volume, inline = source.get("persistentVolumeName"), source.get("inlineVolumeSpec")
    detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    if volume is None and inline is None:
        errors.append(required("spec.source", detail))
    elif volume is not None and inline is not None:
        errors.append(forbidden("spec.source", detail))
    if volume is not None:
        path = "spec.source.persistentVolumeName"
        if not volume:
            errors.append(required(path, "must specify non empty persistentVolumeName"))
        else:
            fields.name(volume, names.dns_subdomain, path, errors)
    fields.name(spec.get("nodeName") or "", names.dns_subdomain, "spec.nodeName", errors)


def volume_attachment_update(new: Object, old: Object, errors: Errors) -> None:
    fields.immutable(new.get("spec"), old.get("spec"), "spec", errors)


def attributes_class(obj: Object, errors: Errors) -> None:
    _driver_name(obj.get("driverName") or "", "driverName", errors)
    parameters = obj.get("parameters") or {}
    if not parameters:
        errors.append(required("parameters", "must contain at least one key/value pair"))
    for key in parameters:
        if not key:
            errors.append(invalid("parameters", key, "field can not be empty."))


def attributes_class_update(new: Object, old: Object, errors: Errors) -> None:
    for key in ("driverName", "parameters"):
        if (new.get(key) or None) != (old.get(key) or None):
            errors.append(
                FieldError("FieldValueForbidden", key, "", f"updates to {key} are forbidden.")
            )
