"""Services and EndpointSlices into the wanted dataplane. Pure, and incremental: a change touches
one service.

Plays k8s.io/kubernetes/pkg/proxy (ServiceChangeTracker, EndpointsChangeTracker,
CategorizeEndpoints). Which endpoints a connection may reach: the ready ones; if there is none,
those that still serve while they terminate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from cluster.api.meta import Object, object_key, parse_rfc3339

SERVICE_NAME = "kubernetes.io/service-name"
PROXY_NAME = "service.kubernetes.io/service-proxy-name"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
DEFAULT_AFFINITY_SECONDS = 10_800
TOLD_PODS = 20
"""Pods of one sync whose stage 8 is told to the flow log; more would describe a storm, not a pod.
"""
Endpoint = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """One port of one Service. `external` are externalIPs and load balancer addresses.
    `node_endpoints` (by node name) is there if a traffic policy is Local: the endpoints of that
    node only."""

    cluster_ip: str
    protocol: str
    port: int
    endpoints: tuple[Endpoint, ...]
    node_port: int = 0
    external: tuple[str, ...] = ()
    affinity_seconds: int = 0
    external_local: bool = False
    internal_local: bool = False
    node_endpoints: Mapping[str, tuple[Endpoint, ...]] | None = None
    health_check_node_port: int = 0


@dataclass(slots=True)
class PlanChanges:
    """What to program: service ports by `namespace/name:port` (None: remove). `triggers`: when the
    endpoint changes in it happened, seconds since the epoch."""

    ports: dict[str, ServicePlan | None] = field(default_factory=dict)
    triggers: list[float] = field(default_factory=list)
    services_changed: int = 0
    endpoints_changed: int = 0
    pods: dict[tuple[str, str], str] = field(default_factory=dict)


class ProxyPlan:
    """All Services and slices, what is planned, and which services must be looked at again."""

    def __init__(self) -> None:
        self._services: dict[str, Object] = {}
        self._slices: dict[str, dict[str, Object]] = {}
        self._planned: dict[str, dict[str, ServicePlan]] = {}
        self._dirty: dict[str, None] = {}
        self._triggers: list[float] = []
        self._services_changed = 0
        self._endpoints_changed = 0
        self._pods: dict[tuple[str, str], str] = {}

    @property
    def dirty(self) -> bool:
        return bool(self._dirty)

    @property
    def pending(self) -> tuple[int, int]:
        """Changes of services and of endpoint slices that `take` has not handed out yet."""
        return self._services_changed, self._endpoints_changed

    def handle_service(self, old: Object | None, new: Object | None) -> None:
        """A Service came, changed or went."""
        key = object_key(new or old or {})
        if new is not None and _is_proxied(new):
            self._services[key] = new
        elif self._services.pop(key, None) is None:
            return
        self._dirty[key] = None
        self._services_changed += 1

    def handle_slice(self, old: Object | None, new: Object | None) -> None:
        """An EndpointSlice came, changed or went."""
        for obj in (old, new):
            if obj is None:
                continue
            service = _service_of(obj)
            if service is None:
                continue
            slices = self._slices.setdefault(service, {})
            if obj is new:
                slices[obj["metadata"]["name"]] = obj
            elif new is None or _service_of(new) != service:
                slices.pop(obj["metadata"]["name"], None)
                if not slices:
                    del self._slices[service]
            self._dirty[service] = None
        self._endpoints_changed += 1
        if new is not None and len(self._pods) < TOLD_PODS:
            known = _ready_pods(old)
            for pod in _ready_pods(new) - known:
                self._pods[pod] = _service_of(new) or ""
        if new is not None:
            when = (new["metadata"].get("annotations") or {}).get(TRIGGER_TIME)
            if when:
                self._triggers.append(parse_rfc3339(when))

    def take(self) -> PlanChanges:
        """What changed since the last call."""
        changes = PlanChanges(
            {}, self._triggers, self._services_changed, self._endpoints_changed, self._pods
        )
        self._pods = {}
        for key in self._dirty:
            before = self._planned.get(key, {})
            service = self._services.get(key)
            after = dict(_plan_service(key, service, self._slices.get(key, {}))) if service else {}
            for name in before.keys() - after.keys():
                changes.ports[name] = None
            for name, plan in after.items():
                if before.get(name) != plan:
                    changes.ports[name] = plan
            if after:
                self._planned[key] = after
            else:
                self._planned.pop(key, None)
        self._dirty = {}
        self._triggers = []
        self._services_changed = self._endpoints_changed = 0
        return changes

    def everything(self) -> dict[str, ServicePlan]:
        """All that `take` has handed out so far, for programming from nothing."""
        return {name: plan for ports in self._planned.values() for name, plan in ports.items()}


def _ready_pods(piece: Object | None) -> set[tuple[str, str]]:
    """The pods of a slice's ready endpoints."""
    found = set()
    for endpoint in (piece or {}).get("endpoints") or ():
        target = endpoint.get("targetRef") or {}
        if target.get("kind") == "Pod" and (endpoint.get("conditions") or {}).get("ready", True):
            found.add((target["namespace"], target["name"]))
    return found


