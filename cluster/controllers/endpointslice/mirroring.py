"""Mirrors hand-made Endpoints into EndpointSlices (pkg/controller/endpointslicemirroring).

For Services without a selector: someone writes the Endpoints object, proxies and DNS read slices
only.
"""

from __future__ import annotations

import asyncio

from cluster.api.errors import AlreadyExists, Conflict, NotFound
from cluster.api.meta import ENDPOINTS, ENDPOINTSLICES, SERVICES, Object
from cluster.client import run_workers
from cluster.controllers.context import ControllerContext
from cluster.controllers.endpointslice.selection import selector_of
from cluster.controllers.endpointslice.slices import MANAGED_BY, SERVICE_NAME

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
MAX_ADDRESSES = 1000  # of a subset; upstream's --mirroring-max-endpoints-per-subset
WORKERS = 5
RETRY_SECONDS = 0.1
_NOT_COPIED = frozenset(
    ("kubectl.kubernetes.io/last-applied-configuration", "endpoints.kubernetes.io/over-capacity")
)


class EndpointSliceMirroringController:
    """Keeps slices equal to the Endpoints of Services without a selector."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._queue = context.queue("endpoint_slice_mirroring")
        self._services = context.informers.informer(SERVICES)
        self._endpoints = context.informers.informer(ENDPOINTS)
        self._slices = context.informers.informer(ENDPOINTSLICES)
        self._slices.add_index("mirrored", _mirrored_index)
        for informer in (self._services, self._endpoints):
            informer.add_handler(self._handle)
        self._slices.add_handler(self._handle_slice)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(SERVICES, ENDPOINTS, ENDPOINTSLICES)
        await run_workers(self._queue, self._sync, WORKERS)

    def _handle(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        key = f"{meta['namespace']}/{meta['name']}"
        service = self._services.get(key)
        if service is None or selector_of(service) is None:  # those with one are not ours
            self._queue.add(key)

    def _handle_slice(self, old: Object | None, new: Object | None) -> None:
        for key in _mirrored_index(new or old or {}):
            self._queue.add(key)

    async def _sync(self, key: str) -> float | None:
        service, endpoints = self._services.get(key), self._endpoints.get(key)
        stored = self._slices.by_index("mirrored", key)
        wanted: list[Object] = []
        if service is not None and endpoints is not None and should_mirror(service, endpoints):
            wanted = mirror(endpoints)
        writes = self._plan(wanted, stored)
        answers = await asyncio.gather(*writes, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, Conflict | AlreadyExists | NotFound):
                return RETRY_SECONDS
            if isinstance(answer, BaseException):
                raise answer
        return None

    def _plan(self, wanted: list[Object], stored: list[Object]) -> list[asyncio.Future[Object]]:
        """Reuse slices of the same kind and ports, make what is missing, remove what is left."""
        left = list(stored)
        writes: list[asyncio.Future[Object]] = []
        for piece in wanted:
            same = next((s for s in left if _shape(s) == _shape(piece)), None)
            if same is None:
                writes.append(self._client.create_nowait(ENDPOINTSLICES, piece, answer="none"))
                continue
            left.remove(same)
            if (same.get("endpoints") or []) != piece["endpoints"]:
                changed = {**same, "endpoints": piece["endpoints"]}
                writes.append(self._client.update_nowait(ENDPOINTSLICES, changed, answer="none"))
        for piece in left:
            meta = piece["metadata"]
            writes.append(
                self._client.delete_nowait(ENDPOINTSLICES, meta["name"], meta["namespace"])
            )
        return writes


def should_mirror(service: Object, endpoints: Object) -> bool:
    """Only for Services without a selector, and not where the labels or annotations say no."""
    meta = endpoints["metadata"]
    if service["spec"].get("selector") or "deletionTimestamp" in meta:
        return False
    if (meta.get("labels") or {}).get(SKIP_MIRROR) == "true":
        return False
    return LEADER not in (meta.get("annotations") or {})


def mirror(endpoints: Object) -> list[Object]:
    """A slice for each subset and address family."""
    meta = endpoints["metadata"]
    found: list[Object] = []
    for subset in endpoints.get("subsets") or ():
        every = [
            *((a, True) for a in subset.get("addresses") or ()),
            *((a, False) for a in subset.get("notReadyAddresses") or ()),
        ][:MAX_ADDRESSES]
        for family in ("IPv4", "IPv6"):
            chosen = [
                _endpoint(a, ready) for a, ready in every if (":" in a["ip"]) == (family == "IPv6")
            ]
            if chosen:
                found.append(_slice(meta, family, chosen, subset.get("ports") or []))
    return found


def _slice(meta: Object, family: str, endpoints: list[Object], ports: list[Object]) -> Object:
    annotations = {k: v for k, v in (meta.get("annotations") or {}).items() if k not in _NOT_COPIED}
    labels = {**(meta.get("labels") or {}), SERVICE_NAME: meta["name"], MANAGED_BY: MANAGER}
    metadata: Object = {
        "generateName": f"{meta['name']}-",
        "namespace": meta["namespace"],
        "labels": labels,
        "ownerReferences": [
            {
                "apiVersion": "v1",
                "kind": "Endpoints",
                "name": meta["name"],
                "uid": meta["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    if annotations:
        metadata["annotations"] = annotations
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": family,
        "endpoints": endpoints,
        "ports": [{"name": "", **p} for p in ports],
    }


def _endpoint(address: Object, ready: bool) -> Object:
    endpoint: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for field in ("hostname", "nodeName", "targetRef"):
        if address.get(field):
            endpoint[field] = address[field]
    return endpoint


def _shape(piece: Object) -> tuple[object, object]:
    ports = tuple(
        (p.get("name", ""), p.get("port"), p.get("protocol", "TCP"), p.get("appProtocol"))
        for p in piece.get("ports") or ()
    )
    return piece.get("addressType"), ports


def _mirrored_index(obj: Object) -> list[str]:
    meta = obj["metadata"]
    labels = meta.get("labels") or {}
    if labels.get(MANAGED_BY) != MANAGER:
        return []
    return [f"{meta['namespace']}/{labels.get(SERVICE_NAME, '')}"]
