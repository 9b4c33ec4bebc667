"""The core group without pods and storage: Service, Secret, Namespace, Node, Endpoints,
LimitRange..."""

from __future__ import annotations

from base64 import b64encode

from cluster.api.defaults.pods import pod_template
from cluster.api.defaults.quantities import canonicalize, copy_missing
from cluster.api.meta import Object

_AFFINITY_SECONDS = 10800
_INTERNAL_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")


def service(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _affinity(spec)
    if not spec.get("type"):
        spec["type"] = "ClusterIP"
    for port in spec.get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
        if not port.get("targetPort"):
            port["targetPort"] = port.get("port", 0)
    kind = spec["type"]
    external = kind in ("NodePort", "LoadBalancer") or (
        kind == "ClusterIP" and bool(spec.get("externalIPs"))
    )
    if external and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if kind in _INTERNAL_TYPES and spec.get("internalTrafficPolicy") is None:
        spec["internalTrafficPolicy"] = "Cluster"
    if kind == "LoadBalancer":
        if spec.get("allocateLoadBalancerNodePorts") is None:
            spec["allocateLoadBalancerNodePorts"] = True
        balancer = (obj.get("status") or {}).get("loadBalancer") or {}
        for ingress in balancer.get("ingress") or ():
            if ingress.get("ip") and ingress.get("ipMode") is None:
                ingress["ipMode"] = "VIP"


def _affinity(spec: Object) -> None:
    if not spec.get("sessionAffinity"):
        spec["sessionAffinity"] = "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client_ip = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        if client_ip.get("timeoutSeconds") is None:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": _AFFINITY_SECONDS}}


def secret(obj: Object) -> None:
    if not obj.get("type"):
        obj["type"] = "Opaque"
    plain = obj.pop("stringData", None)
    if plain:
        data = obj.setdefault("data", {})
        for key, text in plain.items():
            data[key] = b64encode(text.encode()).decode()


def namespace(obj: Object) -> None:
    name = obj["metadata"].get("name")
    if name:
        labels = obj["metadata"].get("labels")
        if labels is None:
            labels = obj["metadata"]["labels"] = {}
        labels["kubernetes.io/metadata.name"] = name
    obj.setdefault("spec", {})
    status = obj.setdefault("status", {})
    if not status.get("phase"):
        status["phase"] = "Active"


def node(obj: Object) -> None:
    obj.setdefault("spec", {})
    status = obj.setdefault("status", {})
    canonicalize(status.get("capacity"))
    if status.get("allocatable") is None:
        if status.get("capacity") is not None:
            status["allocatable"] = dict(status["capacity"])
    else:
        canonicalize(status["allocatable"])


def endpoints(obj: Object) -> None:
    for subset in obj.get("subsets") or ():
        for port in subset.get("ports") or ():
            if not port.get("protocol"):
                port["protocol"] = "TCP"


def limit_range(obj: Object) -> None:
    for item in (obj.get("spec") or {}).get("limits") or ():
        for field in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
            canonicalize(item.get(field))
        if item.get("type") != "Container":
            continue
        default = item.get("default") or {}
        request = item.get("defaultRequest") or {}
        copy_missing(default, item.get("max"))
        copy_missing(request, default)
        copy_missing(request, item.get("min"))
        for field, value in (("default", default), ("defaultRequest", request)):
            if value:
                item[field] = value


def resource_quota(obj: Object) -> None:
    canonicalize(obj.setdefault("spec", {}).get("hard"))
    status = obj.get("status") or {}
    canonicalize(status.get("hard"))
    canonicalize(status.get("used"))


def replication_controller(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels")
    if labels:
        if not spec.get("selector"):
            spec["selector"] = dict(labels)
        if not obj["metadata"].get("labels"):
            obj["metadata"]["labels"] = dict(labels)
    if spec.get("replicas") is None:
        spec["replicas"] = 1
    pod_template(spec.get("template"))


def pod_template_object(obj: Object) -> None:
    pod_template(obj.get("template"))
