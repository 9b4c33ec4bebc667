"""A container's environment: services, envFrom, env with its references, $(VAR) expansion.

Plays makeEnvironmentVariables of pkg/kubelet/kubelet_pods.go, pkg/kubelet/envvars and
pkg/fieldpath. Pure: objects come through a lookup.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any

from cluster.api.meta import Object
from cluster.api.quantity import milli_value, value

Lookup = Callable[[str, str], Object | None]
_VARIABLE = re.compile(r"\$\$|\$\(([^()]*)\)")
_SUBSCRIPT = re.compile(r"(metadata\.(?:labels|annotations))\['(.+)'\]\Z")


class ConfigError(Exception):
    """The environment cannot be made: CreateContainerConfigError with this message."""


def service_environment(services: Iterable[Object], namespace: str, links: bool) -> dict[str, str]:
    """{SVC}_SERVICE_HOST and friends: of the pod's namespace if it wants links, of `kubernetes`
    always."""
    env: dict[str, str] = {}
    for service in services:
        meta, spec = service["metadata"], service["spec"]
        master = meta["namespace"] == "default" and meta["name"] == "kubernetes"
        if not master and not (links and meta["namespace"] == namespace):
            continue
        ip = spec.get("clusterIP")
        ports = spec.get("ports")
        if not ip or ip == "None" or not ports:
            continue
        prefix = meta["name"].upper().replace("-", "_")
        env[f"{prefix}_SERVICE_HOST"] = ip
        env[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
        for port in ports:
            if name := port.get("name"):
                key = f"{prefix}_SERVICE_PORT_{name.upper().replace('-', '_')}"
                env[key] = str(port["port"])
        first = ports[0]
        scheme = (first.get("protocol") or "TCP").lower()
        env[f"{prefix}_PORT"] = f"{scheme}://{ip}:{first['port']}"
        for port in ports:
            protocol = port.get("protocol") or "TCP"
            base = f"{prefix}_PORT_{port['port']}_{protocol}"
            env[base] = f"{protocol.lower()}://{ip}:{port['port']}"
            env[f"{base}_PROTO"] = protocol.lower()
            env[f"{base}_PORT"] = str(port["port"])
            env[f"{base}_ADDR"] = ip
    return env


def container_environment(
    pod: Object,
    container: Object,
    lookup: Lookup,
    services: Mapping[str, str],
    status: Mapping[str, str],
) -> dict[str, str]:
    """The whole environment. `status` has what only the node knows (podIP, hostIP...). Raises
    ConfigError."""
    env: dict[str, str] = {}
    namespace = pod["metadata"]["namespace"]
    for source in container.get("envFrom") or ():
        env.update(_from_object(source, lookup))
    own: dict[str, str] = {}
    for item in container.get("env") or ():
        if "valueFrom" in item:
            found = _from_reference(pod, container, item["valueFrom"], lookup, status, namespace)
            if found is None:
                continue
            own[item["name"]] = found
        else:
            text = item.get("value", "")
            own[item["name"]] = expand(text, {**services, **env, **own}) if "$" in text else text
    return {**services, **env, **own}


def needs_lookup(container: Object) -> bool:
    """Whether the environment refers to a ConfigMap or Secret."""
    if container.get("envFrom"):
        return True
    return any(
        "configMapKeyRef" in source or "secretKeyRef" in source
        for item in container.get("env") or ()
        if (source := item.get("valueFrom")) is not None
    )


def references(container: Object) -> list[tuple[str, str]]:
    """Kind and name of every object the environment refers to."""
    found: list[tuple[str, str]] = []
    for source in container.get("envFrom") or ():
        for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if ref := source.get(key):
                found.append((kind, ref["name"]))
    for item in container.get("env") or ():
        source = item.get("valueFrom") or {}
        for kind, key in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
            if ref := source.get(key):
                found.append((kind, ref["name"]))
    return found


def expand(text: str, env: Mapping[str, str]) -> str:
    """$(VAR) replaced where VAR is known, $$ made $ (third_party/forked/golang/expansion)."""

    def replace(match: re.Match[str]) -> str:
        whole = match.group()
        return "$" if whole == "$$" else env.get(match.group(1), whole)

    return _VARIABLE.sub(replace, text) if "$" in text else text


def pod_field(pod: Object, path: str, status: Mapping[str, str]) -> str:
    """A field path of the downward API as text."""
    meta, spec = pod["metadata"], pod["spec"]
    if match := _SUBSCRIPT.match(path):
        return str((meta.get(match.group(1)[9:]) or {}).get(match.group(2), ""))
    if path in ("metadata.labels", "metadata.annotations"):
        pairs = meta.get(path[9:]) or {}
        return "\n".join(f'{k}="{_escaped(v)}"' for k, v in sorted(pairs.items()))
    simple: dict[str, Any] = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta["namespace"],
        "metadata.uid": meta["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
    }
    if path in simple:
        return str(simple[path])
    if path.startswith("status."):
        return status.get(path[7:], "")
    raise ConfigError(f"unsupported fieldPath: {path}")


def container_resource(pod: Object, name: str, ref: Object, allocatable: Mapping[str, int]) -> str:
    """A resourceFieldRef as text: rounded up to whole divisors; an absent limit is the node's."""
    containers = [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]
    container = next((c for c in containers if c["name"] == name), None)
    if container is None:
        raise ConfigError(f"container {name} not found")
    section, _, resource = ref["resource"].partition(".")
    found = ((container.get("resources") or {}).get(section) or {}).get(resource)
    milli = milli_value if resource == "cpu" else lambda q: value(q) * 1000
    if found is None:
        amount = allocatable.get(resource, 0) if section == "limits" else 0
        thousandths = amount if resource == "cpu" else amount * 1000
    else:
        thousandths = milli(found)
    divisor = milli(ref.get("divisor") or "1") or (1 if resource == "cpu" else 1000)
    if not ref.get("divisor") or ref["divisor"] == "0":
        divisor = 1000
    return str(math.ceil(Fraction(thousandths, divisor)))


