"""What would change admission itself and is not emulated yet is refused by name: a policy that is
stored and never enforced would be worse than none. Upstream has no such plugin."""

from __future__ import annotations

from cluster.api.errors import NotEmulated
from cluster.api.meta import GVR
from cluster.apiserver.admission.chain import Plugin
from cluster.apiserver.attributes import AdmissionRequest, Operation

_GROUP = "admissionregistration.k8s.io"
_POLICIES = frozenset(
    (
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    )
)


class NotEmulatedYet(Plugin):
    name = "NotEmulated"

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        return operation in ("CREATE", "UPDATE") and gvr.group == _GROUP and not subresource

    def validate(self, request: AdmissionRequest) -> None:
        plural = request.gvr.plural
        if plural in _POLICIES:
            raise NotEmulated(f"{plural}.{_GROUP}")
        for index, webhook in enumerate((request.obj or {}).get("webhooks") or ()):
            if webhook.get("matchConditions"):
                raise NotEmulated(f"webhooks[{index}].matchConditions")
