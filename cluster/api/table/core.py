"""Nodes, Services, Endpoints, Namespaces, Events, ConfigMaps, Secrets and the other kinds of the
core group."""

from __future__ import annotations

from typing import Any

from cluster.api.meta import Object
from cluster.api.quantity import canonical
from cluster.api.table.columns import layout
from cluster.api.table.durations import UNKNOWN, age, since
from cluster.api.table.text import NONE, containers_and_images, format_labels, load_balancer, more

_ROLE_PREFIX = "node-role.kubernetes.io/"


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _node(node: Object, now: float) -> list[Any]:
    status = node.get("status") or {}
    info = status.get("nodeInfo") or {}
    return [
        _name(node),
        ",".join(_node_status(node)),
        ",".join(_node_roles(node)) or NONE,
        age(node, now),
        info.get("kubeletVersion", ""),
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _node_status(node: Object) -> list[str]:
    words = [
        "Ready" if condition.get("status") == "True" else "NotReady"
        for condition in (node.get("status") or {}).get("conditions") or ()
        if condition.get("type") == "Ready"
    ][-1:] or ["Unknown"]
    if (node.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return words


def _node_roles(node: Object) -> list[str]:
    roles = set()
    for key, value in (node["metadata"].get("labels") or {}).items():
        if key.startswith(_ROLE_PREFIX) and key != _ROLE_PREFIX:
            roles.add(key[len(_ROLE_PREFIX) :])
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    return sorted(roles)


def _address(status: Object, kind: str) -> str:
    found = (a["address"] for a in status.get("addresses") or () if a.get("type") == kind)
    return next(found, NONE)


def _service(service: Object, now: float) -> list[Any]:
    spec = service.get("spec") or {}
    ports = ",".join(_port(port) for port in spec.get("ports") or ())
    return [
        _name(service),
        spec.get("type", ""),
        spec.get("clusterIP") or NONE,
        _external_ip(spec, service.get("status") or {}),
        ports or NONE,
        age(service, now),
        format_labels(spec.get("selector")),
    ]


def _port(port: Object) -> str:
    middle = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{middle}/{port.get('protocol', '')}"


def _external_ip(spec: Object, status: Object) -> str:
    external = spec.get("externalIPs") or []
    match spec.get("type"):
        case "ClusterIP" | "NodePort":
            return ",".join(external) or NONE
        case "LoadBalancer":
            balanced = load_balancer(status)
            return ",".join([*filter(None, [balanced]), *external]) or "<pending>"
        case "ExternalName":
            return str(spec.get("externalName", ""))
    return UNKNOWN


def _endpoints(endpoints: Object, now: float) -> list[Any]:
    listed = [
        (f"[{a['ip']}]" if ":" in a["ip"] else a["ip"]) + (f":{port['port']}" if port else "")
        for subset in endpoints.get("subsets") or ()
        for port in subset.get("ports") or [None]
        for a in subset.get("addresses") or ()
    ]
    shown = more(listed, 3) if endpoints.get("subsets") else NONE
    return [_name(endpoints), shown, age(endpoints, now)]


def _namespace(namespace: Object, now: float) -> list[Any]:
    phase = (namespace.get("status") or {}).get("phase", "")
    return [_name(namespace), phase, age(namespace, now)]


def _event(event: Object, now: float) -> list[Any]:
    regarding = event.get("involvedObject") or event.get("regarding") or {}
    series = event.get("series") or {}
    first = event.get("firstTimestamp") or event.get("deprecatedFirstTimestamp")
    last = event.get("lastTimestamp") or event.get("deprecatedLastTimestamp")
    first_seen = since(first or event.get("eventTime"), now)
    last_seen = since(last, now) if last else first_seen
    count = event.get("count") or event.get("deprecatedCount")
    if series:
        last_seen = since(series.get("lastObservedTime"), now)
        count = series.get("count")
    return [
        last_seen,
        event.get("type", ""),
        event.get("reason", ""),
        f"{regarding.get('kind', '').lower()}/{regarding['name']}"
        if regarding.get("name")
        else regarding.get("kind", "").lower(),
        regarding.get("fieldPath", ""),
        _event_source(event),
        (event.get("message") or event.get("note") or "").strip(),
        first_seen,
        count or 1,
        _name(event),
    ]


def _event_source(event: Object) -> str:
    source = event.get("source") or event.get("deprecatedSource") or {}
    component = source.get("component") or event.get("reportingComponent") or ""
    component = component or event.get("reportingController") or ""
    host = source.get("host") or event.get("reportingInstance") or ""
    return f"{component}, {host}" if host else component


def _config_map(obj: Object, now: float) -> list[Any]:
    count = len(obj.get("data") or ()) + len(obj.get("binaryData") or ())
    return [_name(obj), str(count), age(obj, now)]


def _secret(obj: Object, now: float) -> list[Any]:
    return [_name(obj), obj.get("type", ""), str(len(obj.get("data") or ())), age(obj, now)]


def _service_account(obj: Object, now: float) -> list[Any]:
    return [_name(obj), str(len(obj.get("secrets") or ())), age(obj, now)]


def _quota(quota: Object, now: float) -> list[Any]:
    status = quota.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for resource in sorted(hard):
        line = f"{resource}: {canonical(used.get(resource, 0))}/{canonical(hard[resource])}"
        (limits if resource.startswith("limits.") else requests).append(line)
    return [_name(quota), ", ".join(requests), ", ".join(limits), age(quota, now)]


def _component_status(obj: Object, now: float) -> list[Any]:
    for condition in obj.get("conditions") or ():
        if condition.get("type") == "Healthy":
            status = "Healthy" if condition.get("status") == "True" else "Unhealthy"
            return [_name(obj), status, condition.get("message", ""), condition.get("error", "")]
    return [_name(obj), "Unknown", "", ""]


def _pod_template(obj: Object, now: float) -> list[Any]:
    template = obj.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels")
    return [_name(obj), *containers_and_images(template), format_labels(labels)]


def _lease(obj: Object, now: float) -> list[Any]:
    return [_name(obj), (obj.get("spec") or {}).get("holderIdentity", ""), age(obj, now)]


def _endpoint_slice(obj: Object, now: float) -> list[Any]:
    ports = [str(p["port"]) if p.get("port") else "*" for p in obj.get("ports") or ()]
    addresses = [a for e in obj.get("endpoints") or () for a in e.get("addresses") or ()]
    return [
        _name(obj),
        obj.get("addressType", ""),
        more(ports, 3) or "<unset>",
        more(addresses, 3) or "<unset>",
        age(obj, now),
    ]


_EVENT = layout(
    "Last Seen|Type|Reason|Object|Subobject*|Source*|Message|First Seen*|Count*|Name*", _event
)

LAYOUTS = {
    ("", "Node"): layout(
        "Name|Status|Roles|Age|Version|Internal-IP*|External-IP*|OS-Image*|Kernel-Version*|"
        "Container-Runtime*",
        _node,
    ),
    ("", "Service"): layout("Name|Type|Cluster-IP|External-IP|Port(s)|Age|Selector*", _service),
    ("", "Endpoints"): layout("Name|Endpoints|Age", _endpoints),
    ("", "Namespace"): layout("Name|Status|Age", _namespace),
    ("", "Event"): _EVENT,
    ("events.k8s.io", "Event"): _EVENT,
    ("", "ConfigMap"): layout("Name|Data|Age", _config_map),
    ("", "Secret"): layout("Name|Type|Data|Age", _secret),
    ("", "ServiceAccount"): layout("Name|Secrets|Age", _service_account),
    ("", "ResourceQuota"): layout("Name|Request|Limit|Age", _quota),
    ("", "ComponentStatus"): layout("Name|Status|Message|Error", _component_status),
    ("", "PodTemplate"): layout("Name|Containers|Images|Pod Labels", _pod_template),
    ("coordination.k8s.io", "Lease"): layout("Name|Holder|Age", _lease),
    ("discovery.k8s.io", "EndpointSlice"): layout(
        "Name|AddressType|Ports|Endpoints|Age", _endpoint_slice
    ),
}
