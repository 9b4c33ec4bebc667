"""Endpoints: all addresses of a Service in one object, at most 1,000 (pkg/controller/endpoint).

Old clients read it; nothing of ours does. So its writes are paced by size.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.api.errors import AlreadyExists, Conflict, NotFound
from cluster.api.meta import ENDPOINTS, NODES, PODS, SERVICES, Object, split_key
from cluster.client import run_workers
from cluster.controllers.context import ControllerContext
from cluster.controllers.endpointslice.endpoint import Ports, address_of, belongs, endpoint_ports
from cluster.controllers.endpointslice.feed import Dirty, Pace, ServiceFeed
from cluster.controllers.endpointslice.selection import selector_of
from cluster.controllers.podindex import is_ready

CAPACITY = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
HEADLESS = "service.kubernetes.io/headless"
WORKERS = 50
PAUSE_PER_ADDRESS = 0.001
RETRY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Address:
    """One pod's entry: on which ports, ready or not."""

    ports: Ports
    ready: bool
    body: Object


@dataclass(slots=True)
class _State:
    dirty: Dirty = field(default_factory=Dirty)
    addresses: dict[str, Address] = field(default_factory=dict)


class EndpointsController:
    """Keeps an Endpoints object for every Service that has a selector."""

    def __init__(self, context: ControllerContext, feed: ServiceFeed) -> None:
        self._context = context
        self._client = context.client
        self._feed = feed
        self._queue = context.queue("endpoint")
        self._pace = Pace(context, PAUSE_PER_ADDRESS)
        self._states: dict[str, _State] = {}
        self._pods = context.informers.informer(PODS)
        self._stored = context.informers.informer(ENDPOINTS)
        self._stored.add_handler(self._handle_endpoints)
        feed.subscribe(self._handle_service)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(SERVICES, PODS, NODES, ENDPOINTS)
        for obj in self._stored.list():  # left over from Services deleted while nobody watched
            self._queue.add(f"{obj['metadata']['namespace']}/{obj['metadata']['name']}")
        await run_workers(self._queue, self._sync, WORKERS)

    def _handle_service(self, key: str, pods: set[str] | None) -> None:
        state = self._states.setdefault(key, _State())
        if pods is None:
            state.dirty.everything = True
        else:
            state.dirty.pods |= pods
        self._pace.schedule(self._queue, key)

    def _handle_endpoints(self, old: Object | None, new: Object | None) -> None:
        """Someone removed it: make it again. Edits by others are put right at the next change."""
        if new is None and old is not None:
            self._queue.add(f"{old['metadata']['namespace']}/{old['metadata']['name']}")

    async def _sync(self, key: str) -> float | None:
        service = self._feed.services.get(key)
        if service is None:
            await self._remove(key)
            return None
        if selector_of(service) is None:
            self._states.pop(key, None)
            return None
        state = self._states.setdefault(key, _State())
        self._refresh(key, service, state)
        stored = self._stored.get(key)
        wanted = render_endpoints(service, stored, state.addresses)
        if stored is not None and _same(stored, wanted):
            return None
        try:
            if stored is None:
                await self._client.create(ENDPOINTS, wanted, answer="none")
            else:
                await self._client.update(ENDPOINTS, wanted, answer="none")
        except (Conflict, NotFound, AlreadyExists):
            return RETRY_SECONDS
        self._pace.wrote(key, min(CAPACITY, len(state.addresses)))
        return None

    async def _remove(self, key: str) -> None:
        self._states.pop(key, None)
        self._pace.forget(key)
        stored = self._stored.get(key)
        if stored is None or not _is_ours(stored):
            return
        namespace, name = split_key(key)
        try:
            await self._client.delete(ENDPOINTS, name, namespace, uid=stored["metadata"]["uid"])
        except (NotFound, Conflict):
            return

    def _refresh(self, key: str, service: Object, state: _State) -> None:
        dirty = state.dirty.take()
        selection = self._feed.selection
        if dirty.everything:
            state.addresses = {}
            dirty.pods = set(selection.pods_of(key, self._context.pods))
        for pod_key in dirty.pods:
            facts, pod = self._context.pods.facts(pod_key), self._pods.get(pod_key)
            address: Address | None = None
            if facts and pod and key in selection.services_of(facts.namespace, facts.labels):
                address = make_address(service, pod)
            if address is None:
                state.addresses.pop(pod_key, None)
            else:
                state.addresses[pod_key] = address


