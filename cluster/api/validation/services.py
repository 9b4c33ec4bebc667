"""Services, Endpoints and EndpointSlices."""

from __future__ import annotations

from cluster.api import names
from cluster.api.errors import duplicate, forbidden, invalid, required, too_many
from cluster.api.meta import Object
from cluster.api.validation import fields, metadata
from cluster.api.validation.fields import Errors

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_TRAFFIC = ("Cluster", "Local")
_DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
_ONCE = "may not change once set"
_BALANCER_ONLY = "may only be used when `type` is 'LoadBalancer'"


def service(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    kind, ports = spec.get("type"), spec.get("ports") or []
    headless = is_headless(spec)
    if not ports and not headless and kind != "ExternalName":
        errors.append(required("spec.ports"))
    if headless and kind in ("LoadBalancer", "NodePort"):
        detail = f"may not be set to 'None' for {kind} services"
        errors.append(invalid("spec.clusterIPs[0]", "None", detail))
    if kind == "ExternalName":
        _external_name(spec, errors)
    seen: set[str] = set()
    for i, port in enumerate(ports):
        _port(port, len(ports) > 1, seen, f"spec.ports[{i}]", errors)
    if spec.get("selector"):
        metadata.labels(spec["selector"], "spec.selector", errors)
    _affinity(spec, errors)
    if kind != "ExternalName":
        _cluster_ips(spec, errors)
    for i, ip in enumerate(spec.get("externalIPs") or ()):
        before = len(errors)
        fields.valid_ip(ip, f"spec.externalIPs[{i}]", errors)
        if len(errors) == before:
            fields.ordinary_ip(ip, f"spec.externalIPs[{i}]", errors)
    fields.one_of(kind, _TYPES, "spec.type", errors)
    _port_conflicts(kind, ports, errors)
    _balancer(spec, errors)
    _traffic(spec, errors)


def is_headless(spec: Object) -> bool:
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return addresses == ["None"]


def _external_name(spec: Object, errors: Errors) -> None:
    for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(key):
            errors.append(forbidden(f"spec.{key}", "may not be set for ExternalName services"))
    domain = (spec.get("externalName") or "").removesuffix(".")
    if domain:
        fields.name(domain, names.dns_subdomain, "spec.externalName", errors)
    else:
        errors.append(required("spec.externalName"))


def _port(port: Object, needs_name: bool, seen: set[str], path: str, errors: Errors) -> None:
    port_name = port.get("name") or ""
    if port_name:
        fields.name(port_name, names.dns_label, f"{path}.name", errors)
        if port_name in seen:
            errors.append(duplicate(f"{path}.name", port_name))
        seen.add(port_name)
    elif needs_name:
        errors.append(required(f"{path}.name"))
    fields.port_number(port.get("port") or 0, f"{path}.port", errors)
    fields.protocol(port.get("protocol"), f"{path}.protocol", errors)
    fields.port_number_or_name(port.get("targetPort") or 0, f"{path}.targetPort", errors)
    if port.get("appProtocol") is not None:
        fields.name(port["appProtocol"], names.qualified_name, f"{path}.appProtocol", errors)


def _affinity(spec: Object, errors: Errors) -> None:
    affinity = spec.get("sessionAffinity")
    fields.one_of(affinity, ("ClientIP", "None"), "spec.sessionAffinity", errors)
    path, config = "spec.sessionAffinityConfig", spec.get("sessionAffinityConfig")
    if affinity == "None" and config is not None:
        errors.append(forbidden(path, "must not be set when session affinity is None"))
    if affinity == "ClientIP":
        seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
        if seconds is None:
            detail = "when session affinity type is ClientIP"
            errors.append(required(f"{path}.clientIP.timeoutSeconds", detail))
        elif not 0 < seconds <= 86400:
            detail = "must be greater than 0 and less than 86400"
            errors.append(invalid(f"{path}.clientIP.timeoutSeconds", seconds, detail))


def _cluster_ips(spec: Object, errors: Errors) -> None:
    path = "spec.clusterIPs"
    single, addresses = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    if single and addresses and addresses[0] != single:
        errors.append(invalid(path, addresses, "first value must match `clusterIP`"))
    elif addresses and not single:
        detail = "must be empty when `clusterIP` is not specified"
        errors.append(invalid(path, addresses, detail))
    for i, family in enumerate(spec.get("ipFamilies") or ()):
        if family not in _FAMILIES:
            errors.append(fields.unsupported(f"spec.ipFamilies[{i}]", family, _FAMILIES))
        if family in spec["ipFamilies"][:i]:
            errors.append(duplicate(f"spec.ipFamilies[{i}]", family))
    policy = spec.get("ipFamilyPolicy")
    if policy is not None and policy not in _FAMILY_POLICIES:
        errors.append(fields.unsupported("spec.ipFamilyPolicy", policy, _FAMILY_POLICIES))
    before = len(errors)
    for i, address in enumerate(addresses or ([single] if single else [])):
        if i == 0 and address == "None":
            if len(addresses) > 1:
                detail = "'None' must be the first and only value"
                errors.append(invalid(path, addresses, detail))
        else:
            fields.valid_ip(address, f"{path}[{i}]", errors)
    if len(addresses) > 2:
        errors.append(invalid(path, addresses, "may only hold up to 2 values"))
    one_family = len({":" in address for address in addresses}) == 1
    if len(errors) == before and len(addresses) > 1 and one_family:
        detail = "may specify no more than one IP for each IP family"
        errors.append(invalid(path, addresses, detail))
    if len(errors) == before and not is_headless(spec):
        for i, (address, family) in enumerate(
            zip(addresses, spec.get("ipFamilies") or (), strict=False)
        ):
            if (":" in address) != (family == "IPv6"):
                detail = f"expected an {family} value as indicated by `ipFamilies[{i}]`"
                errors.append(invalid(f"{path}[{i}]", address, detail))


def _port_conflicts(kind: str | None, ports: list[Object], errors: Errors) -> None:
    node_ports: set[object] = set()
    numbers: set[object] = set()
    for i, port in enumerate(ports):
        node_port = port.get("nodePort")
        if node_port:
            if kind == "ClusterIP":
                detail = "may not be used when `type` is 'ClusterIP'"
                errors.append(forbidden(f"spec.ports[{i}].nodePort", detail))
            key = (port.get("protocol"), node_port)
            if key in node_ports:
                errors.append(duplicate(f"spec.ports[{i}].nodePort", node_port))
            node_ports.add(key)
        key = (port.get("protocol"), port.get("port"))
        if key in numbers:
            shown = {"protocol": key[0], "port": key[1]}
            errors.append(duplicate(f"spec.ports[{i}]", shown))
        numbers.add(key)


def _balancer(spec: Object, errors: Errors) -> None:
    balancer = spec.get("type") == "LoadBalancer"
    ranges = spec.get("loadBalancerSourceRanges") or []
    if ranges and not balancer:
        errors.append(forbidden("spec.LoadBalancerSourceRanges", _BALANCER_ONLY))
    for i, cidr in enumerate(ranges):
        fields.valid_cidr(cidr.strip(), f"spec.LoadBalancerSourceRanges[{i}]", errors)
    if spec.get("allocateLoadBalancerNodePorts") is not None and not balancer:
        errors.append(forbidden("spec.allocateLoadBalancerNodePorts", _BALANCER_ONLY))
    chosen = spec.get("loadBalancerClass")
    if chosen is not None:
        if balancer:
            fields.name(chosen, names.qualified_name, "spec.loadBalancerClass", errors)
        else:
            errors.append(forbidden("spec.loadBalancerClass", _BALANCER_ONLY))


def _is_external(spec: Object) -> bool:
    kind = spec.get("type")
    return kind in ("NodePort", "LoadBalancer") or (
        kind == "ClusterIP" and bool(spec.get("externalIPs"))
    )


def _traffic(spec: Object, errors: Errors) -> None:
    policy = spec.get("externalTrafficPolicy")
    if _is_external(spec):
        fields.one_of(policy, _TRAFFIC, "spec.externalTrafficPolicy", errors)
    elif policy:
        detail = "may only be set for externally-accessible services"
        errors.append(invalid("spec.externalTrafficPolicy", policy, detail))
    checks_health = spec.get("type") == "LoadBalancer" and policy == "Local"
    health = spec.get("healthCheckNodePort")
    if health:
        if not checks_health:
            detail = (
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is "
                "'Local'"
            )
            errors.append(invalid("spec.healthCheckNodePort", health, detail))
        else:
            fields.port_number(health, "spec.healthCheckNodePort", errors)
    internal = spec.get("internalTrafficPolicy")
    if internal is None:
        if spec.get("type") in ("NodePort", "LoadBalancer", "ClusterIP"):
            errors.append(required("spec.internalTrafficPolicy"))
    elif internal not in _TRAFFIC:
        errors.append(fields.unsupported("spec.internalTrafficPolicy", internal, _TRAFFIC))
    spread = spec.get("trafficDistribution")
    if spread is not None and spread not in _DISTRIBUTIONS:
        errors.append(fields.unsupported("spec.trafficDistribution", spread, _DISTRIBUTIONS))


def service_update(new: Object, old: Object, errors: Errors) -> None:
    spec, before = new["spec"], old["spec"]
    if "ExternalName" not in (spec.get("type"), before.get("type")):
        _kept_addresses(spec, before, errors)
    same = spec.get("type") == before.get("type") == "LoadBalancer"
    if same and spec.get("loadBalancerClass") != before.get("loadBalancerClass"):
        errors.append(invalid("spec.loadBalancerClass", spec.get("loadBalancerClass"), _ONCE))
    local = spec.get("externalTrafficPolicy") == before.get("externalTrafficPolicy") == "Local"
    port = "healthCheckNodePort"
    if same and local and spec.get(port) != before.get(port):
        errors.append(forbidden(f"spec.{port}", fields.IMMUTABLE))


def _kept_addresses(spec: Object, before: Object, errors: Errors) -> None:
    if is_headless(spec) and is_headless(before):
        return
    path, new, old = "spec.clusterIPs", spec.get("clusterIPs") or [], before.get("clusterIPs") or []
    if old and not new:
        errors.append(invalid(f"{path}[0]", new, "primary clusterIP can not be unset"))
    for i, (address, kept) in enumerate(zip(new, old, strict=False)):
        if address != kept and (i == 0 or len(new) == len(old)):
            errors.append(invalid(f"{path}[{i}]", new, _ONCE))
    if new and len(new) < len(old) and spec.get("ipFamilyPolicy") != "SingleStack":
        detail = "must be set to 'SingleStack' when releasing the secondary clusterIP"
        errors.append(invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), detail))
    families, kept_families = spec.get("ipFamilies") or [], before.get("ipFamilies") or []
    if is_headless(spec) != is_headless(before) or is_headless(spec):
        return
    if families and kept_families and families[0] != kept_families[0]:
        errors.append(invalid("spec.ipFamilies[0]", families, _ONCE))


