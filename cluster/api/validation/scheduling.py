"""What steers scheduling: affinity, tolerations, taints, topology spread, gates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.api import names
from cluster.api.errors import FieldError, duplicate, forbidden, invalid, required
from cluster.api.meta import Object
from cluster.api.validation import fields, selectors
from cluster.api.validation.fields import Errors

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_POSITIVE = "must be greater than zero"
_IN_BOTH = "exists in both matchLabelKeys and labelSelector"
_NEEDS_SELECTOR = "must not be specified when labelSelector is not set"


def affinity(found: Object, path: str, errors: Errors) -> None:
    node = found.get("nodeAffinity") or {}
    at = f"{path}.nodeAffinity"
    if node.get(_REQUIRED) is not None:
        selectors.node_selector(node[_REQUIRED], f"{at}.{_REQUIRED}", errors)

    def preference(term: Object, where: str) -> None:
        chosen = term.get("preference") or {}
        selectors.node_selector_term(chosen, f"{where}.preference", errors, any_value=True)

    _weighted(node.get(_PREFERRED), f"{at}.{_PREFERRED}", preference, errors)

    def pod_term(term: Object, where: str) -> None:
        _pod_term(term.get("podAffinityTerm") or {}, f"{where}.podAffinityTerm", errors)

    for side in ("podAffinity", "podAntiAffinity"):
        rules = found.get(side) or {}
        for i, term in enumerate(rules.get(_REQUIRED) or ()):
            _pod_term(term, f"{path}.{side}.{_REQUIRED}[{i}]", errors)
        _weighted(rules.get(_PREFERRED), f"{path}.{side}.{_PREFERRED}", pod_term, errors)


def _weighted(
    terms: list[Object] | None, path: str, check: Callable[[Object, str], None], errors: Errors
) -> None:
    for i, term in enumerate(terms or ()):
        weight = term.get("weight") or 0
        if not 0 < weight <= 100:
            errors.append(invalid(f"{path}[{i}].weight", weight, "must be in the range 1-100"))
        check(term, f"{path}[{i}]")


def _pod_term(term: Object, path: str, errors: Errors) -> None:
    selectors.label_selector(term.get("labelSelector"), f"{path}.labelSelector", errors)
    selectors.label_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector", errors)
    for namespace in term.get("namespaces") or ():
        fields.name(namespace, names.dns_label, f"{path}.namespace", errors)
    _label_keys(term, path, errors)
    key = term.get("topologyKey") or ""
    if not key:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    fields.name(key, names.qualified_name, f"{path}.topologyKey", errors)


def _label_keys(term: Object, path: str, errors: Errors) -> None:
    match, mismatch = term.get("matchLabelKeys") or [], term.get("mismatchLabelKeys") or []
    selector = term.get("labelSelector")
    for field, keys in (("matchLabelKeys", match), ("mismatchLabelKeys", mismatch)):
        if keys and selector is None:
            errors.append(forbidden(f"{path}.{field}", _NEEDS_SELECTOR))
            continue
        for i, key in enumerate(keys):
            fields.name(key, names.qualified_name, f"{path}.{field}[{i}]", errors)
    if selector is not None and match:
        # The server has already merged each key once; a second mention is the user's.
        known = set(selector.get("matchLabels") or ())
        for requirement in selector.get("matchExpressions") or ():
            key = requirement.get("key")
            if key in match and key in known:
                errors.append(invalid(f"{path}[{match.index(key)}]", key, _IN_BOTH))
            known.add(key)
    for i, key in enumerate(match):
        if key in mismatch:
            detail = "exists in both matchLabelKeys and mismatchLabelKeys"
            errors.append(invalid(f"{path}.matchLabelKeys[{i}]", key, detail))


def tolerations(found: list[Object], path: str, errors: Errors) -> None:
    for i, toleration in enumerate(found):
        get = toleration.get
        key, operator, effect = get("key"), get("operator"), get("effect")
        if key and names.qualified_name(key):
            fields.name(key, names.qualified_name, f"{path}[{i}].key", errors)
        if not key and operator != "Exists":
            detail = (
                'operator must be Exists when `key` is empty, which means "match all values and '
                "all "
                'keys"'
            )
            errors.append(invalid(f"{path}[{i}].operator", operator or "", detail))
        if get("tolerationSeconds") is not None and effect != "NoExecute":
            detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            errors.append(invalid(f"{path}[{i}].effect", effect or "", detail))
        _toleration_value(operator, get("value") or "", f"{path}[{i}].operator", errors)
        if effect and effect not in _EFFECTS:
            errors.append(fields.unsupported(f"{path}[{i}].effect", effect, _EFFECTS))


def _toleration_value(operator: str | None, value: str, path: str, errors: Errors) -> None:
    if operator == "Exists":
        if value:
            detail = "value must be empty when `operator` is 'Exists'"
            errors.append(invalid(path, value, detail))
    elif operator in ("Equal", "", None):
        messages = names.label_value(value)
        if messages:
            errors.append(invalid(path, value, ";".join(messages)))
    elif operator not in ("Lt", "Gt"):
        errors.append(fields.unsupported(path, operator, ("Equal", "Exists")))


def taints(found: list[Object], path: str, errors: Errors) -> None:
    seen: set[tuple[Any, Any]] = set()
    for i, taint in enumerate(found):
        at = f"{path}[{i}]"
        fields.name(taint.get("key") or "", names.qualified_name, f"{at}.key", errors)
        value = taint.get("value") or ""
        messages = names.label_value(value)
        if messages:
            errors.append(invalid(f"{at}.value", value, ";".join(messages)))
        fields.one_of(taint.get("effect"), _EFFECTS, f"{at}.effect", errors)
        key = (taint.get("key"), taint.get("effect"))
        if key in seen:
            base = duplicate(at, taint)
            detail = "taints must be unique by key and effect pair"
            errors.append(FieldError(base.type, base.field, base.value, detail))
        seen.add(key)


def topology_spread(constraints: list[Object], path: str, errors: Errors) -> None:
    kinds = [(c.get("topologyKey"), c.get("whenUnsatisfiable")) for c in constraints]
    for i, constraint in enumerate(constraints):
        at, (key, action) = f"{path}[{i}]", kinds[i]
        skew = constraint.get("maxSkew") or 0
        if skew <= 0:
            errors.append(invalid(f"{at}.maxSkew", skew, _POSITIVE))
        if not key:
            errors.append(required(f"{at}.topologyKey", "can not be empty"))
        actions = ("DoNotSchedule", "ScheduleAnyway")
        if action not in actions:
            errors.append(fields.unsupported(f"{at}.whenUnsatisfiable", action or "", actions))
        if kinds[i] in kinds[i + 1 :]:
            where = f"{at}.{{topologyKey, whenUnsatisfiable}}"
            errors.append(duplicate(where, f"{{{key}, {action}}}"))
        domains = constraint.get("minDomains")
        if domains is not None:
            if domains <= 0:
                errors.append(invalid(f"{at}.minDomains", domains, _POSITIVE))
            if action != "DoNotSchedule":
                detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                errors.append(invalid(f"{at}.minDomains", domains, detail))
        for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            policy = constraint.get(field)
            if policy is not None and policy not in ("Honor", "Ignore"):
                errors.append(fields.unsupported(f"{at}.{field}", policy, ("Honor", "Ignore")))
        keys = constraint.get("matchLabelKeys") or ()
        if keys and constraint.get("labelSelector") is None:
            errors.append(forbidden(f"{at}.matchLabelKeys", _NEEDS_SELECTOR))
        for j, label in enumerate(keys):
            fields.name(label, names.qualified_name, f"{at}.matchLabelKeys[{j}]", errors)
        selectors.label_selector(constraint.get("labelSelector"), f"{at}.labelSelector", errors)


def gates(found: list[Object], path: str, errors: Errors) -> None:
    seen: set[str] = set()
    for i, gate in enumerate(found):
        gate_name = gate.get("name") or ""
        fields.name(gate_name, names.qualified_name, f"{path}[{i}]", errors)
        if gate_name in seen:
            errors.append(duplicate(f"{path}[{i}]", gate_name))
        seen.add(gate_name)
