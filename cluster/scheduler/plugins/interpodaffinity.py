"""InterPodAffinity. Plays pkg/scheduler/framework/plugins/interpodaffinity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cluster.api.meta import Object
from cluster.api.selectors import LabelSelector
from cluster.scheduler.cache import Ints, NodeTable
from cluster.scheduler.events import ClusterEvent
from cluster.scheduler.framework import (
    MAX_NODE_SCORE,
    Mask,
    Reach,
    Scores,
    State,
    Status,
    unresolvable,
    unschedulable,
)
from cluster.scheduler.matching import PodKind, Term, label_selector
from cluster.scheduler.shape import Shape

NO_AFFINITY = "node(s) didn't match pod affinity rules"
NO_ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
NO_EXISTING = "node(s) didn't satisfy existing pods anti-affinity rules"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

Namespaces = Callable[[], Iterable[Object]]


class InterPodAffinity:
    name = "InterPodAffinity"
    filter_reach = Reach.ALL
    score_reach = Reach.ALL

    def __init__(self, namespaces: Namespaces, hard_weight: int = 1) -> None:
        """`hard_weight`: what a required affinity of a pod that runs counts in the score of one
        that it wants near (hardPodAffinityWeight)."""
        self._namespaces = namespaces
        self._hard_weight = hard_weight

    def filter(self, shape: Shape, nodes: NodeTable, state: State) -> Mask | None:
        parts = self._parts(shape, nodes)
        if not parts:
            return None
        mask: Mask = np.logical_and.reduce([m for m, _ in parts])
        return mask

    def filter_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> bool:
        mask = self.filter(shape, nodes, state)
        return mask is None or bool(mask[row])

    def explain(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> Status:
        for mask, status in self._parts(shape, nodes):
            if not mask[row]:
                return status
        raise AssertionError("explain is for a row that was refused")

    def pre_score(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> bool:
        own = [
            *self._terms(shape, "podAffinity", PREFERRED),
            *(
                replace(t, weight=-t.weight)
                for t in self._terms(shape, "podAntiAffinity", PREFERRED)
            ),
        ]
        existing = [
            (term, rows)
            for other, rows in nodes.affine.values()
            for term in self._wishes(other)
            if term.matches(shape)
        ]
        state["own"], state["existing"] = own, existing
        return bool(own or existing)

    def score(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> Scores:
        total = np.zeros(nodes.size, np.int64)
        for term in state["own"]:
            numbers, amount = nodes.domains(term.topology_key)
            counts = nodes.matching(PodKind((term,)))
            total += term.weight * _spread_out(numbers, amount, counts)
        for term, rows in state["existing"]:
            numbers, amount = nodes.domains(term.topology_key)
            total += term.weight * _spread_out(numbers, amount, _column(rows, nodes))
        return total

    def score_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> int:
        raise AssertionError("a placement reaches all nodes of a domain")

    def normalize(self, scores: Scores, feasible: Mask) -> Scores:
        if not feasible.any():
            return np.zeros_like(scores)
        highest, lowest = int(scores[feasible].max()), int(scores[feasible].min())
        if highest == lowest:
            return np.zeros_like(scores)
        share = (scores - lowest) / (highest - lowest)
        found: Scores = (MAX_NODE_SCORE * share).astype(np.int64)
        return found

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        if event.resource == "Node":
            return event.action in ("Add", "LabelChange")
        return event.resource in ("AssignedPod", "Namespace")

    def _parts(self, shape: Shape, nodes: NodeTable) -> list[tuple[Mask, Status]]:
        """The three rules that apply, each with what is said where it is broken."""
        parts: list[tuple[Mask, Status]] = []
        near = self._terms(shape, "podAffinity", REQUIRED)
        if near:
            parts.append((_near(near, shape, nodes), unresolvable(NO_AFFINITY)))
        far = self._terms(shape, "podAntiAffinity", REQUIRED)
        if far:
            mask = np.ones(nodes.size, np.bool_)
            for term in far:
                numbers, amount = nodes.domains(term.topology_key)
                mask &= _spread_out(numbers, amount, nodes.matching(PodKind((term,)))) == 0
            parts.append((mask, unschedulable(NO_ANTI_AFFINITY)))
        unwanted = self._unwanted(shape, nodes)
        if unwanted is not None:
            parts.append((~unwanted, unschedulable(NO_EXISTING)))
        return parts

    def _unwanted(self, shape: Shape, nodes: NodeTable) -> Mask | None:
        """Nodes in a domain where a running pod does not want this one."""
        found: Mask | None = None
        for other, rows in nodes.affine.values():
            for term in self._terms(other, "podAntiAffinity", REQUIRED):
                if term.matches(shape):
                    numbers, amount = nodes.domains(term.topology_key)
                    near = _spread_out(numbers, amount, _column(rows, nodes)) > 0
                    found = near if found is None else found | near
        return found

    def _wishes(self, other: Shape) -> Iterable[Term]:
        """What a running pod wants near it (positive weight) or far from it (negative)."""
        if self._hard_weight:
            for term in self._terms(other, "podAffinity", REQUIRED):
                yield replace(term, weight=self._hard_weight)
        yield from self._terms(other, "podAffinity", PREFERRED)
        for term in self._terms(other, "podAntiAffinity", PREFERRED):
            yield replace(term, weight=-term.weight)

    def _terms(self, shape: Shape, section: str, strength: str) -> list[Term]:
        stated: Sequence[Mapping[str, Any]] = (shape.affinity.get(section) or {}).get(
            strength
        ) or ()
        return [
            self._term(
                each if strength == REQUIRED else each.get("podAffinityTerm") or {},
                shape,
                0 if strength == REQUIRED else int(each.get("weight") or 0),
            )
            for each in stated
        ]

    def _term(self, stated: Mapping[str, Any], shape: Shape, weight: int) -> Term:
        names = set(stated.get("namespaces") or ())
        wanted = stated.get("namespaceSelector")
        namespaces: frozenset[str] | None
        if wanted is None:
            namespaces = frozenset(names or {shape.namespace})
        elif not wanted:
            namespaces = None
        else:
            selector = LabelSelector.from_dict(wanted)
            for each in self._namespaces():
                if selector.matches(each["metadata"].get("labels")):
                    names.add(each["metadata"]["name"])
            namespaces = frozenset(names)
        selector = _no_pods()
        if stated.get("labelSelector") is not None:
            selector = label_selector(
                stated["labelSelector"], shape, stated.get("matchLabelKeys") or ()
            )
        return Term(namespaces, selector, str(stated.get("topologyKey")), weight)


def _near(terms: Sequence[Term], shape: Shape, nodes: NodeTable) -> Mask:
    """Nodes where each term finds, in its domain, a pod that matches all the terms. The first pod
    of a group, which could only match itself, may go anywhere."""
    kind = PodKind(tuple(terms))
    counts = nodes.matching(kind)
    labelled = np.ones(nodes.size, np.bool_)
    found = np.ones(nodes.size, np.bool_)
    anywhere = False
    for term in terms:
        numbers, amount = nodes.domains(term.topology_key)
        labelled &= numbers >= 0
        near = _spread_out(numbers, amount, counts) > 0
        anywhere = anywhere or bool(near.any())
        found &= near
    if not anywhere and kind.covers(shape):
        return labelled
    return labelled & found


def _spread_out(numbers: Ints, amount: int, counts: Ints) -> Ints:
    """For each row the sum over its domain; 0 for a row in none."""
    inside = numbers >= 0
    sums = np.bincount(numbers[inside], weights=counts[inside], minlength=amount + 1)
    found: Ints = np.where(inside, sums[numbers], 0).astype(np.int64)
    return found


def _column(rows: Mapping[int, int], nodes: NodeTable) -> Ints:
    column = np.zeros(nodes.size, np.int64)
    for row, amount in rows.items():
        column[row] = amount
    return column


def _no_pods() -> LabelSelector:
    """A term without a selector matches nothing."""
    contradiction = [
        {"key": "x", "operator": "Exists"},
        {"key": "x", "operator": "DoesNotExist"},
    ]
    return LabelSelector.from_dict({"matchExpressions": contradiction})