def endpoints(obj: Object, errors: Errors) -> None:
    for i, subset in enumerate(obj.get("subsets") or ()):
        path = f"subsets[{i}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            errors.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
        for field in ("addresses", "notReadyAddresses"):
            for j, address in enumerate(subset.get(field) or ()):
                _endpoint_address(address, f"{path}.{field}[{j}]", errors)
        ports = subset.get("ports") or []
        for j, port in enumerate(ports):
            _endpoint_port(port, len(ports) > 1, f"{path}.ports[{j}]", errors)


def _endpoint_address(address: Object, path: str, errors: Errors) -> None:
    ip = address.get("ip") or ""
    fields.valid_ip(ip, f"{path}.ip", errors)
    if address.get("hostname"):
        fields.name(address["hostname"], names.dns_label, f"{path}.hostname", errors)
    if address.get("nodeName") is not None:
        fields.name(address["nodeName"], names.dns_subdomain, f"{path}.nodeName", errors)
    fields.ordinary_ip(ip, f"{path}.ip", errors)


def _endpoint_port(port: Object, needs_name: bool, path: str, errors: Errors) -> None:
    if port.get("name"):
        fields.name(port["name"], names.dns_label, f"{path}.name", errors)
    elif needs_name:
        errors.append(required(f"{path}.name"))
    fields.port_number(port.get("port") or 0, f"{path}.port", errors)
    fields.protocol(port.get("protocol"), f"{path}.protocol", errors)
    if port.get("appProtocol") is not None:
        fields.name(port["appProtocol"], names.qualified_name, f"{path}.appProtocol", errors)


