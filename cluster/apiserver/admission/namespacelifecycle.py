"""NamespaceLifecycle: k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle.

Nothing is created in a namespace that is not there or is being deleted; the namespaces that the
system stands on are never deleted.
"""

from __future__ import annotations

from cluster.api.errors import Forbidden, NotFound
from cluster.api.meta import GVR, NAMESPACES
from cluster.apiserver.admission.chain import Plugin
from cluster.apiserver.attributes import AdmissionRequest, Operation, Registry
from cluster.apiserver.authz.messages import forbidden_resource

_IMMORTAL = frozenset(("default", "kube-system", "kube-public"))
# Reviews are questions, not objects.
_REVIEWS = frozenset(("localsubjectaccessreviews",))


class NamespaceLifecycle(Plugin):
    name = "NamespaceLifecycle"

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        if gvr.plural in _REVIEWS:
            return False
        if operation == "DELETE":
            return gvr.plural == "namespaces" and gvr.group == "" and not subresource
        return operation == "CREATE" and not (gvr.plural == "namespaces" and gvr.group == "")

    def admit(self, request: AdmissionRequest) -> None:
        if request.operation == "DELETE":
            if request.name in _IMMORTAL:
                raise forbidden_resource(
                    "", "namespaces", request.name, "this namespace may not be deleted"
                )
            return
        if not request.namespace:
            return
        namespace = self._registry.get(NAMESPACES, "", request.namespace)
        if namespace is None:
            raise NotFound(
                f'namespaces "{request.namespace}" not found',
                details={"name": request.namespace, "kind": "namespaces"},
            )
        if request.subresource:
            return
        if (namespace.get("status") or {}).get("phase") == "Terminating":
            raise self._terminating(request)

    def _terminating(self, request: AdmissionRequest) -> Forbidden:
        error = forbidden_resource(
            request.gvr.group,
            request.gvr.plural,
            request.name,
            "unable to create new content in namespace"
            f" {request.namespace} because it is being terminated",
        )
        error.details = {
            **(error.details or {}),
            "causes": [
                {
                    "reason": "NamespaceTerminating",
                    "message": f"namespace {request.namespace} is being terminated",
                    "field": "metadata.namespace",
                }
            ],
        }
        return error
