"""Volumes as objects of their own: core PersistentVolume and claim, storage.k8s.io."""

from __future__ import annotations

from cluster.api.defaults.quantities import canonicalize
from cluster.api.defaults.volumes import azure_disk, host_path, iscsi, rbd, scale_io
from cluster.api.meta import Object

_PV_SOURCES = {
    "hostPath": host_path,
    "iscsi": iscsi,
    "rbd": rbd,
    "azureDisk": azure_disk,
    "scaleIO": scale_io,
}


def persistent_volume(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    canonicalize(spec.get("capacity"))
    if not spec.get("persistentVolumeReclaimPolicy"):
        spec["persistentVolumeReclaimPolicy"] = "Retain"
    if spec.get("volumeMode") is None:
        spec["volumeMode"] = "Filesystem"
    for source, fill in _PV_SOURCES.items():
        if spec.get(source) is not None:
            fill(spec[source])
    claim = spec.get("claimRef")
    if claim:
        claim.setdefault("kind", "PersistentVolumeClaim")
        claim.setdefault("apiVersion", "v1")
    status = obj.setdefault("status", {})
    if not status.get("phase"):
        status["phase"] = "Pending"


def persistent_volume_claim(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _claim_spec(spec)
    status = obj.setdefault("status", {})
    if not status.get("phase"):
        status["phase"] = "Pending"
    canonicalize(status.get("capacity"))
    canonicalize(status.get("allocatedResources"))


def _claim_spec(spec: Object) -> None:
    resources = spec.get("resources")
    if resources is None:
        spec["resources"] = {}
    else:
        canonicalize(resources.get("requests"))
        canonicalize(resources.get("limits"))
    if spec.get("volumeMode") is None:
        spec["volumeMode"] = "Filesystem"
    # A data source may be given under its old or its new name; both are stored.
    if spec.get("dataSource") is not None and spec.get("dataSourceRef") is None:
        spec["dataSourceRef"] = dict(spec["dataSource"])
    ref = spec.get("dataSourceRef")
    if ref is not None and spec.get("dataSource") is None and not ref.get("namespace"):
        spec["dataSource"] = dict(ref)


def claim_template(claim: Object) -> None:
    """A volumeClaimTemplate of a StatefulSet."""
    claim.setdefault("kind", "PersistentVolumeClaim")
    claim.setdefault("apiVersion", "v1")
    persistent_volume_claim(claim)


def storage_class(obj: Object) -> None:
    if obj.get("reclaimPolicy") is None:
        obj["reclaimPolicy"] = "Delete"
    if obj.get("volumeBindingMode") is None:
        obj["volumeBindingMode"] = "Immediate"


def csi_driver(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    values = {
        "attachRequired": True,
        "podInfoOnMount": False,
        "storageCapacity": False,
        "fsGroupPolicy": "ReadWriteOnceWithFSType",
        "requiresRepublish": False,
        "seLinuxMount": False,
    }
    for key, value in values.items():
        if spec.get(key) is None:
            spec[key] = value
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]
