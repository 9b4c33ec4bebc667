"""Ingresses, network policies, disruption budgets, RBAC bindings, priority classes, certificates,
addresses."""

from __future__ import annotations

from typing import Any

from cluster.api.meta import Object
from cluster.api.table.columns import layout
from cluster.api.table.durations import age, human_duration
from cluster.api.table.text import NONE, format_selector, load_balancer


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _spec(obj: Object) -> Object:
    spec: Object = obj.get("spec") or {}
    return spec


def _ingress(obj: Object, now: float) -> list[Any]:
    spec = _spec(obj)
    rules = spec.get("rules") or ()
    hosts = [rule["host"] for rule in rules[:3] if rule.get("host")]
    shown = ",".join(hosts) or "*"
    if len(hosts) == 3 and len(rules) > 3:
        shown = f"{shown} + {len(rules) - 3} more..."
    annotations = obj["metadata"].get("annotations") or {}
    class_name = spec.get("ingressClassName") or annotations.get("kubernetes.io/ingress.class")
    return [
        _name(obj),
        class_name or NONE,
        shown,
        load_balancer(obj.get("status") or {}),
        "80, 443" if spec.get("tls") else "80",
        age(obj, now),
    ]


def _ingress_class(obj: Object, now: float) -> list[Any]:
    spec = _spec(obj)
    parameters = spec.get("parameters")
    shown = NONE
    if parameters:
        group = f".{parameters['apiGroup']}" if parameters.get("apiGroup") else ""
        shown = f"{parameters.get('kind', '')}{group}/{parameters.get('name', '')}"
    return [_name(obj), spec.get("controller", ""), shown, age(obj, now)]


def _network_policy(obj: Object, now: float) -> list[Any]:
    return [_name(obj), format_selector(_spec(obj).get("podSelector")), age(obj, now)]


def _disruption_budget(obj: Object, now: float) -> list[Any]:
    spec = _spec(obj)
    low, high = spec.get("minAvailable"), spec.get("maxUnavailable")
    return [
        _name(obj),
        "N/A" if low is None else str(low),
        "N/A" if high is None else str(high),
        (obj.get("status") or {}).get("disruptionsAllowed", 0),
        age(obj, now),
    ]


def _role_binding(obj: Object, now: float) -> list[Any]:
    role = obj.get("roleRef") or {}
    subjects = obj.get("subjects") or ()
    named: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in subjects:
        kind = subject.get("kind", "")
        name = subject.get("name", "")
        if kind == "ServiceAccount":
            name = f"{subject['namespace']}/{name}" if subject.get("namespace") else name
        if kind in named:
            named[kind].append(name)
    return [
        _name(obj),
        f"{role.get('kind', '')}/{role.get('name', '')}",
        age(obj, now),
        *(", ".join(names) for names in named.values()),
    ]


def _priority_class(obj: Object, now: float) -> list[Any]:
    return [
        _name(obj),
        obj.get("value", 0),
        bool(obj.get("globalDefault")),
        age(obj, now),
        obj.get("preemptionPolicy", "PreemptLowerPriority"),
    ]


def _runtime_class(obj: Object, now: float) -> list[Any]:
    return [_name(obj), obj.get("handler", ""), age(obj, now)]


def _signing_request(obj: Object, now: float) -> list[Any]:
    spec = _spec(obj)
    duration = spec.get("expirationSeconds")
    return [
        _name(obj),
        age(obj, now),
        spec.get("signerName") or NONE,
        spec.get("username", ""),
        NONE if duration is None else human_duration(duration),
        _signing_status(obj.get("status") or {}),
    ]


def _signing_status(status: Object) -> str:
    types = {condition.get("type") for condition in status.get("conditions") or ()}
    shown = "Denied" if "Denied" in types else "Approved" if "Approved" in types else "Pending"
    if "Failed" in types:
        shown += ",Failed"
    if status.get("certificate"):
        shown += ",Issued"
    return shown


def _trust_bundle(obj: Object, now: float) -> list[Any]:
    return [_name(obj), _spec(obj).get("signerName") or NONE]


def _pod_certificate(obj: Object, now: float) -> list[Any]:
    spec = _spec(obj)
    types = {c.get("type") for c in (obj.get("status") or {}).get("conditions") or ()}
    state = next((word for word in ("Denied", "Failed", "Issued") if word in types), "Pending")
    return [
        _name(obj),
        spec.get("podName", ""),
        spec.get("serviceAccountName", ""),
        spec.get("nodeName", ""),
        spec.get("signerName", ""),
        state,
    ]


def _api_service(obj: Object, now: float) -> list[Any]:
    service = _spec(obj).get("service")
    shown = f"{service.get('namespace')}/{service.get('name')}" if service else "Local"
    available = "Unknown"
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Available":
            reason = condition.get("reason", "")
            true = condition.get("status") == "True"
            available = "True" if true else f"{condition.get('status')} ({reason})"
    return [_name(obj), shown, available, age(obj, now)]


def _ip_address(obj: Object, now: float) -> list[Any]:
    parent = _spec(obj).get("parentRef") or {}
    parts = (parent.get(k) for k in ("resource", "namespace", "name"))
    resource, namespace, name = (part or "" for part in parts)
    group = parent.get("group")
    shown = "/".join(filter(None, (f"{resource}.{group}" if group else resource, namespace, name)))
    return [_name(obj), shown or NONE, age(obj, now)]


def _service_cidr(obj: Object, now: float) -> list[Any]:
    return [_name(obj), ",".join(_spec(obj).get("cidrs") or ()), age(obj, now)]


_BINDING = layout("Name|Role|Age|Users*|Groups*|ServiceAccounts*", _role_binding)
_RBAC = "rbac.authorization.k8s.io"

LAYOUTS = {
    ("networking.k8s.io", "Ingress"): layout("Name|Class|Hosts|Address|Ports|Age", _ingress),
    ("networking.k8s.io", "IngressClass"): layout("Name|Controller|Parameters|Age", _ingress_class),
    ("networking.k8s.io", "NetworkPolicy"): layout("Name|Pod-Selector|Age", _network_policy),
    ("networking.k8s.io", "IPAddress"): layout("Name|ParentRef|Age", _ip_address),
    ("networking.k8s.io", "ServiceCIDR"): layout("Name|CIDRs|Age", _service_cidr),
    ("policy", "PodDisruptionBudget"): layout(
        "Name|Min Available|Max Unavailable|Allowed Disruptions:int|Age", _disruption_budget
    ),
    (_RBAC, "RoleBinding"): _BINDING,
    (_RBAC, "ClusterRoleBinding"): _BINDING,
    ("scheduling.k8s.io", "PriorityClass"): layout(
        "Name|Value:int|Global-Default:bool|Age|PreemptionPolicy", _priority_class
    ),
    ("node.k8s.io", "RuntimeClass"): layout("Name|Handler|Age", _runtime_class),
    ("certificates.k8s.io", "CertificateSigningRequest"): layout(
        "Name|Age|SignerName|Requestor|RequestedDuration|Condition", _signing_request
    ),
    ("certificates.k8s.io", "ClusterTrustBundle"): layout("Name|SignerName", _trust_bundle),
    ("certificates.k8s.io", "PodCertificateRequest"): layout(
        "Name|PodName|ServiceAccountName|NodeName|SignerName|State", _pod_certificate
    ),
    ("apiregistration.k8s.io", "APIService"): layout("Name|Service|Available|Age", _api_service),
}
