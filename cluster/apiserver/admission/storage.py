"""Plugins about volumes: plugin/pkg/admission/storage/{storageobjectinuseprotection,
storageclass/setdefault, persistentvolume/resize}."""

from __future__ import annotations

from cluster.api import quantity
from cluster.api.meta import GVR, Object, parse_rfc3339
from cluster.apiserver.admission.chain import Plugin
from cluster.apiserver.attributes import AdmissionRequest, Operation, Registry
from cluster.apiserver.authz.messages import forbidden_resource

STORAGECLASSES = GVR("storage.k8s.io", "v1", "storageclasses")
IS_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_BETA_IS_DEFAULT = "storageclass.beta.kubernetes.io/is-default-class"
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"

_FINALIZERS = {
    "persistentvolumeclaims": "kubernetes.io/pvc-protection",
    "persistentvolumes": "kubernetes.io/pv-protection",
    "volumeattributesclasses": "kubernetes.io/vac-protection",
}


class StorageObjectInUseProtection(Plugin):
    """A finalizer keeps claims and volumes while they are used."""

    name = "StorageObjectInUseProtection"

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        return operation == "CREATE" and not subresource and gvr.plural in _FINALIZERS

    def admit(self, request: AdmissionRequest) -> None:
        if request.obj is None:
            return
        metadata = request.obj["metadata"]
        finalizer = _FINALIZERS[request.gvr.plural]
        finalizers = metadata.get("finalizers") or []
        if finalizer not in finalizers:
            metadata["finalizers"] = [*finalizers, finalizer]


class DefaultStorageClass(Plugin):
    """A claim that names no class gets the default one (the newest of several)."""

    name = "DefaultStorageClass"

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        return (
            operation == "CREATE"
            and gvr.plural == "persistentvolumeclaims"
            and not gvr.group
            and not subresource
        )

    def admit(self, request: AdmissionRequest) -> None:
        claim = request.obj
        if claim is None or claim.setdefault("spec", {}).get("storageClassName") is not None:
            return
        if _BETA_CLASS in (claim["metadata"].get("annotations") or {}):
            return
        defaults = [c for c in self._registry.list(STORAGECLASSES) if _is_default(c)]
        if defaults:
            newest = min(defaults, key=_age_order)
            claim.setdefault("spec", {})["storageClassName"] = newest["metadata"]["name"]


class PersistentVolumeClaimResize(Plugin):
    """A claim grows only if its class allows it."""

    name = "PersistentVolumeClaimResize"

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        return (
            operation == "UPDATE"
            and gvr.plural == "persistentvolumeclaims"
            and not gvr.group
            and not subresource
        )

    def validate(self, request: AdmissionRequest) -> None:
        if request.obj is None or request.old is None:
            return
        if _storage(request.obj) <= _storage(request.old):
            return
        name = (request.old.get("spec") or {}).get("storageClassName") or ""
        if (request.old.get("status") or {}).get("phase") != "Bound":
            raise self._forbidden(request, "Only bound persistent volume claims can be expanded")
        found = self._registry.get(STORAGECLASSES, "", name) if name else None
        if found is None or not found.get("allowVolumeExpansion"):
            raise self._forbidden(
                request,
                "only dynamically provisioned pvc can be resized and the storageclass that"
                " provisions the pvc must support resize",
            )

    def _forbidden(self, request: AdmissionRequest, message: str) -> Exception:
        return forbidden_resource("", "persistentvolumeclaims", request.name, message)


def _is_default(storage_class: Object) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return annotations.get(IS_DEFAULT) == "true" or annotations.get(_BETA_IS_DEFAULT) == "true"


def _age_order(storage_class: Object) -> tuple[float, str]:
    metadata = storage_class["metadata"]
    created = metadata.get("creationTimestamp")
    return -(parse_rfc3339(created) if created else 0.0), metadata["name"]


def _storage(claim: Object) -> int:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    try:
        return int(quantity.value(requests.get("storage", 0)))
    except ValueError:
        return 0
