"""RBAC: plays plugin/pkg/auth/authorizer/rbac and pkg/registry/rbac/validation.

Roles and bindings are held by name and by subject, kept current by the registry's changes. A
verdict that does not hang on the object's name is remembered until any of them changes, so the
usual request costs one dict lookup. ClusterRoles with an aggregationRule get the rules of the roles
they select here, whether or not a controller has written them into the role yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cluster.api.meta import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    ROLEBINDINGS,
    ROLES,
    Object,
)
from cluster.apiserver.attributes import Attributes, Decision, Registry, UserInfo
from cluster.apiserver.authn.groups import split_service_account
from cluster.apiserver.authz.aggregation import aggregated_rules
from cluster.apiserver.authz.messages import quoted
from cluster.apiserver.authz.rules import Rule, rule_allows

_CACHE_SIZE = 65_536
_RBAC = "rbac.authorization.k8s.io"

Subject = tuple[str, str]
"""("User", name), ("Group", name) or ("ServiceAccount", "namespace/name")."""


class Grant(NamedTuple):
    """One rule that somebody has, and through what."""

    rule: Rule
    binding: Object
    subject: Object


class RbacAuthorizer:
    def __init__(self, registry: Registry) -> None:
        self._roles: dict[tuple[str, str], Object] = {}
        self._cluster_roles: dict[str, Object] = {}
        self._rules: dict[str, list[Rule]] = {}
        # namespace ('' = cluster-wide) -> subject -> binding's name -> binding
        self._bindings: dict[str, dict[Subject, dict[str, Object]]] = {}
        self._verdicts: dict[tuple[object, ...], Decision | None] = {}
        registry.subscribe(CLUSTERROLES, self._handle_cluster_role)
        registry.subscribe(ROLES, self._handle_role)
        registry.subscribe(CLUSTERROLEBINDINGS, self._handle_binding)
        registry.subscribe(ROLEBINDINGS, self._handle_binding)

    def authorize(self, attributes: Attributes) -> Decision:
        user = attributes.user
        if attributes.is_resource:
            key: tuple[object, ...] = (
                user.name,
                user.groups,
                attributes.verb,
                attributes.group,
                attributes.resource,
                attributes.subresource,
                attributes.namespace,
            )
        else:
            key = (user.name, user.groups, attributes.verb, attributes.path)
        known = self._verdicts.get(key)
        if known is not None:
            return known
        decision, cacheable = self._decide(attributes)
        if cacheable:
            if len(self._verdicts) >= _CACHE_SIZE:
                self._verdicts.clear()
            self._verdicts[key] = decision
        return decision

    def rules_for(self, user: UserInfo, namespace: str) -> tuple[list[Rule], list[str]]:
        """Every rule that the user has in the namespace and cluster-wide, and what was missing."""
        errors: list[str] = []
        return [grant.rule for grant in self._grants(user, namespace, errors)], errors

    def role_rules(self, kind: str, namespace: str, name: str) -> list[Rule] | None:
        """The rules of a role, aggregated ones included. None: there is no such role."""
        if kind == "ClusterRole":
            return self._cluster_role_rules(name)
        role = self._roles.get((namespace, name))
        return None if role is None else role.get("rules") or []

    def _decide(self, attributes: Attributes) -> tuple[Decision, bool]:
        """The verdict, and whether it is the same for every object's name."""
        by_name = False
        errors: list[str] = []
        for grant in self._grants(attributes.user, attributes.namespace, errors):
            if rule_allows(attributes, grant.rule):
                reason = _reason(grant)
                return Decision(True, reason), not grant.rule.get("resourceNames")
            by_name = by_name or bool(grant.rule.get("resourceNames"))
        reason = ""
        if errors:
            joined = ", ".join(errors)
            reason = f"RBAC: {joined if len(errors) == 1 else f'[{joined}]'}"
        return Decision(False, reason), not by_name

    def _grants(self, user: UserInfo, namespace: str, errors: list[str]) -> Iterator[Grant]:
        for scope in ("", namespace) if namespace else ("",):
            by_subject = self._bindings.get(scope)
            if not by_subject:
                continue
            for subject in _subjects_of(user):
                for binding in by_subject.get(subject, {}).values():
                    rules = self._bound_rules(binding, errors)
                    shown = _subject_of(binding, subject)
                    for rule in rules:
                        yield Grant(rule, binding, shown)

    def _bound_rules(self, binding: Object, errors: list[str]) -> Iterable[Rule]:
        reference = binding.get("roleRef") or {}
        kind, name = reference.get("kind", ""), reference.get("name", "")
        namespace = binding["metadata"].get("namespace", "")
        rules = self.role_rules(kind, namespace, name)
        if rules is None:
            errors.append(f"{kind.lower()}.{_RBAC} {quoted(name)} not found")
            return ()
        return rules

    def _cluster_role_rules(self, name: str) -> list[Rule] | None:
        known = self._rules.get(name)
        if known is None:
            role = self._cluster_roles.get(name)
            if role is None:
                return None
            known = self._rules[name] = [
                *aggregated_rules(role, self._cluster_roles.values()),
            ]
        return known

    def _handle_cluster_role(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._cluster_roles[new["metadata"]["name"]] = new
        elif old is not None:
            self._cluster_roles.pop(old["metadata"]["name"], None)
        self._rules.clear()
        self._verdicts.clear()

    def _handle_role(self, old: Object | None, new: Object | None) -> None:
        role = new or old
        assert role is not None
        key = (role["metadata"]["namespace"], role["metadata"]["name"])
        if new is not None:
            self._roles[key] = new
        else:
            self._roles.pop(key, None)
        self._verdicts.clear()

    def _handle_binding(self, old: Object | None, new: Object | None) -> None:
        for binding, add in ((old, False), (new, True)):
            if binding is None:
                continue
            namespace = binding["metadata"].get("namespace", "")
            name = binding["metadata"]["name"]
            by_subject = self._bindings.setdefault(namespace, {})
            for subject in binding.get("subjects") or ():
                key = _subject_key(subject, namespace)
                if add:
                    by_subject.setdefault(key, {})[name] = binding
                elif (bound := by_subject.get(key)) is not None:
                    bound.pop(name, None)
                    if not bound:
                        del by_subject[key]
        self._verdicts.clear()


def _subject_key(subject: Object, namespace: str) -> Subject:
    kind, name = subject.get("kind", ""), subject.get("name", "")
    if kind == "ServiceAccount":
        return "ServiceAccount", f"{subject.get('namespace') or namespace}/{name}"
    return kind, name


def _subjects_of(user: UserInfo) -> Iterator[Subject]:
    yield "User", user.name
    account = split_service_account(user.name)
    if account is not None:
        yield "ServiceAccount", f"{account[0]}/{account[1]}"
    for group in user.groups:
        yield "Group", group


def _subject_of(binding: Object, key: Subject) -> Object:
    namespace = binding["metadata"].get("namespace", "")
    for subject in binding.get("subjects") or ():
        if _subject_key(subject, namespace) == key:
            return dict(subject)
    return {"kind": key[0], "name": key[1]}


def _reason(grant: Grant) -> str:
    metadata = grant.binding["metadata"]
    name, namespace = metadata["name"], metadata.get("namespace", "")
    role = grant.binding["roleRef"]
    subject = grant.subject
    who = f"{subject['kind']} {quoted(subject['name'])}"
    if subject["kind"] == "ServiceAccount":
        who = f"ServiceAccount {quoted(subject['name'] + '/' + subject.get('namespace', ''))}"
    kind, shown = "ClusterRoleBinding", name
    if namespace:
        kind, shown = "RoleBinding", f"{name}/{namespace}"
    return (
        f"RBAC: allowed by {kind} {quoted(shown)} of {role['kind']} {quoted(role['name'])} to {who}"
    )
