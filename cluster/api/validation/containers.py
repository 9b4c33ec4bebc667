"""Containers of all three kinds: ports, environment, mounts, image, resources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.api import names
from cluster.api.errors import duplicate, forbidden, invalid, not_found, required
from cluster.api.meta import Object
from cluster.api.validation import downward, fields, probes, resources, security
from cluster.api.validation.fields import Errors

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
_PROBES = (
    ("livenessProbe", probes.liveness),
    ("readinessProbe", probes.readiness),
    ("startupProbe", probes.startup),
)
_NOT_FOR_INIT = "may not be set for init containers without restartPolicy=Always"
_NOT_EPHEMERAL = (
    "ports", "resources", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle",
    "resizePolicy", "restartPolicy",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container is checked against: the rest of its pod."""

    volumes: Mapping[str, Object]
    claims: frozenset[str]
    grace_seconds: int | None
    restart_policy: str
    host_users: bool


def containers(found: list[Object], pod: Surroundings, path: str, errors: Errors) -> None:
    if not found:
        errors.append(required(path))
        return
    seen: set[str] = set()
    for i, container in enumerate(found):
        at = f"{path}[{i}]"
        _common(container, pod, at, errors)
        container_name = container.get("name") or ""
        if container_name in seen:
            errors.append(duplicate(f"{at}.name", container_name))
        seen.add(container_name)
        _hooks(container, pod, at, errors)
        _restart_policy(container, at, errors)
    _host_ports(found, path, errors)


def _hooks(container: Object, pod: Surroundings, path: str, errors: Errors) -> None:
    if container.get("lifecycle"):
        probes.lifecycle(container["lifecycle"], pod.grace_seconds, f"{path}.lifecycle", errors)
    for key, check in _PROBES:
        probe = container.get(key)
        if probe is not None:
            check(probe, f"{path}.{key}", errors)


def _restart_policy(container: Object, path: str, errors: Errors) -> None:
    policy = container.get("restartPolicy")
    rules = container.get("restartPolicyRules") or []
    if rules and policy is None:
        detail = "must specify restartPolicy when restart rules are used"
        errors.append(required(f"{path}.restartPolicy", detail))
    if policy is not None and policy not in _RESTART_POLICIES:
        errors.append(fields.unsupported(f"{path}.restartPolicy", policy, _RESTART_POLICIES))


def init_containers(
    found: list[Object], regular: list[Object], pod: Surroundings, path: str, errors: Errors
) -> None:
    seen = {c.get("name") for c in regular}
    for i, container in enumerate(found):
        at = f"{path}[{i}]"
        _common(container, pod, at, errors)
        _restart_policy(container, at, errors)
        container_name = container.get("name")
        if container_name in seen:
            errors.append(duplicate(f"{at}.name", container_name))
        if container_name:
            seen.add(container_name)
        _host_ports([container], path, errors)
        if container.get("restartPolicy") == "Always":
            _hooks(container, pod, at, errors)
        else:
            for key in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
                if container.get(key) is not None:
                    errors.append(forbidden(f"{at}.{key}", _NOT_FOR_INIT))


def ephemeral_containers(spec: Object, pod: Surroundings, path: str, errors: Errors) -> None:
    others = {
        c.get("name")
        for c in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    }
    seen = set(others)
    for i, container in enumerate(spec.get("ephemeralContainers") or ()):
        at = f"{path}[{i}]"
        _common(container, pod, at, errors)
        image_space(container, at, errors)
        if container.get("name") in seen:
            errors.append(duplicate(f"{at}.name", container.get("name")))
        seen.add(container.get("name"))
        target = container.get("targetContainerName")
        if target and target not in others:
            errors.append(not_found(f"{at}.targetContainerName", target))
        for key in _NOT_EPHEMERAL:
            if container.get(key):
                errors.append(forbidden(f"{at}.{key}", "cannot be set for an Ephemeral Container"))
        for j, mount in enumerate(container.get("volumeMounts") or ()):
            for key in ("subPath", "subPathExpr"):
                if mount.get(key):
                    detail = "cannot be set for an Ephemeral Container"
                    errors.append(forbidden(f"{at}.volumeMounts[{j}].{key}", detail))


def image_space(container: Object, path: str, errors: Errors) -> None:
    """Pods, unlike templates, are strict about spaces around an image."""
    image = container.get("image") or ""
    if image != image.strip():
        detail = "must not have leading or trailing whitespace"
        errors.append(invalid(f"{path}.image", image, detail))


