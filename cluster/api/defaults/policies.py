"""Everything else with defaults: networking, discovery, RBAC, scheduling, admission, extensions,
flow control."""

from __future__ import annotations

from cluster.api.meta import Object

_RBAC = "rbac.authorization.k8s.io"


def network_policy(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    for field in ("ingress", "egress"):
        for rule in spec.get(field) or ():
            for port in rule.get("ports") or ():
                if not port.get("protocol"):
                    port["protocol"] = "TCP"
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def ingress_class(obj: Object) -> None:
    parameters = (obj.get("spec") or {}).get("parameters")
    if parameters is not None and parameters.get("scope") is None:
        parameters["scope"] = "Cluster"


def endpoint_slice(obj: Object) -> None:
    for port in obj.get("ports") or ():
        if port.get("name") is None:
            port["name"] = ""
        if not port.get("protocol"):
            port["protocol"] = "TCP"


def role_binding(obj: Object) -> None:
    role = obj.get("roleRef")
    if role is not None and not role.get("apiGroup"):
        role["apiGroup"] = _RBAC
    for subject in obj.get("subjects") or ():
        if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = _RBAC


def priority_class(obj: Object) -> None:
    if obj.get("preemptionPolicy") is None:
        obj["preemptionPolicy"] = "PreemptLowerPriority"


def mutating_webhooks(obj: Object) -> None:
    for webhook in obj.get("webhooks") or ():
        _webhook(webhook)
        if webhook.get("reinvocationPolicy") is None:
            webhook["reinvocationPolicy"] = "Never"


def validating_webhooks(obj: Object) -> None:
    for webhook in obj.get("webhooks") or ():
        _webhook(webhook)


def _webhook(webhook: Object) -> None:
    values = {"failurePolicy": "Fail", "matchPolicy": "Equivalent", "timeoutSeconds": 10}
    for key, value in values.items():
        if webhook.get(key) is None:
            webhook[key] = value
    for selector in ("namespaceSelector", "objectSelector"):
        if webhook.get(selector) is None:
            webhook[selector] = {}
    _service_port((webhook.get("clientConfig") or {}).get("service"))
    for rule in webhook.get("rules") or ():
        if rule.get("scope") is None:
            rule["scope"] = "*"


def _service_port(service: Object | None) -> None:
    if service is not None and service.get("port") is None:
        service["port"] = 443


def admission_policy(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("failurePolicy") is None:
        spec["failurePolicy"] = "Fail"
    _match_resources(spec.get("matchConstraints"))


def admission_policy_binding(obj: Object) -> None:
    spec = obj.get("spec") or {}
    _match_resources(spec.get("matchResources"))
    param = spec.get("paramRef")
    if param is not None and param.get("parameterNotFoundAction") is None:
        param["parameterNotFoundAction"] = "Deny"


def _match_resources(match: Object | None) -> None:
    if match is None:
        return
    if match.get("matchPolicy") is None:
        match["matchPolicy"] = "Equivalent"
    for selector in ("namespaceSelector", "objectSelector"):
        if match.get(selector) is None:
            match[selector] = {}
    for field in ("resourceRules", "excludeResourceRules"):
        for rule in match.get(field) or ():
            if rule.get("scope") is None:
                rule["scope"] = "*"


def custom_resource_definition(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("scope"):
        spec["scope"] = "Namespaced"
    names = spec.setdefault("names", {})
    if not names.get("singular"):
        names["singular"] = str(names.get("kind", "")).lower()
    if not names.get("listKind") and names.get("kind"):
        names["listKind"] = f"{names['kind']}List"
    if spec.get("conversion") is None:
        spec["conversion"] = {"strategy": "None"}
    client = ((spec["conversion"].get("webhook") or {}).get("clientConfig")) or {}
    _service_port(client.get("service"))


def api_service(obj: Object) -> None:
    _service_port((obj.get("spec") or {}).get("service"))


def flow_schema(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("matchingPrecedence"):
        spec["matchingPrecedence"] = 1000


def priority_level(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    limited = spec.get("limited")
    if limited is not None:
        if limited.get("nominalConcurrencyShares") is None:
            limited["nominalConcurrencyShares"] = 30
        if limited.get("lendablePercent") is None:
            limited["lendablePercent"] = 0
        queuing = (limited.get("limitResponse") or {}).get("queuing")
        if queuing is not None:
            for key, value in (("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)):
                if not queuing.get(key):
                    queuing[key] = value
    exempt = spec.get("exempt")
    if spec.get("type") == "Exempt" and exempt is None:
        exempt = spec["exempt"] = {}
    if exempt is not None:
        exempt.setdefault("nominalConcurrencyShares", 0)
        exempt.setdefault("lendablePercent", 0)
