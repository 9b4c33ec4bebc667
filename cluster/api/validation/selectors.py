"""Label selectors, node selectors and whether a selector takes its own template's labels."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.api import names
from cluster.api.errors import forbidden, invalid, required
from cluster.api.meta import Object
from cluster.api.validation import fields, metadata
from cluster.api.validation.fields import Errors

_NEEDS_VALUES = "must be specified when `operator` is 'In' or 'NotIn'"
_NO_VALUES = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"


def label_selector(selector: Object | None, path: str, errors: Errors) -> None:
    if not selector:
        return
    metadata.labels(selector.get("matchLabels") or {}, f"{path}.matchLabels", errors)
    for i, requirement in enumerate(selector.get("matchExpressions") or ()):
        _requirement(requirement, f"{path}.matchExpressions[{i}]", errors)


def _requirement(requirement: Object, path: str, errors: Errors) -> None:
    operator, values = requirement.get("operator"), requirement.get("values") or []
    if operator in ("In", "NotIn"):
        if not values:
            errors.append(required(f"{path}.values", _NEEDS_VALUES))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            errors.append(forbidden(f"{path}.values", _NO_VALUES))
    else:
        errors.append(invalid(f"{path}.operator", operator or "", "not a valid selector operator"))
    fields.name(requirement.get("key") or "", names.qualified_name, f"{path}.key", errors)
    for i, value in enumerate(values):
        fields.name(value, names.label_value, f"{path}.values[{i}]", errors)


def is_empty(selector: Object | None) -> bool:
    return not selector or not (selector.get("matchLabels") or selector.get("matchExpressions"))


def matches(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """Whether metav1.LabelSelector takes `labels`; None takes nothing, an empty one everything."""
    if selector is None:
        return False
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for requirement in selector.get("matchExpressions") or ():
        key, operator = requirement.get("key"), requirement.get("operator")
        values = requirement.get("values") or ()
        if operator == "In" and labels.get(key) not in values:
            return False
        if operator == "NotIn" and key in labels and labels[key] in values:
            return False
        if operator == "Exists" and key not in labels:
            return False
        if operator == "DoesNotExist" and key in labels:
            return False
    return True


def template_labels(selector: Object | None, template: Object, path: str, errors: Errors) -> None:
    """A workload must select the pods that it makes."""
    labels = (template.get("metadata") or {}).get("labels") or {}
    if selector is not None and not is_empty(selector) and not matches(selector, labels):
        detail = "`selector` does not match template `labels`"
        errors.append(invalid(f"{path}.metadata.labels", labels, detail))


def node_selector(selector: Object, path: str, errors: Errors) -> None:
    terms = selector.get("nodeSelectorTerms")
    path = f"{path}.nodeSelectorTerms"
    if not terms:
        errors.append(required(path, "must have at least one node selector term"))
        return
    for i, term in enumerate(terms):
        node_selector_term(term, f"{path}[{i}]", errors)


def node_selector_term(term: Object, path: str, errors: Errors, *, any_value: bool = False) -> None:
    for i, requirement in enumerate(term.get("matchExpressions") or ()):
        _node_requirement(requirement, f"{path}.matchExpressions[{i}]", errors, any_value)
    for i, requirement in enumerate(term.get("matchFields") or ()):
        _node_field(requirement, f"{path}.matchFields[{i}]", errors)


def _node_requirement(requirement: Object, path: str, errors: Errors, any_value: bool) -> None:
    operator, values = requirement.get("operator"), requirement.get("values") or []
    if operator in ("In", "NotIn"):
        if not values:
            errors.append(required(f"{path}.values", _NEEDS_VALUES))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            errors.append(forbidden(f"{path}.values", _NO_VALUES))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required(f"{path}.values", detail))
    else:
        errors.append(invalid(f"{path}.operator", operator or "", "not a valid selector operator"))
    fields.name(requirement.get("key") or "", names.qualified_name, f"{path}.key", errors)
    if not any_value:
        for i, value in enumerate(values):
            fields.name(value, names.label_value, f"{path}.values[{i}]", errors)


def _node_field(requirement: Object, path: str, errors: Errors) -> None:
    values = requirement.get("values") or []
    if requirement.get("operator") not in ("In", "NotIn"):
        value = requirement.get("operator") or ""
        errors.append(invalid(f"{path}.operator", value, "not a valid selector operator"))
    elif len(values) != 1:
        detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        errors.append(required(f"{path}.values", detail))
    key = requirement.get("key") or ""
    if key != "metadata.name":
        errors.append(invalid(f"{path}.key", key, "not a valid field selector key"))
        return
    for i, value in enumerate(values):
        fields.name(value, names.dns_subdomain, f"{path}.values[{i}]", errors)
