"""PolicyRules: what one covers, how one is printed, which are missing.

Plays pkg/apis/rbac/v1/evaluation_helpers.go, pkg/registry/rbac/validation/policy_compact.go and
k8s.io/component-helpers/auth/rbac/validation. A rule is its dict, as in the stored role.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.api.meta import Object
from cluster.apiserver.attributes import Attributes
from cluster.apiserver.authz.messages import quoted

Rule = Mapping[str, Any]

_FIELDS = (
    ("apiGroups", "APIGroups"),
    ("resources", "Resources"),
    ("nonResourceURLs", "NonResourceURLs"),
    ("resourceNames", "ResourceNames"),
    ("verbs", "Verbs"),
)


_RESOURCE_FIELDS = ("verbs", "apiGroups", "resources", "resourceNames")
_URL_FIELDS = ("verbs", "nonResourceURLs")


@dataclass(slots=True)
class RulesReview:
    """SelfSubjectRulesReview's status."""

    resource_rules: list[Object] = field(default_factory=list)
    non_resource_rules: list[Object] = field(default_factory=list)
    incomplete: bool = False
    evaluation_error: str = ""

    def add(self, rules: Iterable[Rule]) -> None:
        for rule in rules:
            if rule.get("resources"):
                self.resource_rules.append(
                    {key: list(rule[key]) for key in _RESOURCE_FIELDS if rule.get(key)}
                )
            if rule.get("nonResourceURLs"):
                self.non_resource_rules.append(
                    {key: list(rule[key]) for key in _URL_FIELDS if rule.get(key)}
                )

    def to_status(self) -> Object:
        status: Object = {
            "resourceRules": self.resource_rules,
            "nonResourceRules": self.non_resource_rules,
            "incomplete": self.incomplete,
        }
        if self.evaluation_error:
            status["evaluationError"] = self.evaluation_error
        return status


def rule_allows(attributes: Attributes, rule: Rule) -> bool:
    """Does the rule allow the request? (rbac.RuleAllows)"""
    if not _any_of(rule.get("verbs"), attributes.verb):
        return False
    if not attributes.is_resource:
        return any(url_matches(url, attributes.path) for url in rule.get("nonResourceURLs") or ())
    names = rule.get("resourceNames")
    return (
        _any_of(rule.get("apiGroups"), attributes.group)
        and resource_matches(
            rule.get("resources") or (), attributes.resource, attributes.subresource
        )
        and (not names or attributes.name in names)
    )


def resource_matches(resources: Sequence[str], resource: str, subresource: str) -> bool:
    """`*` covers everything, `*/scale` that subresource of everything."""
    if "*" in resources:
        return True
    if not subresource:
        return resource in resources
    return f"{resource}/{subresource}" in resources or f"*/{subresource}" in resources


def url_matches(pattern: str, path: str) -> bool:
    """`*`, an exact path, or a prefix ending in `*`."""
    if pattern == "*" or pattern == path:
        return True
    return pattern.endswith("*") and path.startswith(pattern[:-1].rstrip("*"))


def covers(owned: Sequence[Rule], wanted: Sequence[Rule]) -> list[Object]:
    """The parts of `wanted` that `owned` does not hold, each with one group, resource and verb."""
    missing: list[Object] = []
    for rule in wanted:
        for part in _break_down(rule):
            if not any(_rule_covers(owner, part) for owner in owned):
                missing.append(part)
    return missing


def describe_missing(missing: Sequence[Object]) -> str:
    """The missing parts, verbs of one resource joined, one rule a line, sorted."""
    return "\n".join(sorted({describe(rule) for rule in compact(missing)}))


def compact(rules: Iterable[Object]) -> list[Object]:
    """Join the rules that name one group and one resource and differ in their verbs only."""
    joined: dict[tuple[str, str, tuple[str, ...]], Object] = {}
    others: list[Object] = []
    for rule in rules:
        groups, resources = rule.get("apiGroups") or [], rule.get("resources") or []
        if len(groups) != 1 or len(resources) != 1 or rule.get("nonResourceURLs"):
            others.append(rule)
            continue
        key = (groups[0], resources[0], tuple(rule.get("resourceNames") or ()))
        known = joined.get(key)
        if known is None:
            joined[key] = {**rule, "verbs": list(rule["verbs"])}
        else:
            known["verbs"] += [verb for verb in rule["verbs"] if verb not in known["verbs"]]
    return others + list(joined.values())


def describe(rule: Rule) -> str:
    """`{APIGroups:["apps"], Resources:["deployments"], Verbs:["get" "list"]}`"""
    parts = [
        f"{label}:[{' '.join(quoted(v) for v in rule[key])}]"
        for key, label in _FIELDS
        if rule.get(key)
    ]
    return "{" + ", ".join(parts) + "}"


def _any_of(values: Sequence[str] | None, wanted: str) -> bool:
    return values is not None and (wanted in values or "*" in values)


def _break_down(rule: Rule) -> Iterable[Object]:
    verbs = rule.get("verbs") or ()
    names = rule.get("resourceNames") or ()
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            for verb in verbs:
                part: Object = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
                if not names:
                    yield part
                for name in names:
                    yield {**part, "resourceNames": [name]}
    for url in rule.get("nonResourceURLs") or ():
        for verb in verbs:
            yield {"nonResourceURLs": [url], "verbs": [verb]}


def _rule_covers(owner: Rule, part: Rule) -> bool:
    """Does the owner's rule hold a part of one verb and one resource, or one URL?"""
    if not _any_of(owner.get("verbs"), part["verbs"][0]):
        return False
    if part.get("nonResourceURLs"):
        wanted = part["nonResourceURLs"][0]
        return any(
            url_matches(url, wanted) if not wanted.endswith("*") else _url_covers(url, wanted)
            for url in owner.get("nonResourceURLs") or ()
        )
    if not _any_of(owner.get("apiGroups"), part["apiGroups"][0]):
        return False
    resource, _, subresource = part["resources"][0].partition("/")
    if not resource_matches(owner.get("resources") or (), resource, subresource):
        return False
    owned_names = owner.get("resourceNames") or ()
    wanted_names = part.get("resourceNames") or ()
    return not owned_names or (bool(wanted_names) and set(wanted_names) <= set(owned_names))


def _url_covers(owner: str, wanted: str) -> bool:
    return owner in ("*", wanted) or (
        owner.endswith("*") and wanted.rstrip("*").startswith(owner.rstrip("*"))
    )