def _is_proxied(service: Object) -> bool:
    """Whether connections to it are the proxy's business (ShouldSkipService)."""
    spec = service.get("spec") or {}
    if spec.get("clusterIP") in (None, "", "None") or spec.get("type") == "ExternalName":
        return False
    return PROXY_NAME not in (service["metadata"].get("labels") or {})


def _service_of(piece: Object) -> str | None:
    labels = piece["metadata"].get("labels") or {}
    name = labels.get(SERVICE_NAME)
    if not name or piece.get("addressType") not in ("IPv4", None):
        return None
    return f"{piece['metadata']['namespace']}/{name}"


def _plan_service(
    key: str, service: Object, slices: Mapping[str, Object]
) -> Iterator[tuple[str, ServicePlan]]:
    spec = service["spec"]
    external = tuple(spec.get("externalIPs") or ()) + tuple(_ingress_ips(service))
    affinity = 0
    if spec.get("sessionAffinity") == "ClientIP":
        config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        affinity = int(config.get("timeoutSeconds") or DEFAULT_AFFINITY_SECONDS)
    external_local = spec.get("externalTrafficPolicy") == "Local"
    internal_local = spec.get("internalTrafficPolicy") == "Local"
    for port in spec.get("ports") or ():
        name, protocol = port.get("name", ""), port.get("protocol", "TCP")
        found = [*_endpoints(slices.values(), name, protocol)]
        yield (
            f"{key}:{name}" if name else f"{key}:{port['port']}",
            ServicePlan(
                spec["clusterIP"],
                protocol,
                port["port"],
                _usable(found),
                port.get("nodePort", 0),
                external,
                affinity,
                external_local,
                internal_local,
                _by_node(found) if external_local or internal_local else None,
                spec.get("healthCheckNodePort", 0) if external_local else 0,
            ),
        )


def _ingress_ips(service: Object) -> Iterator[str]:
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    for ingress in balancer.get("ingress") or ():
        if ingress.get("ip") and ingress.get("ipMode", "VIP") == "VIP":
            yield ingress["ip"]


@dataclass(slots=True)
class _Found:
    endpoint: Endpoint
    node: str
    ready: bool
    serving: bool
    terminating: bool


def _endpoints(slices: Iterable[Object], name: str, protocol: str) -> Iterator[_Found]:
    for piece in slices:
        number = 0
        for port in piece.get("ports") or ():
            if (port.get("name") or "") == name and port.get("protocol", "TCP") == protocol:
                number = port.get("port") or 0
        if not number:
            continue
        for endpoint in piece.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            ready = conditions.get("ready") is not False
            serving = conditions.get("serving")
            address = (endpoint.get("addresses") or ("",))[0]
            if address:
                yield _Found(
                    (address, number),
                    endpoint.get("nodeName", ""),
                    ready,
                    ready if serving is None else bool(serving),
                    bool(conditions.get("terminating")),
                )


def _usable(found: Iterable[_Found]) -> tuple[Endpoint, ...]:
    """Ready ones, else those that serve while they terminate; sorted, each once."""
    found = list(found)
    ready = {f.endpoint for f in found if f.ready}
    return tuple(sorted(ready or {f.endpoint for f in found if f.serving and f.terminating}))


def _by_node(found: Iterable[_Found]) -> dict[str, tuple[Endpoint, ...]]:
    nodes: dict[str, list[_Found]] = {}
    for one in found:
        nodes.setdefault(one.node, []).append(one)
    return {node: _usable(items) for node, items in sorted(nodes.items())}
