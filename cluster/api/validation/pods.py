"""Pods and pod templates (ValidatePodCreate, ValidatePodSpec, ValidatePodTemplateSpec)."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.api import names
from cluster.api.errors import duplicate, forbidden, invalid, required
from cluster.api.meta import Object
from cluster.api.validation import containers, fields, metadata, resources, scheduling, security
from cluster.api.validation.containers import Surroundings
from cluster.api.validation.fields import MAX_INT32, Errors
from cluster.api.validation.volumes import volumes

_RESTART = ("Always", "OnFailure", "Never")
_DNS = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_MIRROR = "kubernetes.io/config.mirror"
_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_NOTHING: Mapping[str, Object] = {}
_NO_CLAIMS: frozenset[str] = frozenset()


def create(pod: Object, errors: Errors) -> None:
    spec = pod.get("spec") or {}
    pod_and_spec(pod, spec, errors)
    if spec.get("ephemeralContainers"):
        errors.append(forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if spec.get("nodeName") and spec.get("schedulingGates"):
        detail = "cannot be set until all schedulingGates have been cleared"
        errors.append(forbidden("spec.nodeName", detail))


def pod_and_spec(pod: Object, spec: Object, errors: Errors) -> None:
    """What holds for a pod on create and update alike, its metadata aside."""
    found = pod["metadata"].get("annotations")
    if found:
        pod_annotations(found, spec, "metadata.annotations", errors)
    pod_spec(spec, pod["metadata"].get("name") or "", "spec", errors, is_pod=True)
    if not spec.get("serviceAccountName"):
        for i, volume in enumerate(spec.get("volumes") or ()):
            for j, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
                if source.get("serviceAccountToken") is not None:
                    at = f"spec.volumes[{i}].projected.sources[{j}].serviceAccountToken"
                    detail = "must not be specified when serviceAccountName is not set"
                    errors.append(forbidden(at, detail))
    for field in ("containers", "initContainers"):
        for i, container in enumerate(spec.get(field) or ()):
            image = container.get("image")
            if image and (image[0].isspace() or image[-1].isspace()):
                containers.image_space(container, f"spec.{field}[{i}]", errors)


def pod_annotations(found: Mapping[str, str], spec: Object, path: str, errors: Errors) -> None:
    if _MIRROR in found and not spec.get("nodeName"):
        detail = "must set spec.nodeName if mirror pod annotation is set"
        errors.append(invalid(f"{path}[{_MIRROR}]", found[_MIRROR], detail))
    cost = found.get(_DELETION_COST)
    if cost is not None and not _is_int32(cost):
        errors.append(invalid(f"{path}[{_DELETION_COST}]", cost, "must be a 32bit integer"))
    for key, value in found.items():
        if key.startswith(_APP_ARMOR):
            _app_armor_annotation(key, value, spec, path, errors)


def _is_int32(text: str) -> bool:
    digits = text[1:] if text[:1] in ("-",) else text
    canonical = digits == "0" or (digits.isdigit() and not digits.startswith("0"))
    return canonical and -MAX_INT32 - 1 <= int(text) <= MAX_INT32


def _app_armor_annotation(key: str, value: str, spec: Object, path: str, errors: Errors) -> None:
    wanted = key.removeprefix(_APP_ARMOR)
    parts = ("containers", "initContainers", "ephemeralContainers")
    if not any(c.get("name") == wanted for part in parts for c in spec.get(part) or ()):
        errors.append(invalid(f"{path}[{key}]", wanted, "container not found"))
    if value not in ("", "runtime/default", "unconfined") and not value.startswith("localhost/"):
        detail = f'invalid AppArmor profile name: "{value}"'
        errors.append(invalid(f"{path}[{key}]", value, detail))


def template(found: Object, path: str, errors: Errors) -> None:
    """The pod template of a workload."""
    meta, spec = found.get("metadata") or {}, found.get("spec") or {}
    if meta.get("labels"):
        metadata.labels(meta["labels"], f"{path}.labels", errors)
    if meta.get("annotations"):
        metadata.check_annotations(meta["annotations"], f"{path}.annotations", errors)
        pod_annotations(meta["annotations"], spec, f"{path}.annotations", errors)
    pod_spec(spec, "", f"{path}.spec", errors)
    if spec.get("ephemeralContainers"):
        detail = "ephemeral containers not allowed in pod template"
        errors.append(forbidden(f"{path}.spec.ephemeralContainers", detail))


def pod_spec(
    spec: Object, pod_name: str, path: str, errors: Errors, *, is_pod: bool = False
) -> None:
    get = spec.get
    if get("terminationGracePeriodSeconds") is None:
        errors.append(required(f"{path}.terminationGracePeriodSeconds"))
    known = (
        volumes(spec["volumes"], pod_name, f"{path}.volumes", errors)
        if get("volumes")
        else _NOTHING
    )
    claims = _resource_claims(get("resourceClaims"), f"{path}.resourceClaims", errors)
    around = Surroundings(
        known,
        claims,
        get("terminationGracePeriodSeconds"),
        get("restartPolicy") or "",
        get("hostUsers") is not False,
    )
    regular = get("containers") or []
    containers.containers(regular, around, f"{path}.containers", errors)
    if get("initContainers"):
        at = f"{path}.initContainers"
        containers.init_containers(spec["initContainers"], regular, around, at, errors)
    if get("ephemeralContainers"):
        containers.ephemeral_containers(spec, around, f"{path}.ephemeralContainers", errors)
    if get("hostNetwork"):
        _host_network_ports(regular, f"{path}.containers", errors, is_pod)
    if get("restartPolicy") not in _RESTART:
        fields.one_of(get("restartPolicy"), _RESTART, f"{path}.restartPolicy", errors)
    if get("dnsPolicy") not in _DNS:
        fields.one_of(get("dnsPolicy"), _DNS, f"{path}.dnsPolicy", errors)
    if get("securityContext"):
        security.pod(spec["securityContext"], spec, f"{path}.securityContext", errors)
    security.host_namespaces(spec, path, errors)
    # Everything below is rare: one look decides whether any of it is there.
    if not _RARE.isdisjoint(spec) or get("dnsPolicy") == "None":
        _rare_scheduling(spec, path, errors)
        _rare_names(spec, path, errors)
        _rare_rest(spec, path, errors)
    if get("nodeName") and names.dns_subdomain(spec["nodeName"]):
        fields.name(spec["nodeName"], names.dns_subdomain, f"{path}.nodeName", errors)
    account = get("serviceAccountName")
    if account and names.dns_subdomain(account):
        fields.name(account, names.dns_subdomain, f"{path}.serviceAccountName", errors)
    if get("tolerations"):
        scheduling.tolerations(spec["tolerations"], f"{path}.tolerations", errors)


_RARE = frozenset({
    "nodeSelector", "affinity", "dnsConfig", "readinessGates", "schedulingGates", "hostAliases",
    "topologySpreadConstraints", "activeDeadlineSeconds", "hostname", "subdomain",
    "priorityClassName", "runtimeClassName", "preemptionPolicy", "overhead", "os", "resources",
})  # fmt: skip


def _rare_scheduling(spec: Object, path: str, errors: Errors) -> None:
    get = spec.get
    if get("nodeSelector"):
        metadata.labels(spec["nodeSelector"], f"{path}.nodeSelector", errors)
    if get("affinity"):
        scheduling.affinity(spec["affinity"], f"{path}.affinity", errors)
    if get("schedulingGates"):
        scheduling.gates(spec["schedulingGates"], f"{path}.schedulingGates", errors)
    if get("topologySpreadConstraints"):
        at = f"{path}.topologySpreadConstraints"
        scheduling.topology_spread(spec["topologySpreadConstraints"], at, errors)
    if get("preemptionPolicy") is not None:
        policies = ("PreemptLowerPriority", "Never")
        fields.one_of(spec["preemptionPolicy"], policies, f"{path}.preemptionPolicy", errors)


def _rare_names(spec: Object, path: str, errors: Errors) -> None:
    for key, check in (
        ("hostname", names.dns_label),
        ("subdomain", names.dns_label),
        ("priorityClassName", names.dns_subdomain),
    ):
        if spec.get(key):
            fields.name(spec[key], check, f"{path}.{key}", errors)
    if spec.get("runtimeClassName") is not None:
        at = f"{path}.runtimeClassName"
        fields.name(spec["runtimeClassName"], names.dns_subdomain, at, errors)
    for i, gate in enumerate(spec.get("readinessGates") or ()):
        at = f"{path}.readinessGates[{i}].conditionType"
        fields.name(gate.get("conditionType") or "", names.qualified_name, at, errors)
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        at = f"{path}.hostAliases[{i}]"
        fields.valid_ip(alias.get("ip") or "", f"{at}.ip", errors)
        for j, host in enumerate(alias.get("hostnames") or ()):
            fields.name(host, names.dns_subdomain, f"{at}.hostnames[{j}]", errors)


def _rare_rest(spec: Object, path: str, errors: Errors) -> None:
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= MAX_INT32:
        detail = names.in_range(1, MAX_INT32)
        errors.append(invalid(f"{path}.activeDeadlineSeconds", deadline, detail))
    if spec.get("overhead"):
        limits = {"limits": spec["overhead"]}
        resources.requirements(limits, _NO_CLAIMS, f"{path}.overhead", errors)
    if spec.get("dnsConfig") is not None or spec.get("dnsPolicy") == "None":
        _dns_config(spec, f"{path}.dnsConfig", errors)
    if spec.get("os") is not None:
        fields.one_of(spec["os"].get("name"), ("linux", "windows"), f"{path}.os.name", errors)
    if spec.get("resources"):
        if spec["resources"].get("claims") is not None:
            detail = "claims cannot be set for Resources at pod-level"
            errors.append(forbidden(f"{path}.resources.claims", detail))
        resources.requirements(spec["resources"], _NO_CLAIMS, f"{path}.resources", errors)


def _resource_claims(claims: list[Object] | None, path: str, errors: Errors) -> frozenset[str]:
    if not claims:
        return _NO_CLAIMS
    seen: set[str] = set()
    sources = ("resourceClaimName", "resourceClaimTemplateName")
    for i, claim in enumerate(claims):
        at, claim_name = f"{path}[{i}]", claim.get("name") or ""
        if not claim_name:
            errors.append(required(f"{at}.name"))
        elif claim_name in seen:
            errors.append(duplicate(f"{at}.name", claim_name))
        else:
            fields.name(claim_name, names.dns_label, f"{at}.name", errors)
            seen.add(claim_name)
        given = [key for key in sources if claim.get(key) is not None]
        if len(given) > 1:
            detail = (
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            )
            errors.append(invalid(at, claim, detail))
        elif not given:
            detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(invalid(at, claim, detail))
        for key in given:
            fields.name(claim[key], names.dns_subdomain, f"{at}.{key}", errors)
    return frozenset(seen)


def _host_network_ports(found: list[Object], path: str, errors: Errors, is_pod: bool) -> None:
    for i, container in enumerate(found):
        for j, port in enumerate(container.get("ports") or ()):
            host = port.get("hostPort") or 0
            if (is_pod or host) and host != port.get("containerPort"):
                detail = "must match `containerPort` when `hostNetwork` is true"
                errors.append(invalid(f"{path}[{i}].ports[{j}].hostPort", host, detail))


def _dns_config(spec: Object, path: str, errors: Errors) -> None:
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            detail = "must provide `dnsConfig` when `dnsPolicy` is None"
            errors.append(required(path, detail))
            return
        if not config.get("nameservers"):
            detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            errors.append(required(f"{path}.nameservers", detail))
            return
    config = config or {}
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > 3:
        detail = "must not have more than 3 nameservers"
        errors.append(invalid(f"{path}.nameservers", servers, detail))
    for i, server in enumerate(servers):
        fields.valid_ip(server, f"{path}.nameservers[{i}]", errors)
    if len(searches) > 32:
        detail = "must not have more than 32 search paths"
        errors.append(invalid(f"{path}.searches", searches, detail))
    if len(" ".join(searches)) > 2048:
        detail = "must not have more than 2048 characters (including spaces) in the search list"
        errors.append(invalid(f"{path}.searches", searches, detail))
    for i, search in enumerate(searches):
        if search != ".":
            domain = search.removesuffix(".")
            at = f"{path}.searches[{i}]"
            fields.name(domain, names.dns_subdomain_underscore, at, errors)
    for i, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            errors.append(required(f"{path}.options[{i}]", "must not be empty"))