def make_address(service: Object, pod: Object) -> Address | None:
    """A pod's entry; None if it has none. Pods on their way out are left out unless unready ones
    are wanted."""
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    families = service["spec"].get("ipFamilies") or ["IPv4"]
    ip = address_of(pod, families[0]) if belongs(pod) else ""
    if not ip or ("deletionTimestamp" in pod["metadata"] and not publish):
        return None
    meta, spec = pod["metadata"], pod.get("spec") or {}
    body: Object = {"ip": ip}
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        body["hostname"] = spec["hostname"]
    if spec.get("nodeName"):
        body["nodeName"] = spec["nodeName"]
    body["targetRef"] = {
        "kind": "Pod",
        "namespace": meta["namespace"],
        "name": meta["name"],
        "uid": meta.get("uid", ""),
    }
    return Address(endpoint_ports(service, pod), publish or is_ready(pod), body)


def render_endpoints(
    service: Object, stored: Object | None, addresses: dict[str, Address]
) -> Object:
    """The Endpoints object of a Service."""
    meta = service["metadata"]
    chosen, truncated = _truncate(addresses)
    groups: dict[Ports, tuple[list[Object], list[Object]]] = {}
    for address in chosen:
        if not address.ports and service["spec"].get("ports"):
            continue  # none of the named ports is there
        ready, waiting = groups.setdefault(address.ports, ([], []))
        (ready if address.ready else waiting).append(address.body)
    subsets: list[Object] = []
    for ports, (ready, waiting) in groups.items():
        subset: Object = {}
        if ready:
            subset["addresses"] = sorted(ready, key=lambda a: str(a["ip"]))
        if waiting:
            subset["notReadyAddresses"] = sorted(waiting, key=lambda a: str(a["ip"]))
        if ports:
            subset["ports"] = [_render_port(p) for p in ports]
        subsets.append(subset)
    labels = {k: v for k, v in (meta.get("labels") or {}).items() if k != HEADLESS}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    labels[MANAGED_BY] = "endpoint-controller"
    metadata: Object = {"name": meta["name"], "namespace": meta["namespace"]}
    annotations: dict[str, str] = {}
    if stored is not None:
        metadata = dict(stored["metadata"])
        annotations = dict(metadata.pop("annotations", None) or {})
    metadata["labels"] = labels
    annotations.pop(OVER_CAPACITY, None)
    if truncated:
        annotations[OVER_CAPACITY] = "truncated"
    if annotations:
        metadata["annotations"] = annotations
    wanted: Object = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata}
    if subsets:
        wanted["subsets"] = subsets
    return wanted


def _truncate(addresses: dict[str, Address]) -> tuple[list[Address], bool]:
    """At most CAPACITY addresses, ready ones first."""
    every = (
        [addresses[k] for k in sorted(addresses)]
        if len(addresses) > 1
        else list(addresses.values())
    )
    if len(every) <= CAPACITY:
        return every, False
    every.sort(key=lambda a: not a.ready)
    return every[:CAPACITY], True


def _render_port(port: tuple[str, int, str, str]) -> Object:
    name, number, protocol, app_protocol = port
    rendered: Object = {"port": number, "protocol": protocol}
    if name:
        rendered["name"] = name
    if app_protocol:
        rendered["appProtocol"] = app_protocol
    return rendered


def _same(stored: Object, wanted: Object) -> bool:
    old, new = stored["metadata"], wanted["metadata"]
    return bool(
        (stored.get("subsets") or []) == (wanted.get("subsets") or [])
        and (old.get("labels") or {}) == (new.get("labels") or {})
        and (old.get("annotations") or {}) == (new.get("annotations") or {})
    )


def _is_ours(stored: Object) -> bool:
    return bool((stored["metadata"].get("labels") or {}).get(MANAGED_BY) == "endpoint-controller")
