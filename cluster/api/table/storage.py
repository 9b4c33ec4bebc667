"""Volumes, claims, storage classes, CSI objects and dynamic resources."""

from __future__ import annotations

from typing import Any

from cluster.api.meta import Object
from cluster.api.quantity import canonical
from cluster.api.table.columns import layout
from cluster.api.table.durations import age
from cluster.api.table.text import UNSET

_MODES = {
    "ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}  # fmt: skip
_LEGACY_CLASS = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _spec(obj: Object) -> Object:
    spec: Object = obj.get("spec") or {}
    return spec


def _modes(listed: list[str] | None) -> str:
    present = set(listed or ())
    return ",".join(short for mode, short in _MODES.items() if mode in present)


def _class_of(obj: Object) -> str:
    annotations = obj["metadata"].get("annotations") or {}
    return str(annotations.get(_LEGACY_CLASS) or _spec(obj).get("storageClassName") or "")


def _capacity(resources: Object | None) -> str:
    return canonical((resources or {}).get("storage", "0"))


def _phase(obj: Object) -> str:
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return str((obj.get("status") or {}).get("phase", ""))


def _volume(obj: Object, now: float) -> list[Any]:
    spec, status = _spec(obj), obj.get("status") or {}
    claim = spec.get("claimRef")
    return [
        _name(obj),
        _capacity(spec.get("capacity")),
        _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        _phase(obj),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _class_of(obj),
        spec.get("volumeAttributesClassName") or UNSET,
        status.get("reason", ""),
        age(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


def _claim(obj: Object, now: float) -> list[Any]:
    spec, status = _spec(obj), obj.get("status") or {}
    bound = bool(spec.get("volumeName"))
    return [
        _name(obj),
        _phase(obj),
        spec.get("volumeName", ""),
        _capacity(status.get("capacity")) if bound else "",
        _modes(status.get("accessModes")) if bound else "",
        _class_of(obj),
        spec.get("volumeAttributesClassName") or UNSET,
        age(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


def _storage_class(obj: Object, now: float) -> list[Any]:
    annotations = obj["metadata"].get("annotations") or {}
    default = any(annotations.get(key) == "true" for key in _DEFAULT_CLASS)
    return [
        _name(obj) + (" (default)" if default else ""),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy", "Delete"),
        obj.get("volumeBindingMode", "Immediate"),
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


def _attachment(obj: Object, now: float) -> list[Any]:
    spec = _spec(obj)
    return [
        _name(obj),
        spec.get("attacher", ""),
        (spec.get("source") or {}).get("persistentVolumeName", ""),
        spec.get("nodeName", ""),
        bool((obj.get("status") or {}).get("attached")),
        age(obj, now),
    ]


def _csi_node(obj: Object, now: float) -> list[Any]:
    return [_name(obj), len(_spec(obj).get("drivers") or ()), age(obj, now)]


def _csi_driver(obj: Object, now: float) -> list[Any]:
    spec = _spec(obj)
    tokens = ",".join(token.get("audience", "") for token in spec.get("tokenRequests") or ())
    return [
        _name(obj),
        spec.get("attachRequired", True),
        spec.get("podInfoOnMount", False),
        spec.get("storageCapacity", False),
        tokens or UNSET,
        spec.get("requiresRepublish", False),
        ",".join(spec.get("volumeLifecycleModes") or ()) or "<none>",
        age(obj, now),
    ]


def _csi_capacity(obj: Object, now: float) -> list[Any]:
    capacity = obj.get("capacity")
    return [
        _name(obj),
        obj.get("storageClassName", ""),
        UNSET if capacity is None else canonical(capacity),
    ]


def _attributes_class(obj: Object, now: float) -> list[Any]:
    return [_name(obj), obj.get("driverName", ""), age(obj, now)]


def _resource_claim(obj: Object, now: float) -> list[Any]:
    status = obj.get("status") or {}
    states = []
    if obj["metadata"].get("deletionTimestamp"):
        states.append("deleted")
    if status.get("allocation") is None:
        states = states or ["pending"]
    else:
        states.append("allocated")
        states.append("reserved" if status.get("reservedFor") else "")
    return [_name(obj), ",".join(filter(None, states)), age(obj, now)]


def _resource_slice(obj: Object, now: float) -> list[Any]:
    spec = _spec(obj)
    return [
        _name(obj),
        spec.get("nodeName") or UNSET,
        spec.get("driver", ""),
        (spec.get("pool") or {}).get("name", ""),
        age(obj, now),
    ]


def _plain(obj: Object, now: float) -> list[Any]:
    return [_name(obj), age(obj, now)]


_STORAGE = "storage.k8s.io"
_RESOURCE = "resource.k8s.io"
_PLAIN = layout("Name|Age", _plain)

LAYOUTS = {
    ("", "PersistentVolume"): layout(
        "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|"
        "Reason|Age|VolumeMode*",
        _volume,
    ),
    ("", "PersistentVolumeClaim"): layout(
        "Name|Status|Volume|Capacity|Access "
        "Modes|StorageClass|VolumeAttributesClass|Age|VolumeMode*",
        _claim,
    ),
    (_STORAGE, "StorageClass"): layout(
        "Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion:bool|Age",
        _storage_class,
    ),
    (_STORAGE, "VolumeAttachment"): layout("Name|Attacher|PV|Node|Attached:bool|Age", _attachment),
    (_STORAGE, "CSINode"): layout("Name|Drivers:int|Age", _csi_node),
    (_STORAGE, "CSIDriver"): layout(
        "Name|AttachRequired:bool|PodInfoOnMount:bool|StorageCapacity:bool|TokenRequests|"
        "RequiresRepublish:bool|Modes|Age",
        _csi_driver,
    ),
    (_STORAGE, "CSIStorageCapacity"): layout("Name|StorageClassName|Capacity", _csi_capacity),
    (_STORAGE, "VolumeAttributesClass"): layout("Name|DriverName|Age", _attributes_class),
    (_RESOURCE, "ResourceClaim"): layout("Name|State|Age", _resource_claim),
    (_RESOURCE, "ResourceSlice"): layout("Name|Node|Driver|Pool|Age", _resource_slice),
    (_RESOURCE, "ResourceClaimTemplate"): _PLAIN,
    (_RESOURCE, "DeviceClass"): _PLAIN,
    (_RESOURCE, "DeviceTaintRule"): _PLAIN,
}
