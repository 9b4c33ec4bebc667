"""ClusterRole aggregation (pkg/controller/clusterroleaggregation), as a pure function."""

from __future__ import annotations

from collections.abc import Collection

from cluster.api.meta import Object
from cluster.apiserver.authz.rules import Rule


def aggregated_rules(role: Object, roles: Collection[Object]) -> list[Rule]:
    """The role's rules; for one with an aggregationRule, those of every role that it selects, and
    of the roles those select (upstream's controller gets there in several rounds)."""
    if not role.get("aggregationRule"):
        return role.get("rules") or []
    collected: list[Rule] = []
    by_name = {r["metadata"]["name"]: r for r in roles}
    seen = {role["metadata"]["name"]}
    waiting = [role]
    while waiting:
        aggregate = waiting.pop()
        selectors = (aggregate.get("aggregationRule") or {}).get("clusterRoleSelectors") or ()
        for selector in selectors:
            for name in sorted(by_name):
                if name in seen or not label_selector_matches(
                    selector, by_name[name]["metadata"].get("labels") or {}
                ):
                    continue
                seen.add(name)
                selected = by_name[name]
                if selected.get("aggregationRule"):
                    waiting.append(selected)
                collected += [
                    rule
                    for rule in (
                        () if selected.get("aggregationRule") else selected.get("rules") or ()
                    )
                    if rule not in collected
                ]
    return collected


def label_selector_matches(selector: Object, labels: Object) -> bool:
    """metav1.LabelSelector over labels; an empty one matches everything."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for requirement in selector.get("matchExpressions") or ():
        key, operator = requirement.get("key", ""), requirement.get("operator", "")
        values = requirement.get("values") or ()
        held = key in labels
        matched = {
            "In": held and labels.get(key) in values,
            "NotIn": not held or labels.get(key) not in values,
            "Exists": held,
            "DoesNotExist": not held,
        }.get(operator, False)
        if not matched:
            return False
    return True
