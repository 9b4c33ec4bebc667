"""One pod as one endpoint, and a Service's ports as they are on that pod.

Plays podToEndpoint, getEndpointPorts and FindPort of staging/src/k8s.io/endpointslice and
pkg/api/v1/pod.
"""

from __future__ import annotations

from typing import NamedTuple

from cluster.api.meta import Object, parse_rfc3339
from cluster.controllers.conditions import find_condition
from cluster.controllers.podindex import is_ready

Port = tuple[str, int, str, str]
"""name, number, protocol, appProtocol ('' if none)."""
Ports = tuple[Port, ...]


class Endpoint(NamedTuple):
    """What goes into a slice for a pod."""

    ports: Ports
    body: Object


def belongs(pod: Object) -> bool:
    """Has an address and has not ended (ShouldPodBeInEndpoints, terminating pods included)."""
    status = pod.get("status") or {}
    return status.get("phase") not in ("Succeeded", "Failed") and bool(status.get("podIP"))


def address_of(pod: Object, family: str) -> str:
    """The pod's first address of an IP family, '' if it has none."""
    status = pod.get("status") or {}
    wants_v6 = family == "IPv6"
    for entry in status.get("podIPs") or [{"ip": status.get("podIP", "")}]:
        ip = str(entry.get("ip", ""))
        if ip and (":" in ip) == wants_v6:
            return ip
    return ""


def make_endpoint(service: Object, pod: Object, zone: str, family: str) -> Endpoint | None:
    """The endpoint of `pod` for `service`; None if it has none."""
    address = address_of(pod, family) if belongs(pod) else ""
    if not address:
        return None
    spec, meta = pod.get("spec") or {}, pod["metadata"]
    serving = is_ready(pod)
    terminating = "deletionTimestamp" in meta
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    body: Object = {
        "addresses": [address],
        "conditions": {
            "ready": publish or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": {
            "kind": "Pod",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta.get("uid", ""),
        },
    }
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        body["hostname"] = spec["hostname"]
    if spec.get("nodeName"):
        body["nodeName"] = spec["nodeName"]
    if zone:
        body["zone"] = zone
    return Endpoint(endpoint_ports(service, pod), body)


def endpoint_ports(service: Object, pod: Object) -> Ports:
    """The Service's ports as numbers on this pod; a named target port that the pod lacks is left
    out."""
    found: list[Port] = []
    for port in service["spec"].get("ports") or ():
        number = target_port(port, pod)
        if number:
            found.append(
                (
                    port.get("name", ""),
                    number,
                    port.get("protocol", "TCP"),
                    port.get("appProtocol", ""),
                )
            )
    return tuple(found)


def target_port(port: Object, pod: Object) -> int:
    """podutil.FindPort: the number, or the container port of that name and protocol; 0 if there is
    none."""
    wanted = port.get("targetPort", port["port"])
    if isinstance(wanted, int):
        return wanted or int(port["port"])
    protocol = port.get("protocol", "TCP")
    spec = pod.get("spec") or {}
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for offered in container.get("ports") or ():
            if offered.get("name") == wanted and offered.get("protocol", "TCP") == protocol:
                return int(offered["containerPort"])
    return 0


def changed_at(pod: Object) -> float:
    """When the pod last became ready or not: what the last-change-trigger-time annotation tells."""
    ready = find_condition((pod.get("status") or {}).get("conditions"), "Ready")
    stamp = ready.get("lastTransitionTime") if ready else None
    return parse_rfc3339(stamp) if stamp else 0.0
