"""Cluster IPs and node ports of Services. Plays
pkg/registry/core/service/{ipallocator,portallocator,storage/alloc.go}.

What is taken is read off the Services themselves (through the watch cache), plus what is on its
way to the store: so nothing leaks when a write fails, and a restart needs no repair loop.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable

from cluster.api.errors import FieldError, InternalError, Invalid
from cluster.api.meta import SERVICES, Object
from cluster.apiserver.attributes import Registry
from cluster.apiserver.config import ApiServerConfig

_STATIC_BAND = 256
"""At most so many addresses at the start of the range are left to those who name theirs
(KEP-3070)."""
_TRIES = 64


class ServiceAllocators:
    """One an API server; `follow` ties it to the Services there are."""

    def __init__(self, config: ApiServerConfig, rng: random.Random) -> None:
        self._network = ipaddress.ip_network(config.service_cidr)
        self._ports = config.nodeport_range
        self._rng = rng
        self._addresses: dict[str, int] = {}
        self._node_ports: dict[tuple[int, str], int] = {}

    def follow(self, registry: Registry) -> None:
        registry.subscribe(SERVICES, self._changed)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None:
            self._count(old, -1)
        if new is not None:
            self._count(new, 1)

    def _count(self, service: Object, by: int) -> None:
        for address in _addresses_of(service):
            self._addresses[address] = self._addresses.get(address, 0) + by
            if self._addresses[address] <= 0:
                del self._addresses[address]
        for port in _ports_of(service):
            self._node_ports[port] = self._node_ports.get(port, 0) + by
            if self._node_ports[port] <= 0:
                del self._node_ports[port]

    def allocate(self, service: Object, old: Object | None = None) -> Callable[[], None]:
        """Give a Service what its type asks for, in place. Returns the release of the reservation,
        to be called once the write has failed or been seen. Raises Invalid in upstream's words."""
        spec = service["spec"]
        kind = spec.get("type") or "ClusterIP"
        before = old["spec"] if old is not None else {}
        held: Object = {"spec": {}}
        if kind == "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(field, None)
        else:
            self._allocate_address(service, before, held)
        if kind in ("NodePort", "LoadBalancer"):
            self._allocate_ports(service, old, held)
        self._count(held, 1)

        def release() -> None:
            nonlocal held
            self._count(held, -1)
            held = {"spec": {}}

        return release

    def update(self, new: Object, old: Object) -> None:
        """What a change of type asks for."""
        self.allocate(new, old)()

    def release(self, service: Object) -> None:
        """Nothing to do: what is free follows from the Services there are."""

    def _allocate_address(self, service: Object, before: Object, held: Object) -> None:
        spec = service["spec"]
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        wanted = spec.get("clusterIP") or ((spec.get("clusterIPs") or [""])[0])
        if wanted and wanted == before.get("clusterIP"):
            spec.setdefault("clusterIPs", [wanted])
            spec.setdefault("clusterIP", wanted)
            return
        if wanted == "None":
            spec["clusterIP"], spec["clusterIPs"] = "None", ["None"]
            return
        if not wanted:
            wanted = self._free_address()
        else:
            problem = self._problem_with(wanted)
            if problem:
                detail = f"failed to allocate IP {wanted}: {problem}"
                shown = [wanted]
                error = FieldError("FieldValueInvalid", "spec.clusterIPs", shown, detail)
                raise Invalid.of("", "Service", service["metadata"].get("name", ""), [error])
        spec["clusterIP"], spec["clusterIPs"] = wanted, [wanted]
        held["spec"]["clusterIPs"] = [wanted]

    def _problem_with(self, wanted: str) -> str:
        try:
            address = ipaddress.ip_address(wanted)
        except ValueError:
            return "the provided IP is not valid"
        if address not in self._network or address in (
            self._network.network_address,
            self._network.broadcast_address,
        ):
            return (
                f"the provided IP ({wanted}) is not in the valid range. "
                f"The range of valid IPs is {self._network}"
            )
        if str(address) in self._addresses:
            return "provided IP is already allocated"
        return ""

    def _free_address(self) -> str:
        size = self._network.num_addresses
        first = int(self._network.network_address)
        low = 1 + min(max(16, size // 16), _STATIC_BAND) if size > 64 else 1
        for _ in range(_TRIES):
            address = str(ipaddress.ip_address(first + self._rng.randrange(low, size - 1)))
            if address not in self._addresses:
                return address
        for offset in (*range(low, size - 1), *range(1, low)):
            address = str(ipaddress.ip_address(first + offset))
            if address not in self._addresses:
                return address
        raise InternalError("failed to allocate a serviceIP: range is full")

    def _allocate_ports(self, service: Object, old: Object | None, held: Object) -> None:
        spec = service["spec"]
        if (
            spec.get("type") == "LoadBalancer"
            and spec.get("allocateLoadBalancerNodePorts") is False
        ):
            return
        kept = set(_ports_of(old)) if old is not None else set()
        own: list[Object] = []
        held["spec"]["ports"] = own
        taken: set[tuple[int, str]] = set()
        for at, port in enumerate(spec.get("ports") or ()):
            protocol = port.get("protocol") or "TCP"
            number = port.get("nodePort")
            if not number:
                number = port["nodePort"] = self._free_port(protocol, taken)
            elif (number, protocol) not in kept:
                self._check_port(service, at, number, protocol, taken)
            if (number, protocol) not in kept:
                own.append({"nodePort": number, "protocol": protocol})
            taken.add((number, protocol))
        local = spec.get("externalTrafficPolicy") == "Local"
        if spec.get("type") == "LoadBalancer" and local and not spec.get("healthCheckNodePort"):
            spec["healthCheckNodePort"] = self._free_port("TCP", taken)
            own.append({"nodePort": spec["healthCheckNodePort"], "protocol": "TCP"})

    def _check_port(
        self, service: Object, at: int, number: int, protocol: str, taken: set[tuple[int, str]]
    ) -> None:
        low, high = self._ports
        detail = ""
        if not low <= number <= high:
            detail = (
                f"provided port is not in the valid range. The range of valid ports is {low}-{high}"
            )
        elif (number, protocol) in self._node_ports or (number, protocol) in taken:
            detail = "provided port is already allocated"
        if detail:
            error = FieldError("FieldValueInvalid", f"spec.ports[{at}].nodePort", number, detail)
            raise Invalid.of("", "Service", service["metadata"].get("name", ""), [error])

    def _free_port(self, protocol: str, taken: set[tuple[int, str]]) -> int:
        low, high = self._ports
        start = self._rng.randint(low, high)
        for offset in range(high - low + 1):
            number = low + (start - low + offset) % (high - low + 1)
            if (number, protocol) not in self._node_ports and (number, protocol) not in taken:
                return number
        raise InternalError("failed to allocate a nodePort: range is full")


def _addresses_of(service: Object) -> list[str]:
    spec = service.get("spec") or {}
    given = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    return [a for a in given if a and a != "None"]


def _ports_of(service: Object) -> list[tuple[int, str]]:
    spec = service.get("spec") or {}
    found = [
        (p["nodePort"], p.get("protocol") or "TCP")
        for p in spec.get("ports") or ()
        if p.get("nodePort")
    ]
    if spec.get("healthCheckNodePort"):
        found.append((spec["healthCheckNodePort"], "TCP"))
    return found
