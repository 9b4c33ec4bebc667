"""The names of a cluster: the Kubernetes DNS specification 1.1.0 as a look-up. Pure.

Plays CoreDNS's kubernetes plugin (`pods insecure`, ttl 30). `Names` holds Services, the slices of
headless Services and namespaces; `find` answers one question. `generation` changes exactly when an
answer may have changed, so that answers can be kept in encoded form.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

from cluster.api.meta import Object, object_key

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 255
TTL_SECONDS = 30
MAX_ALIASES = 8
SERVICE_NAME = "kubernetes.io/service-name"
VERSION = "1.1.0"


@dataclass(frozen=True, slots=True)
class Record:
    """`data`: an address (A), a name (CNAME, PTR, NS), (priority, weight, port, target) (SRV), text
    (TXT)."""

    name: str
    type: int
    data: str | tuple[int, int, int, str]


@dataclass(slots=True)
class Found:
    """`exists` False is NXDOMAIN; True without answers means no record of that type. `mine` False:
    not a name of this cluster. `alias`: a CNAME target that is to be looked up elsewhere."""

    exists: bool = True
    mine: bool = True
    answers: list[Record] = field(default_factory=list)
    additional: list[Record] = field(default_factory=list)
    alias: str = ""


@dataclass(frozen=True, slots=True)
class _Port:
    name: str
    protocol: str
    number: int


@dataclass(frozen=True, slots=True)
class _Service:
    addresses: tuple[str, ...]
    ports: tuple[_Port, ...]
    external_name: str
    headless: bool


@dataclass(frozen=True, slots=True)
class _Endpoint:
    host: str
    address: str
    ports: tuple[_Port, ...]


class Names:
    """Everything that has a name. All names are lower case and without the last dot."""

    def __init__(self, domain: str = "cluster.local", dns_address: str = "") -> None:
        self.domain = domain.lower().strip(".")
        self.dns_address = dns_address
        self.generation = 0
        self._services: dict[str, _Service] = {}
        self._slices: dict[str, dict[str, tuple[_Endpoint, ...]]] = {}
        self._namespaces: dict[str, int] = {}
        self._addresses: dict[str, dict[str, str]] = {}

    # Changes

    def handle_namespace(self, old: Object | None, new: Object | None) -> None:
        """A Namespace came, changed or went."""
        name = (new or old or {})["metadata"]["name"]
        known = name in self._namespaces
        if new is None:
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = 1
        self.generation += known != (new is not None)

    def handle_service(self, old: Object | None, new: Object | None) -> None:
        """A Service came, changed or went."""
        key = object_key(new or old or {})
        before = self._services.get(key)
        after = _read_service(new) if new is not None else None
        if before == after:
            return
        if after is None:
            self._services.pop(key, None)
        else:
            self._services[key] = after
        self._reverse(key, "", [(a, "") for a in after.addresses] if after else [])
        self.generation += 1

    def handle_slice(self, old: Object | None, new: Object | None) -> None:
        """An EndpointSlice came, changed or went."""
        for obj in (old, new):
            if obj is None:
                continue
            service = (obj["metadata"].get("labels") or {}).get(SERVICE_NAME)
            if not service or obj.get("addressType") == "IPv6":
                continue
            key = f"{obj['metadata']['namespace']}/{service}"
            name = obj["metadata"]["name"]
            endpoints = tuple(_read_endpoints(new)) if new is not None and obj is new else ()
            if obj is old and new is not None and _same_service(old, new):
                continue
            self._set_slice(key, name, endpoints)

    def _set_slice(self, key: str, name: str, endpoints: tuple[_Endpoint, ...]) -> None:
        slices = self._slices.setdefault(key, {})
        if slices.get(name, ()) == endpoints:
            if not slices:
                del self._slices[key]
            return
        if endpoints:
            slices[name] = endpoints
        else:
            slices.pop(name, None)
            if not slices:
                del self._slices[key]
        self._reverse(key, name, [(e.address, e.host) for e in endpoints])
        service = self._services.get(key)
        if service is None or service.headless:
            self.generation += 1

    def _reverse(self, key: str, origin: str, entries: list[tuple[str, str]]) -> None:
        """Names of addresses, by where they come from: a service itself, or one of its slices."""
        place = f"{key}#{origin}"
        for names in [self._addresses[a] for a in self._addresses.pop(f"!{place}", {})]:
            names.pop(place, None)
        for address, host in entries:
            self._addresses.setdefault(address, {})[place] = host
        if entries:
            self._addresses[f"!{place}"] = {a: "" for a, _ in entries}

    # Questions

    def find(self, name: str, kind: int, *, hops: int = 0) -> Found:
        """Answer for `name` (any case, with or without the last dot) and a record type. `hops`: so
        many aliases led here."""
        asked = name.rstrip(".")
        lower = asked.lower()
        if lower == self.domain:
            return self._find_apex(asked, kind)
        if lower.endswith("." + self.domain):
            return self._find_inside(asked, lower[: -len(self.domain) - 1].split("."), kind, hops)
        if lower.endswith(".in-addr.arpa"):
            return self._find_address(asked, lower, kind)
        return Found(exists=False, mine=False)

    def _find_apex(self, name: str, kind: int) -> Found:
        if kind in (NS, ANY):
            target = f"ns.dns.{self.domain}"
            glue = [Record(target, A, self.dns_address)] if self.dns_address else []
            return Found(answers=[Record(name, NS, target)], additional=glue)
        if kind == SOA:
            return Found(answers=[Record(name, SOA, "")])
        return Found()

    def _find_inside(self, name: str, labels: list[str], kind: int, hops: int) -> Found:
        match labels:
            case ["dns-version"]:
                return _of_type(kind, [Record(name, TXT, VERSION)])
            case ["ns", "dns"] if self.dns_address:
                return _of_type(kind, [Record(name, A, self.dns_address)])
            case ["dns"] | ["svc"] | ["pod"]:
                return Found()
            case [namespace, "svc" | "pod"]:
                return Found(exists=namespace in self._namespaces)
            case [address, namespace, "pod"]:
                return self._find_pod(name, address, namespace, kind)
            case [*host, service, namespace, "svc"]:
                return self._find_service(name, host, f"{namespace}/{service}", kind, hops)
        return Found(exists=False)

    def _find_pod(self, name: str, dashed: str, namespace: str, kind: int) -> Found:
        try:
            address = str(ipaddress.IPv4Address(dashed.replace("-", ".")))
        except ValueError:
            return Found(exists=False)
        if namespace not in self._namespaces:
            return Found(exists=False)
        return _of_type(kind, [Record(name, A, address)])

    def _find_service(self, name: str, host: list[str], key: str, kind: int, hops: int) -> Found:
        service = self._services.get(key)
        if service is None:
            return Found(exists=False)
        if service.external_name:
            if host:
                return Found(exists=False)
            return self._find_alias(name, service.external_name, kind, hops)
        endpoints = self._endpoints(key) if service.headless else ()
        base = self._name_of(key)
        match host:
            case []:
                if service.headless and not endpoints:
                    return Found(exists=False)
                if kind == SRV:
                    return self._find_ports(name, base, service, endpoints, "", "")
                addresses = tuple(dict.fromkeys(e.address for e in endpoints)) or service.addresses
                return _of_type(kind, [Record(name, A, a) for a in addresses])
            case [port, protocol] if port.startswith("_") and protocol.startswith("_"):
                found = self._find_ports(name, base, service, endpoints, port[1:], protocol[1:])
                if not found.answers:
                    return Found(exists=False)
                return found if kind in (SRV, ANY) else Found()
            case [one]:
                own = [Record(name, A, e.address) for e in endpoints if e.host == one]
                return _of_type(kind, own) if own else Found(exists=False)
        return Found(exists=False)

    def _find_ports(
        self,
        name: str,
        base: str,
        service: _Service,
        endpoints: tuple[_Endpoint, ...],
        port: str,
        protocol: str,
    ) -> Found:
        """SRV records of a port, or of all with port ''."""

        def wanted(ports: tuple[_Port, ...]) -> Iterator[_Port]:
            return (p for p in ports if not port or (p.name == port and p.protocol == protocol))

        found = Found()
        if not service.headless:
            numbers = [p.number for p in wanted(service.ports)]
            found.answers = [Record(name, SRV, (0, 100, n, base)) for n in numbers]
            if numbers:
                found.additional = [Record(base, A, a) for a in service.addresses]
            return found
        pairs = [(e, p) for e in endpoints for p in wanted(e.ports)]
        for endpoint, one in pairs:
            target = f"{endpoint.host}.{base}"
            weight = max(1, 100 // len(pairs))
            found.answers.append(Record(name, SRV, (0, weight, one.number, target)))
            found.additional.append(Record(target, A, endpoint.address))
        return found

    def _find_alias(self, name: str, target: str, kind: int, hops: int) -> Found:
        found = Found(answers=[Record(name, CNAME, target.rstrip("."))])
        if kind in (CNAME, ANY) or hops >= MAX_ALIASES:
            return found
        behind = self.find(target, kind, hops=hops + 1)
        if behind.mine:
            found.answers += behind.answers
            found.alias = behind.alias
        else:
            found.alias = target
        return found

    def _find_address(self, name: str, lower: str, kind: int) -> Found:
        address = ".".join(reversed(lower.removesuffix(".in-addr.arpa").split(".")))
        names = []
        for place, host in self._addresses.get(address, {}).items():
            key = place.partition("#")[0]
            service = self._services.get(key)
            if service is not None and (not host or service.headless):
                names.append(f"{host}.{self._name_of(key)}" if host else self._name_of(key))
        if not names:
            return Found(exists=False, mine=False)
        return _of_type(kind, [Record(name, PTR, n) for n in names])

    def _endpoints(self, key: str) -> tuple[_Endpoint, ...]:
        return tuple(e for part in self._slices.get(key, {}).values() for e in part)

    def _name_of(self, key: str) -> str:
        namespace, _, service = key.partition("/")
        return f"{service}.{namespace}.svc.{self.domain}"


def _of_type(kind: int, records: list[Record]) -> Found:
    return Found(answers=[r for r in records if kind in (r.type, ANY)])


def _same_service(old: Object, new: Object) -> bool:
    return (old["metadata"].get("labels") or {}).get(SERVICE_NAME) == (
        new["metadata"].get("labels") or {}
    ).get(SERVICE_NAME)


def _read_service(service: Object) -> _Service:
    spec = service.get("spec") or {}
    external = spec.get("externalName", "") if spec.get("type") == "ExternalName" else ""
    addresses = tuple(spec.get("clusterIPs") or (spec.get("clusterIP"),))
    headless = "None" in addresses
    real = tuple(a for a in addresses if a and a != "None" and ":" not in a)
    return _Service(real, tuple(_read_ports(spec)), external, headless)


def _read_ports(spec: Object) -> Iterator[_Port]:
    for port in spec.get("ports") or ():
        protocol = port.get("protocol", "TCP").lower()
        yield _Port((port.get("name") or "").lower(), protocol, port.get("port") or 0)


def _read_endpoints(piece: Object) -> Iterator[_Endpoint]:
    """The ready ones. One without a hostname is named after its address."""
    ports = tuple(_read_ports(piece))
    for endpoint in piece.get("endpoints") or ():
        if (endpoint.get("conditions") or {}).get("ready") is False:
            continue
        for address in endpoint.get("addresses") or ():
            host = endpoint.get("hostname") or address.replace(".", "-")
            yield _Endpoint(host, address, ports)
