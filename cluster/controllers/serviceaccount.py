"""What every namespace gets: the `default` ServiceAccount and the cluster's CA certificate.

Plays pkg/controller/serviceaccount and pkg/controller/certificates/rootcacertpublisher.
"""

from __future__ import annotations

from cluster.api.errors import AlreadyExists, Conflict, NotFound, StatusError
from cluster.api.meta import CONFIGMAPS, GVR, NAMESPACES, SERVICEACCOUNTS, Object
from cluster.client import run_workers
from cluster.controllers.context import ControllerContext
from cluster.controllers.ownership import has_cause

DEFAULT = "default"
ROOT_CA = "kube-root-ca.crt"
_DESCRIPTION_KEY = "kubernetes.io/description"
_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal "
    "endpoints such as the internal service IP or kubernetes.default.svc. No other usage is "
    "guaranteed across distributions of Kubernetes clusters."
)
WORKERS = 20


class ServiceAccountController:
    """Puts the `default` ServiceAccount into every active namespace."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._queue = context.queue("serviceaccount")
        self._namespaces = context.informers.informer(NAMESPACES)
        self._accounts = context.informers.informer(SERVICEACCOUNTS)
        self._namespaces.add_handler(self._handle_namespace)
        self._accounts.add_handler(self._handle_account)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(NAMESPACES, SERVICEACCOUNTS)
        await run_workers(self._queue, self._sync, WORKERS)

    def _handle_namespace(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._queue.add(new["metadata"]["name"])

    def _handle_account(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None and old["metadata"]["name"] == DEFAULT:
            self._queue.add(old["metadata"]["namespace"])

    async def _sync(self, name: str) -> None:
        if not is_active(self._namespaces.get(name)) or self._accounts.get(f"{name}/{DEFAULT}"):
            return
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": DEFAULT, "namespace": name},
        }
        await create_unless_terminating(self._context, SERVICEACCOUNTS, account)


class RootCaPublisher:
    """Keeps the ConfigMap kube-root-ca.crt in every active namespace."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._queue = context.queue("root_ca_cert_publisher")
        self._namespaces = context.informers.informer(NAMESPACES)
        self._maps = context.informers.informer(CONFIGMAPS)
        self._namespaces.add_handler(self._handle_namespace)
        self._maps.add_handler(self._handle_map)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(NAMESPACES, CONFIGMAPS)
        await run_workers(self._queue, self._sync, WORKERS)

    def _handle_namespace(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._queue.add(new["metadata"]["name"])

    def _handle_map(self, old: Object | None, new: Object | None) -> None:
        obj = new or old
        if obj is not None and obj["metadata"]["name"] == ROOT_CA:
            self._queue.add(obj["metadata"]["namespace"])

    async def _sync(self, name: str) -> None:
        if not is_active(self._namespaces.get(name)) or not self._context.config.root_ca_pem:
            return
        stored = self._maps.get(f"{name}/{ROOT_CA}")
        data = {"ca.crt": self._context.config.root_ca_pem}
        if stored is None:
            metadata = {
                "name": ROOT_CA,
                "namespace": name,
                "annotations": {_DESCRIPTION_KEY: _DESCRIPTION},
            }
            wanted: Object = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": metadata,
                "data": data,
            }
            await create_unless_terminating(self._context, CONFIGMAPS, wanted)
            return
        annotations = stored["metadata"].get("annotations") or {}
        if stored.get("data") == data and annotations.get(_DESCRIPTION_KEY):
            return
        metadata = {
            **stored["metadata"],
            "annotations": {**annotations, _DESCRIPTION_KEY: _DESCRIPTION},
        }
        try:
            await self._client.update(
                CONFIGMAPS, {**stored, "metadata": metadata, "data": data}, answer="none"
            )
        except (Conflict, NotFound):
            self._queue.add_rate_limited(name)


def is_active(namespace: Object | None) -> bool:
    """Exists and is not being deleted."""
    return (
        namespace is not None
        and "deletionTimestamp" not in namespace["metadata"]
        and (namespace.get("status") or {}).get("phase", "Active") == "Active"
    )


async def create_unless_terminating(context: ControllerContext, gvr: GVR, obj: Object) -> None:
    """Create; content with it being there already, and with its namespace going away."""
    try:
        await context.client.create(gvr, obj, answer="none")
    except AlreadyExists:
        return
    except StatusError as error:
        if isinstance(error, NotFound) or has_cause(error, "NamespaceTerminating"):
            return
        raise