def _common(container: Object, pod: Surroundings, path: str, errors: Errors) -> None:
    get = container.get
    container_name = get("name")
    if not container_name:
        errors.append(required(f"{path}.name"))
    elif names.dns_label(container_name):
        fields.name(container_name, names.dns_label, f"{path}.name", errors)
    if not get("image"):
        errors.append(required(f"{path}.image"))
    if get("terminationMessagePolicy") not in _MESSAGE_POLICIES:
        at = f"{path}.terminationMessagePolicy"
        fields.one_of(get("terminationMessagePolicy"), _MESSAGE_POLICIES, at, errors)
    if get("ports"):
        _ports(container["ports"], f"{path}.ports", errors)
    if get("env"):
        _env(container["env"], f"{path}.env", errors)
    if get("envFrom"):
        _env_from(container["envFrom"], f"{path}.envFrom", errors)
    if get("volumeMounts"):
        _mounts(container, pod.volumes, f"{path}.volumeMounts", errors)
    if get("volumeDevices"):
        _devices(container, pod.volumes, f"{path}.volumeDevices", errors)
    if get("imagePullPolicy") not in _PULL_POLICIES:
        fields.one_of(get("imagePullPolicy"), _PULL_POLICIES, f"{path}.imagePullPolicy", errors)
    if get("resources"):
        resources.requirements(container["resources"], pod.claims, f"{path}.resources", errors)
    if get("resizePolicy"):
        _resize_policy(container["resizePolicy"], pod, f"{path}.resizePolicy", errors)
    if get("securityContext"):
        at = f"{path}.securityContext"
        security.container(container["securityContext"], pod.host_users, at, errors)


def _ports(ports: list[Object], path: str, errors: Errors) -> None:
    seen: set[str] = set()
    for i, port in enumerate(ports):
        at = f"{path}[{i}]"
        port_name = port.get("name")
        if port_name:
            messages = names.port_name(port_name)
            for message in messages:
                errors.append(invalid(f"{at}.name", port_name, message))
            if not messages:
                if port_name in seen:
                    errors.append(duplicate(f"{at}.name", port_name))
                seen.add(port_name)
        if not port.get("containerPort"):
            errors.append(required(f"{at}.containerPort"))
        else:
            fields.port_number(port["containerPort"], f"{at}.containerPort", errors)
        if port.get("hostPort"):
            fields.port_number(port["hostPort"], f"{at}.hostPort", errors)
        fields.protocol(port.get("protocol"), f"{at}.protocol", errors)


def _host_ports(found: list[Object], path: str, errors: Errors) -> None:
    seen: set[str] = set()
    for i, container in enumerate(found):
        for j, port in enumerate(container.get("ports") or ()):
            if port.get("hostPort"):
                key = f"{port.get('protocol')}/{port.get('hostIP') or ''}/{port['hostPort']}"
                if key in seen:
                    errors.append(duplicate(f"{path}[{i}].ports[{j}].hostPort", key))
                seen.add(key)


def _env(variables: list[Object], path: str, errors: Errors) -> None:
    for i, variable in enumerate(variables):
        at = f"{path}[{i}]"
        if not variable.get("name"):
            errors.append(required(f"{at}.name"))
        else:
            fields.name(variable["name"], names.env_name, f"{at}.name", errors)
        source = variable.get("valueFrom")
        if source is not None:
            _value_from(source, variable.get("value"), f"{at}.valueFrom", errors)


_VALUE_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef")


def _value_from(source: Object, value: str | None, path: str, errors: Errors) -> None:
    given = [key for key in (*_VALUE_SOURCES, "fileKeyRef") if source.get(key) is not None]
    for key in given:
        at = f"{path}.{key}"
        if key == "fieldRef":
            downward.variable_field(source[key], at, errors)
        elif key == "resourceFieldRef":
            downward.variable_resource(source[key], at, errors)
        elif key != "fileKeyRef":
            _key_selector(source[key], at, errors)
    if not given:
        detail = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or "
            "`secretKeyRef`"
        )
        errors.append(invalid(path, "", detail))
    elif value:
        errors.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(given) > 1:
        detail = "may not have more than one field specified at a time"
        errors.append(invalid(path, "", detail))


def _key_selector(selector: Object, path: str, errors: Errors) -> None:
    fields.name(selector.get("name") or "", names.dns_subdomain, f"{path}.name", errors)
    if not selector.get("key"):
        errors.append(required(f"{path}.key"))
    else:
        fields.name(selector["key"], names.config_key, f"{path}.key", errors)