def _from_object(source: Object, lookup: Lookup) -> dict[str, str]:
    prefix = source.get("prefix", "")
    kind, ref = ("ConfigMap", source.get("configMapRef"))
    if ref is None:
        kind, ref = ("Secret", source.get("secretRef"))
    if ref is None:
        return {}
    found = lookup(kind, ref["name"])
    if found is None:
        if ref.get("optional"):
            return {}
        raise ConfigError(f'{kind.lower()} "{ref["name"]}" not found')
    return {prefix + k: _text(kind, v) for k, v in sorted((found.get("data") or {}).items())}


def _from_reference(
    pod: Object,
    container: Object,
    source: Object,
    lookup: Lookup,
    status: Mapping[str, str],
    namespace: str,
) -> str | None:
    if (ref := source.get("fieldRef")) is not None:
        return pod_field(pod, ref["fieldPath"], status)
    if (ref := source.get("resourceFieldRef")) is not None:
        return container_resource(pod, ref.get("containerName") or container["name"], ref, {})
    kind = "ConfigMap" if "configMapKeyRef" in source else "Secret"
    ref = source.get("configMapKeyRef") or source.get("secretKeyRef")
    if ref is None:
        return None
    found = lookup(kind, ref["name"])
    data = (found or {}).get("data") or {}
    if found is not None and ref["key"] in data:
        return _text(kind, data[ref["key"]])
    if ref.get("optional"):
        return None
    if found is None:
        raise ConfigError(f'{kind.lower()} "{ref["name"]}" not found')
    raise ConfigError(f"couldn't find key {ref['key']} in {kind} {namespace}/{ref['name']}")


def _text(kind: str, text: str) -> str:
    return text if kind == "ConfigMap" else base64.b64decode(text).decode(errors="replace")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
