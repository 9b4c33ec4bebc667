"""NodeAffinity and nodeSelector. Plays pkg/scheduler/framework/plugins/nodeaffinity and
component-helpers/scheduling/corev1/nodeaffinity.

Terms are resolved over the table's index of label values: the cost is by values, not by nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cluster.scheduler.cache import NodeTable
from cluster.scheduler.events import ClusterEvent
from cluster.scheduler.framework import (
    Mask,
    Reach,
    Scores,
    State,
    Status,
    default_normalize,
    unresolvable,
)
from cluster.scheduler.shape import Shape

CONFLICT = "pod affinity terms conflict"
NOT_MATCHED = "node(s) didn't match Pod's node affinity/selector"
NOT_ENFORCED = "node(s) didn't match scheduler-enforced node affinity"

Term = Mapping[str, Any]


class NodeAffinity:
    name = "NodeAffinity"
    filter_reach = Reach.NOTHING
    score_reach = Reach.NOTHING

    def __init__(self, added: Mapping[str, Any] | None = None) -> None:
        """`added`: NodeAffinityArgs.addedAffinity of the profile."""
        self._added = added or {}

    def pre_filter(
        self, shape: Shape, nodes: NodeTable, state: State
    ) -> Status | frozenset[str] | None:
        """Required terms that all name their nodes restrict the search to those (DaemonSet
        pods)."""
        terms = required_terms(shape)
        if not terms:
            return None
        names: set[str] = set()
        for term in terms:
            wanted: set[str] | None = None
            for field in term.get("matchFields") or ():
                if field.get("key") == "metadata.name" and field.get("operator") == "In":
                    values = set(field.get("values") or ())
                    wanted = values if wanted is None else wanted & values
            if wanted is None:
                return None
            names |= wanted
        if not names:
            return unresolvable(CONFLICT)
        return frozenset(names)

    def filter(self, shape: Shape, nodes: NodeTable, state: State) -> Mask | None:
        masks = []
        if self._added_terms():
            masks.append(match_terms(self._added_terms(), nodes))
        if shape.node_selector:
            masks.append(match_labels(shape.node_selector, nodes))
        affinity = shape.affinity.get("nodeAffinity") or {}
        if affinity.get("requiredDuringSchedulingIgnoredDuringExecution") is not None:
            masks.append(match_terms(required_terms(shape), nodes))
        if not masks:
            return None
        mask: Mask = np.logical_and.reduce(masks)
        return mask

    def filter_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> bool:
        mask = self.filter(shape, nodes, state)
        return mask is None or bool(mask[row])

    def explain(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> Status:
        if self._added_terms() and not match_terms(self._added_terms(), nodes)[row]:
            return unresolvable(NOT_ENFORCED)
        return unresolvable(NOT_MATCHED)

    def pre_score(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> bool:
        state["score"] = [*self._preferred(shape)]
        return bool(state["score"])

    def score(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> Scores:
        total = np.zeros(nodes.size, np.int64)
        for weight, term in state["score"]:
            total += weight * match_terms([term], nodes)
        return total

    def score_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> int:
        raise AssertionError("a placement changes no label")

    def normalize(self, scores: Scores, feasible: Mask) -> Scores:
        return default_normalize(scores, feasible, reverse=False)

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        if event.resource != "Node" or event.new is None:
            return False
        if event.action not in ("Add", "LabelChange"):
            return False
        return matches_node(shape, event.new)

    def _added_terms(self) -> Sequence[Term]:
        required = self._added.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
        return tuple(required.get("nodeSelectorTerms") or ())

    def _preferred(self, shape: Shape) -> Iterable[tuple[int, Term]]:
        own = shape.affinity.get("nodeAffinity") or {}
        for source in (self._added, own):
            for each in source.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
                if each.get("weight"):
                    yield int(each["weight"]), each.get("preference") or {}


def required_terms(shape: Shape) -> Sequence[Term]:
    affinity = shape.affinity.get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    return tuple(required.get("nodeSelectorTerms") or ())


def matches_node(shape: Shape, node: Mapping[str, Any]) -> bool:
    """nodeSelector and required node affinity against one Node object."""
    single = NodeTable()
    single.set_node(dict(node))
    found = NodeAffinity().filter(shape, single, {})
    return found is None or bool(found[0])


def match_labels(selector: Mapping[str, str], nodes: NodeTable) -> Mask:
    """Nodes that have all these labels."""
    rows: set[int] | None = None
    for key, value in selector.items():
        found = nodes.labels.get(key, {}).get(value, set())
        rows = set(found) if rows is None else rows & found
    return _mask_of(rows or (), nodes)


def match_terms(terms: Iterable[Term], nodes: NodeTable) -> Mask:
    """Terms are alternatives; an empty term matches nothing."""
    mask = np.zeros(nodes.size, np.bool_)
    for term in terms:
        expressions = term.get("matchExpressions") or ()
        fields = term.get("matchFields") or ()
        if not expressions and not fields:
            continue
        found = np.ones(nodes.size, np.bool_)
        for requirement in expressions:
            found &= _match_expression(requirement, nodes)
        for requirement in fields:
            found &= _match_field(requirement, nodes)
        mask |= found
    return mask


def _match_expression(requirement: Mapping[str, Any], nodes: NodeTable) -> Mask:
    index = nodes.labels.get(str(requirement.get("key")), {})
    operator = requirement.get("operator")
    values = [str(v) for v in requirement.get("values") or ()]
    if operator == "In":
        return _mask_of((r for v in values for r in index.get(v, ())), nodes)
    if operator == "NotIn":
        return ~_mask_of((r for v in values for r in index.get(v, ())), nodes)
    if operator == "Exists":
        return _mask_of((r for rows in index.values() for r in rows), nodes)
    if operator == "DoesNotExist":
        return ~_mask_of((r for rows in index.values() for r in rows), nodes)
    if operator in ("Gt", "Lt") and len(values) == 1:
        bound = _integer(values[0])
        chosen = [
            row
            for value, rows in index.items()
            if (number := _integer(value)) is not None
            and bound is not None
            and (number > bound if operator == "Gt" else number < bound)
            for row in rows
        ]
        return _mask_of(chosen, nodes)
    return np.zeros(nodes.size, np.bool_)


def _match_field(requirement: Mapping[str, Any], nodes: NodeTable) -> Mask:
    """Only metadata.name can be asked for."""
    if requirement.get("key") != "metadata.name":
        return np.zeros(nodes.size, np.bool_)
    rows = [nodes.row_of(str(name)) for name in requirement.get("values") or ()]
    mask = _mask_of([row for row in rows if row is not None], nodes)
    return ~mask if requirement.get("operator") == "NotIn" else mask


def _mask_of(rows: Iterable[int], nodes: NodeTable) -> Mask:
    mask = np.zeros(nodes.size, np.bool_)
    chosen = [*rows]
    if chosen:
        mask[chosen] = True
    return mask


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
