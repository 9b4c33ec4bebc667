"""RBAC: roles and bindings."""

from __future__ import annotations

from cluster.api import names
from cluster.api.errors import invalid, required
from cluster.api.meta import Object
from cluster.api.validation import fields, selectors
from cluster.api.validation.fields import Errors

_GROUP = "rbac.authorization.k8s.io"


def role(obj: Object, errors: Errors) -> None:
    for i, rule in enumerate(obj.get("rules") or ()):
        _rule(rule, f"rules[{i}]", errors, namespaced=True)


def cluster_role(obj: Object, errors: Errors) -> None:
    for i, rule in enumerate(obj.get("rules") or ()):
        _rule(rule, f"rules[{i}]", errors, namespaced=False)
    aggregation = obj.get("aggregationRule")
    if aggregation is not None:
        found = aggregation.get("clusterRoleSelectors") or []
        path = "aggregationRule.clusterRoleSelectors"
        if not found:
            detail = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            errors.append(required(path, detail))
        for i, selector in enumerate(found):
            selectors.label_selector(selector, f"{path}[{i}]", errors)


def _rule(rule: Object, path: str, errors: Errors, *, namespaced: bool) -> None:
    if not rule.get("verbs"):
        errors.append(required(f"{path}.verbs", "verbs must contain at least one value"))
    urls = rule.get("nonResourceURLs")
    if urls:
        at = f"{path}.nonResourceURLs"
        if namespaced:
            detail = "namespaced rules cannot apply to non-resource URLs"
            errors.append(invalid(at, urls, detail))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            detail = "rules cannot apply to both regular resources and non-resource URLs"
            errors.append(invalid(at, urls, detail))
        return
    if not rule.get("apiGroups"):
        detail = "resource rules must supply at least one api group"
        errors.append(required(f"{path}.apiGroups", detail))
    if not rule.get("resources"):
        detail = "resource rules must supply at least one resource"
        errors.append(required(f"{path}.resources", detail))


def role_binding(obj: Object, errors: Errors) -> None:
    _binding(obj, ("Role", "ClusterRole"), errors, namespaced=True)


def cluster_role_binding(obj: Object, errors: Errors) -> None:
    _binding(obj, ("ClusterRole",), errors, namespaced=False)


def _binding(obj: Object, kinds: tuple[str, ...], errors: Errors, *, namespaced: bool) -> None:
    ref = obj.get("roleRef") or {}
    if ref.get("apiGroup") != _GROUP:
        at = "roleRef.apiGroup"
        errors.append(fields.unsupported(at, ref.get("apiGroup") or "", (_GROUP,)))
    if ref.get("kind") not in kinds:
        errors.append(fields.unsupported("roleRef.kind", ref.get("kind") or "", kinds))
    if not ref.get("name"):
        errors.append(required("roleRef.name"))
    else:
        fields.name(ref["name"], names.path_segment, "roleRef.name", errors)
    for i, subject in enumerate(obj.get("subjects") or ()):
        _subject(subject, f"subjects[{i}]", errors, namespaced=namespaced)


def _subject(subject: Object, path: str, errors: Errors, *, namespaced: bool) -> None:
    name, kind, group = subject.get("name"), subject.get("kind"), subject.get("apiGroup") or ""
    if not name:
        errors.append(required(f"{path}.name"))
    if kind == "ServiceAccount":
        if name:
            fields.name(name, names.dns_subdomain, f"{path}.name", errors)
        if group:
            errors.append(fields.unsupported(f"{path}.apiGroup", group, ("",)))
        # Namespaced bindings may leave it out: it is their own then.
        if not namespaced and not subject.get("namespace"):
            errors.append(required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != _GROUP:
            errors.append(fields.unsupported(f"{path}.apiGroup", group, (_GROUP,)))
    else:
        kinds = ("ServiceAccount", "User", "Group")
        errors.append(fields.unsupported(f"{path}.kind", kind or "", kinds))


def binding_update(new: Object, old: Object, errors: Errors) -> None:
    if new.get("roleRef") != old.get("roleRef"):
        errors.append(invalid("roleRef", new.get("roleRef"), "cannot change roleRef"))
