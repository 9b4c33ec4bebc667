"""A pod that comes a moment after its namespace waits for the default service account, up to a
second, as upstream's ServiceAccount plugin does: `kubectl create namespace x && kubectl run -n x`.

Plugins decide at once, so the waiting is a link of the chain's async half. Nothing waits while
every active namespace has its account.
"""

from __future__ import annotations

import asyncio

from cluster.api.meta import GVR, NAMESPACES, PODS, SERVICEACCOUNTS, Object
from cluster.apiserver.admission.serviceaccount import DEFAULT
from cluster.apiserver.attributes import AdmissionRequest, Operation, Registry

WAIT_SECONDS = 1.0


class DefaultAccountWait:
    name = "DefaultAccountWait"

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._missing: dict[str, asyncio.Event] = {}
        registry.subscribe(NAMESPACES, self._handle_namespace)
        registry.subscribe(SERVICEACCOUNTS, self._handle_account)

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        return bool(self._missing) and operation == "CREATE" and gvr == PODS and not subresource

    async def prepare(self, request: AdmissionRequest) -> None:
        """Wait, if the pod wants an account that is about to come."""
        event = self._missing.get(request.namespace)
        spec = (request.obj or {}).get("spec") or {}
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or DEFAULT
        if event is None or name != DEFAULT:
            return
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await event.wait()
        except TimeoutError:
            return  # the plugin says what is missing

    async def admit(self, request: AdmissionRequest) -> None:
        """Changes nothing."""

    async def validate(self, request: AdmissionRequest) -> None:
        """Refuses nothing."""

    def _handle_namespace(self, old: Object | None, new: Object | None) -> None:
        namespace = new or old
        assert namespace is not None
        name = namespace["metadata"]["name"]
        if new is None or (new.get("status") or {}).get("phase") == "Terminating":
            self._found(name)
        elif old is None and self._registry.get(SERVICEACCOUNTS, name, DEFAULT) is None:
            self._missing.setdefault(name, asyncio.Event())

    def _handle_account(self, old: Object | None, new: Object | None) -> None:
        account = new or old
        assert account is not None
        if account["metadata"]["name"] == DEFAULT and new is not None:
            self._found(account["metadata"].get("namespace", ""))

    def _found(self, namespace: str) -> None:
        event = self._missing.pop(namespace, None)
        if event is not None:
            event.set()
