"""Ingress, IngressClass, NetworkPolicy."""

from __future__ import annotations

from cluster.api import names
from cluster.api.errors import duplicate, forbidden, invalid, required
from cluster.api.meta import Object
from cluster.api.validation import fields, selectors
from cluster.api.validation.fields import Errors

_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_NOT_IN_PATHS = ("//", "/./", "/../", "%2f", "%2F")
_NOT_AT_END = ("/..", "/.")


def ingress(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    if not spec.get("rules") and spec.get("defaultBackend") is None:
        detail = "either `defaultBackend` or `rules` must be specified"
        errors.append(invalid("spec", spec.get("rules") or [], detail))
    if spec.get("defaultBackend") is not None:
        _backend(spec["defaultBackend"], "spec.defaultBackend", errors)
    for i, rule in enumerate(spec.get("rules") or ()):
        _rule(rule, f"spec.rules[{i}]", errors)
    for i, tls in enumerate(spec.get("tls") or ()):
        for j, host in enumerate(tls.get("hosts") or ()):
            check = names.wildcard_subdomain if "*" in host else names.dns_subdomain
            fields.name(host, check, f"spec.tls[{i}].hosts[{j}]", errors)
    if spec.get("ingressClassName") is not None:
        at = "spec.ingressClassName"
        fields.name(spec["ingressClassName"], names.dns_subdomain, at, errors)


def _rule(rule: Object, path: str, errors: Errors) -> None:
    host = rule.get("host")
    if host:
        if fields.parse_ip(host) is not None:
            detail = "must be a DNS name, not an IP address"
            errors.append(invalid(f"{path}.host", host, detail))
        check = names.wildcard_subdomain if "*" in host else names.dns_subdomain
        fields.name(host, check, f"{path}.host", errors)
    http = rule.get("http")
    if http is None:
        return
    if not http.get("paths"):
        errors.append(required(f"{path}.http.paths"))
    for i, each in enumerate(http.get("paths") or ()):
        _path(each, f"{path}.http.paths[{i}]", errors)


def _path(each: Object, path: str, errors: Errors) -> None:
    kind, value = each.get("pathType"), each.get("path") or ""
    if kind is None:
        errors.append(required(f"{path}.pathType", "pathType must be specified"))
    elif kind in ("Exact", "Prefix"):
        if not value.startswith("/"):
            errors.append(invalid(f"{path}.path", value, "must be an absolute path"))
        for part in _NOT_IN_PATHS:
            if part in value:
                errors.append(invalid(f"{path}.path", value, f"must not contain '{part}'"))
        for part in _NOT_AT_END:
            if value.endswith(part):
                errors.append(invalid(f"{path}.path", value, f"cannot end with '{part}'"))
    elif kind == "ImplementationSpecific":
        if value and not value.startswith("/"):
            errors.append(invalid(f"{path}.path", value, "must be an absolute path"))
    else:
        errors.append(fields.unsupported(f"{path}.pathType", kind, _PATH_TYPES))
    _backend(each.get("backend") or {}, f"{path}.backend", errors)


def _backend(backend: Object, path: str, errors: Errors) -> None:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        detail = "cannot set both resource and service backends"
        errors.append(invalid(path, "", detail))
    elif resource is not None:
        for key in ("kind", "name"):
            if not resource.get(key):
                errors.append(required(f"{path}.resource.{key}"))
    elif service is None or not service.get("name"):
        errors.append(required(f"{path}.service.name"))
    else:
        fields.name(service["name"], names.dns1035_label, f"{path}.service.name", errors)
        port = service.get("port") or {}
        name, number = port.get("name"), port.get("number")
        if name and number:
            detail = "cannot set both port name & port number"
            errors.append(invalid(path, port, detail))
        elif name:
            fields.name(name, names.port_name, f"{path}.service.port.name", errors)
        elif number:
            fields.port_number(number, f"{path}.service.port.number", errors)
        else:
            errors.append(required(path, "port name or number is required"))


def ingress_class(obj: Object, errors: Errors) -> None:
    controller = (obj.get("spec") or {}).get("controller")
    if not controller:
        errors.append(required("spec.controller"))
    elif "/" not in controller or not all(controller.split("/", 1)):
        detail = 'must be a domain-prefixed path (such as "acme.io/foo")'
        errors.append(invalid("spec.controller", controller, detail))


def ingress_class_update(new: Object, old: Object, errors: Errors) -> None:
    after, before = ((o.get("spec") or {}).get("controller") for o in (new, old))
    fields.immutable(after, before, "spec.controller", errors)


def network_policy(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    selectors.label_selector(spec.get("podSelector"), "spec.podSelector", errors)
    for field, peers in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(field) or ()):
            path = f"spec.{field}[{i}]"
            for j, port in enumerate(rule.get("ports") or ()):
                _policy_port(port, f"{path}.ports[{j}]", errors)
            for j, peer in enumerate(rule.get(peers) or ()):
                _peer(peer, f"{path}.{peers}[{j}]", errors)
    kinds = spec.get("policyTypes") or []
    if len(kinds) > 2:
        detail = "may not specify more than two policyTypes"
        errors.append(invalid("spec.policyTypes", kinds, detail))
        return
    for i, kind in enumerate(kinds):
        if kind not in ("Ingress", "Egress"):
            at = f"spec.policyTypes[{i}]"
            errors.append(fields.unsupported(at, kind, ("Ingress", "Egress")))
        elif kind in kinds[:i]:
            errors.append(duplicate(f"spec.policyTypes[{i}]", kind))


def _policy_port(port: Object, path: str, errors: Errors) -> None:
    if port.get("protocol") is not None:
        fields.protocol(port["protocol"], f"{path}.protocol", errors)
    number, end = port.get("port"), port.get("endPort")
    if number is not None:
        fields.port_number_or_name(number, f"{path}.port", errors)
    if end is not None:
        if number is None:
            errors.append(required(f"{path}.port", "must be specified when `endPort` is specified"))
        elif isinstance(number, str):
            detail = "may not be a named port when `endPort` is specified"
            errors.append(invalid(f"{path}.port", number, detail))
        elif end < number:
            detail = "must be greater than or equal to `port`"
            errors.append(invalid(f"{path}.endPort", end, detail))


def _peer(peer: Object, path: str, errors: Errors) -> None:
    given = [k for k in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(k) is not None]
    for key in given:
        if key != "ipBlock":
            selectors.label_selector(peer[key], f"{path}.{key}", errors)
    if "ipBlock" in given:
        block = peer["ipBlock"]
        if not block.get("cidr"):
            errors.append(required(f"{path}.ipBlock.cidr"))
        else:
            fields.valid_cidr(block["cidr"], f"{path}.ipBlock.cidr", errors)
        for i, cidr in enumerate(block.get("except") or ()):
            fields.valid_cidr(cidr, f"{path}.ipBlock.except[{i}]", errors)
    if not given:
        errors.append(required(path, "must specify a peer"))
    elif "ipBlock" in given and len(given) > 1:
        detail = "may not specify both ipBlock and another peer"
        errors.append(forbidden(path, detail))
