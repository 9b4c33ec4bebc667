"""API priority and fairness: FlowSchema and PriorityLevelConfiguration."""

from __future__ import annotations

from cluster.api.errors import forbidden, invalid, required
from cluster.api.meta import Object
from cluster.api.validation import fields
from cluster.api.validation.fields import Errors

_MAX_PRECEDENCE = 10_000


def flow_schema(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    precedence = spec.get("matchingPrecedence") or 0
    path = "spec.matchingPrecedence"
    if precedence <= 0:
        errors.append(invalid(path, precedence, "must be a positive value"))
    if precedence > _MAX_PRECEDENCE:
        errors.append(invalid(path, precedence, "must not be greater than 10000"))
    if precedence == 1 and obj["metadata"].get("name") != "exempt":
        detail = "only the schema named 'exempt' may have matchingPrecedence 1"
        errors.append(invalid(path, precedence, detail))
    method = (spec.get("distinguisherMethod") or {}).get("type")
    kinds = ("ByNamespace", "ByUser")
    if spec.get("distinguisherMethod") is not None and method not in kinds:
        errors.append(fields.unsupported("spec.distinguisherMethod", method or "", kinds))
    if not (spec.get("priorityLevelConfiguration") or {}).get("name"):
        path = "spec.priorityLevelConfiguration.name"
        errors.append(required(path, "must reference a priority level"))
    for i, rule in enumerate(spec.get("rules") or ()):
        path = f"spec.rules[{i}]"
        if not rule.get("subjects"):
            detail = "subjects must contain at least one value"
            errors.append(required(f"{path}.subjects", detail))
        if not rule.get("resourceRules") and not rule.get("nonResourceRules"):
            detail = "at least one of resourceRules and nonResourceRules has to be non-empty"
            errors.append(required(path, detail))


def priority_level(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    kind, limited = spec.get("type"), spec.get("limited")
    if kind not in ("Exempt", "Limited"):
        errors.append(fields.unsupported("spec.type", kind or "", ("Exempt", "Limited")))
    elif kind == "Exempt" and limited is not None:
        errors.append(forbidden("spec.limited", "must be nil if the type is not Limited"))
    elif kind == "Limited":
        if limited is None:
            errors.append(required("spec.limited", "must not be empty when type is Limited"))
            return
        _limited(limited, errors)


def _limited(limited: Object, errors: Errors) -> None:
    shares = limited.get("nominalConcurrencyShares")
    if shares is not None and shares < 0:
        detail = "must be a non-negative integer"
        errors.append(invalid("spec.limited.nominalConcurrencyShares", shares, detail))
    response = limited.get("limitResponse") or {}
    path = "spec.limited.limitResponse"
    kind, queuing = response.get("type"), response.get("queuing")
    if kind == "Reject":
        if queuing is not None:
            detail = "must be nil if limited.limitResponse.type is not Limited"
            errors.append(forbidden(f"{path}.queuing", detail))
    elif kind == "Queue":
        if queuing is None:
            detail = "must not be empty if limited.limitResponse.type is Limited"
            errors.append(required(f"{path}.queuing", detail))
    else:
        errors.append(fields.unsupported(f"{path}.type", kind or "", ("Queue", "Reject")))