def _env_from(sources: list[Object], path: str, errors: Errors) -> None:
    for i, source in enumerate(sources):
        at = f"{path}[{i}]"
        if source.get("prefix"):
            fields.name(source["prefix"], names.env_name, f"{at}.prefix", errors)
        given = [key for key in ("configMapRef", "secretRef") if source.get(key) is not None]
        for key in given:
            if not source[key].get("name"):
                errors.append(required(f"{at}.{key}.name"))
            else:
                fields.name(source[key]["name"], names.dns_subdomain, f"{at}.{key}.name", errors)
        if not given:
            detail = "must specify one of: `configMapRef` or `secretRef`"
            errors.append(invalid(path, "", detail))
        elif len(given) > 1:
            detail = "may not have more than one field specified at a time"
            errors.append(invalid(path, "", detail))


def _mounts(container: Object, known: Mapping[str, Object], path: str, errors: Errors) -> None:
    devices = {d.get("name"): d.get("devicePath") for d in container.get("volumeDevices") or ()}
    points: set[str] = set()
    for i, mount in enumerate(container["volumeMounts"]):
        at = f"{path}[{i}]"
        volume, point = mount.get("name") or "", mount.get("mountPath") or ""
        if not volume:
            errors.append(required(f"{at}.name"))
        if volume not in known:
            errors.append(not_found(f"{at}.name", volume))
        if not point:
            errors.append(required(f"{at}.mountPath"))
        if point in points:
            errors.append(invalid(f"{at}.mountPath", point, "must be unique"))
        points.add(point)
        if devices:
            if volume in devices:
                detail = "must not already exist in volumeDevices"
                errors.append(invalid(f"{at}.name", volume, detail))
            if point in devices.values():
                detail = "must not already exist as a path in volumeDevices"
                errors.append(invalid(f"{at}.mountPath", point, detail))
        if len(mount) > 2:
            _mount_options(mount, container, path, at, errors)


def _mount_options(mount: Object, container: Object, path: str, at: str, errors: Errors) -> None:
    if mount.get("subPath"):
        fields.relative_path(mount["subPath"], f"{path}.subPath", errors)
    if mount.get("subPathExpr"):
        if mount.get("subPath"):
            detail = "subPathExpr and subPath are mutually exclusive"
            errors.append(invalid(f"{at}.subPathExpr", mount["subPathExpr"], detail))
        fields.relative_path(mount["subPathExpr"], f"{path}.subPathExpr", errors)
    propagation = mount.get("mountPropagation")
    if propagation is not None:
        if propagation not in _PROPAGATIONS:
            at = f"{path}.mountPropagation"
            errors.append(fields.unsupported(at, propagation, _PROPAGATIONS))
        privileged = (container.get("securityContext") or {}).get("privileged")
        if propagation == "Bidirectional" and not privileged:
            detail = "Bidirectional mount propagation is available only to privileged containers"
            errors.append(forbidden(f"{path}.mountPropagation", detail))


def _devices(container: Object, known: Mapping[str, Object], path: str, errors: Errors) -> None:
    mounts = {m.get("name"): m.get("mountPath") for m in container.get("volumeMounts") or ()}
    device_names: set[str] = set()
    points: set[str] = set()
    for i, device in enumerate(container["volumeDevices"]):
        at = f"{path}[{i}]"
        volume, point = device.get("name") or "", device.get("devicePath") or ""
        if not volume:
            errors.append(required(f"{at}.name"))
        if volume in device_names:
            errors.append(invalid(f"{at}.name", volume, "must be unique"))
        source = known.get(volume)
        if source is None:
            errors.append(not_found(f"{at}.name", volume))
        elif not source.get("persistentVolumeClaim") and not source.get("ephemeral"):
            detail = (
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block "
                "mode"
            )
            errors.append(invalid(f"{at}.name", volume, detail))
        if not point:
            errors.append(required(f"{at}.devicePath"))
        if point in points:
            errors.append(invalid(f"{at}.devicePath", point, "must be unique"))
        if ".." in point.split("/"):
            errors.append(invalid(f"{at}.devicePath", point, "can not contain backsteps ('..')"))
        if volume in mounts:
            detail = "must not already exist in volumeMounts"
            errors.append(invalid(f"{at}.name", volume, detail))
        if point in mounts.values():
            detail = "must not already exist as a path in volumeMounts"
            errors.append(invalid(f"{at}.devicePath", point, detail))
        device_names.add(volume)
        points.add(point)


def _resize_policy(policies: list[Object], pod: Surroundings, path: str, errors: Errors) -> None:
    seen: set[str] = set()
    for i, policy in enumerate(policies):
        resource, restart = policy.get("resourceName") or "", policy.get("restartPolicy")
        if resource in seen:
            errors.append(duplicate(f"{path}[{i}]", resource))
        seen.add(resource)
        fields.one_of(resource, ("cpu", "memory"), path, errors)
        fields.one_of(restart, ("NotRequired", "RestartContainer"), path, errors)
        if pod.restart_policy == "Never" and restart != "NotRequired":
            detail = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            errors.append(invalid(path, restart, detail))
