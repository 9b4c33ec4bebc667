"""DefaultIngressClass: plugin/pkg/admission/network/defaultingressclass."""

from __future__ import annotations

from cluster.api.meta import GVR, Object, parse_rfc3339
from cluster.apiserver.admission.chain import Plugin
from cluster.apiserver.attributes import AdmissionRequest, Operation, Registry

INGRESSES = GVR("networking.k8s.io", "v1", "ingresses")
INGRESSCLASSES = GVR("networking.k8s.io", "v1", "ingressclasses")
_IS_DEFAULT = "ingressclass.kubernetes.io/is-default-class"
_OLD_CLASS = "kubernetes.io/ingress.class"


class DefaultIngressClass(Plugin):
    """An ingress that names no class gets the default one (the newest of several)."""

    name = "DefaultIngressClass"

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        same = (gvr.group, gvr.plural) == (INGRESSES.group, INGRESSES.plural)
        return operation == "CREATE" and same and not subresource

    def admit(self, request: AdmissionRequest) -> None:
        ingress = request.obj
        if ingress is None or (ingress.get("spec") or {}).get("ingressClassName") is not None:
            return
        if _OLD_CLASS in (ingress["metadata"].get("annotations") or {}):
            return
        defaults = [
            c
            for c in self._registry.list(INGRESSCLASSES)
            if (c["metadata"].get("annotations") or {}).get(_IS_DEFAULT) == "true"
        ]
        if defaults:
            newest = min(defaults, key=_age_order)
            ingress.setdefault("spec", {})["ingressClassName"] = newest["metadata"]["name"]


def _age_order(obj: Object) -> tuple[float, str]:
    created = obj["metadata"].get("creationTimestamp")
    return -(parse_rfc3339(created) if created else 0.0), str(obj["metadata"]["name"])