_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")


def endpoint_slice(
    obj: Object, errors: Errors, fresh: list[tuple[int, Object]] | None = None
) -> None:
    """Check a slice; of its endpoints only the `fresh` ones (default: all)."""
    kind, found = obj.get("addressType"), obj.get("endpoints") or []
    fields.one_of(kind, _ADDRESS_TYPES, "addressType", errors)
    if len(found) > 1000:
        errors.append(too_many("endpoints", len(found), 1000))
        return
    for i, endpoint in enumerate(found) if fresh is None else fresh:
        _slice_endpoint(endpoint, kind, f"endpoints[{i}]", errors)
    ports = obj.get("ports") or []
    if len(ports) > 20000:
        errors.append(too_many("ports", len(ports), 20000))
    seen: set[str] = set()
    for i, port in enumerate(ports):
        path, port_name = f"ports[{i}]", port.get("name") or ""
        if port_name in seen:
            errors.append(duplicate(f"{path}.name", port_name))
        seen.add(port_name)
        if port_name and names.dns_label(port_name):
            fields.name(port_name, names.dns_label, f"{path}.name", errors)
        if port.get("protocol") not in fields.PROTOCOLS:
            fields.protocol(port.get("protocol"), f"{path}.protocol", errors)
        if port.get("port"):
            fields.port_number(port["port"], f"{path}.port", errors)


