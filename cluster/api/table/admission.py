"""Webhook configurations, admission policies, flow control."""

from __future__ import annotations

from typing import Any

from cluster.api.meta import Object
from cluster.api.table.columns import Layout, layout
from cluster.api.table.durations import age
from cluster.api.table.text import UNSET

_GROUP = "admissionregistration.k8s.io"
_FLOW = "flowcontrol.apiserver.k8s.io"


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _webhooks(obj: Object, now: float) -> list[Any]:
    return [_name(obj), len(obj.get("webhooks") or ()), age(obj, now)]


def _policy(rules: str) -> Layout:
    def cells(obj: Object, now: float) -> list[Any]:
        spec = obj.get("spec") or {}
        kind = spec.get("paramKind")
        shown = f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else UNSET
        return [_name(obj), len(spec.get(rules) or ()), shown, age(obj, now)]

    return layout(f"Name|{rules.capitalize()}:int|ParamKind|Age", cells)


def _policy_binding(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    reference = spec.get("paramRef")
    shown = UNSET
    if reference and reference.get("name"):
        namespace = reference.get("namespace") or "*"
        shown = f"{namespace}/{reference['name']}"
    return [_name(obj), spec.get("policyName", ""), shown, age(obj, now)]


def _flow_schema(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    method = (spec.get("distinguisherMethod") or {}).get("type") or "<none>"
    dangling = "?"
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Dangling":
            dangling = condition.get("status", "?")
    return [
        _name(obj),
        (spec.get("priorityLevelConfiguration") or {}).get("name", ""),
        spec.get("matchingPrecedence", 0),
        method,
        age(obj, now),
        dangling,
    ]


def _priority_level(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    limited = spec.get("limited") or spec.get("exempt") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
    shares = limited.get("nominalConcurrencyShares", limited.get("assuredConcurrencyShares"))
    return [
        _name(obj),
        spec.get("type", ""),
        "<none>" if shares is None else shares,
        *(queuing.get(key, "<none>") for key in ("queues", "handSize", "queueLengthLimit")),
        age(obj, now),
    ]


_WEBHOOKS = layout("Name|Webhooks:int|Age", _webhooks)
_BINDING = layout("Name|PolicyName|ParamRef|Age", _policy_binding)

LAYOUTS = {
    (_GROUP, "MutatingWebhookConfiguration"): _WEBHOOKS,
    (_GROUP, "ValidatingWebhookConfiguration"): _WEBHOOKS,
    (_GROUP, "ValidatingAdmissionPolicy"): _policy("validations"),
    (_GROUP, "MutatingAdmissionPolicy"): _policy("mutations"),
    (_GROUP, "ValidatingAdmissionPolicyBinding"): _BINDING,
    (_GROUP, "MutatingAdmissionPolicyBinding"): _BINDING,
    (_FLOW, "FlowSchema"): layout(
        "Name|PriorityLevel|MatchingPrecedence:int|DistinguisherMethod|Age|MissingPL", _flow_schema
    ),
    (_FLOW, "PriorityLevelConfiguration"): layout(
        "Name|Type|NominalConcurrencyShares|Queues|HandSize|QueueLengthLimit|Age", _priority_level
    ),
}