def _slice_endpoint(endpoint: Object, kind: str | None, path: str, errors: Errors) -> None:
    addresses = endpoint.get("addresses") or []
    if not addresses:
        errors.append(required(f"{path}.addresses", "must contain at least 1 address"))
    elif len(addresses) > 100:
        errors.append(too_many(f"{path}.addresses", len(addresses), 100))
    for j, address in enumerate(addresses):
        at = f"{path}.addresses[{j}]"
        if kind == "FQDN":
            _domain(address, at, errors)
        else:
            ip = fields.parse_ip(address)
            if ip is None:
                fields.valid_ip(address, at, errors)
            elif f"IPv{ip.version}" != kind:
                errors.append(invalid(at, address, f"must be an {kind} address"))
            elif fields.special_ip(address):
                fields.ordinary_ip(address, at, errors)
    if endpoint.get("hostname") is not None:
        fields.name(endpoint["hostname"], names.dns_label, f"{path}.hostname", errors)
    node = endpoint.get("nodeName")
    if node is not None and names.dns_subdomain(node):
        fields.name(node, names.dns_subdomain, f"{path}.nodeName", errors)


def _domain(value: str, path: str, errors: Errors) -> None:
    """A fully qualified domain name, with or without the dot at its end."""
    domain = value.removesuffix(".")
    messages = names.dns_subdomain(domain)
    if not value:
        errors.append(required(path))
    elif messages:
        errors.append(invalid(path, domain, ",".join(messages)))
    elif "." not in domain:
        detail = "should be a domain with at least two segments separated by dots"
        errors.append(invalid(path, domain, detail))


def endpoint_slice_update(new: Object, old: Object, errors: Errors) -> None:
    """A slice changes by an endpoint at a time: those that were there before are not looked at."""
    before = {(e.get("addresses") or [""])[0]: e for e in old.get("endpoints") or ()}
    fresh = [
        (i, endpoint)
        for i, endpoint in enumerate(new.get("endpoints") or ())
        if before.get((endpoint.get("addresses") or [""])[0]) != endpoint
    ]
    endpoint_slice(new, errors, fresh)
    fields.immutable(new.get("addressType"), old.get("addressType"), "addressType", errors)
