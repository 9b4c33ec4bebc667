"""PodTopologySpread. Plays pkg/scheduler/framework/plugins/podtopologyspread.

A pod that states no constraint is still spread, softly, among the pods of its Services and its
controller: over hosts and zones (the system's default constraints).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
from cluster.scheduler.plugins.nodeaffinity import NodeAffinity
from cluster.scheduler.plugins.tainttoleration import TaintToleration
from cluster.scheduler.shape import Shape

NOT_MATCHED = "node(s) didn't match pod topology spread constraints"
MISSING_LABEL = f"{NOT_MATCHED} (missing required label)"
HOSTNAME = "kubernetes.io/hostname"
SYSTEM_DEFAULTS: tuple[Mapping[str, Any], ...] = (
    {"maxSkew": 3, "topologyKey": HOSTNAME, "whenUnsatisfiable": "ScheduleAnyway"},
    {
        "maxSkew": 5,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "ScheduleAnyway",
    },
)


@dataclass(frozen=True, slots=True)
class Constraint:
    max_skew: int
    topology_key: str
    min_domains: int
    kind: PodKind
    self_match: int
    honor_affinity: bool
    honor_taints: bool


class PodTopologySpread:
    name = "PodTopologySpread"
    filter_reach = Reach.ALL
    score_reach = Reach.ALL

    def __init__(
        self,
        defaults: Sequence[Mapping[str, Any]] = (),
        selector: Callable[[Shape], Mapping[str, Any] | None] | None = None,
    ) -> None:
        """`defaults`: PodTopologySpreadArgs.defaultConstraints, for pods that state none. Without
        any (defaultingType System), `selector` tells which pods a pod should be spread among: those
        of its Services and its controller."""
        self._defaults = tuple(defaults)
        self._selector = selector

    def filter(self, shape: Shape, nodes: NodeTable, state: State) -> Mask | None:
        constraints = self._constraints(shape, "DoNotSchedule")
        if not constraints:
            return None
        mask = np.ones(nodes.size, np.bool_)
        labelled = _labelled(constraints, nodes)
        for constraint in constraints:
            numbers, amount = nodes.domains(constraint.topology_key)
            eligible = labelled & _eligible(constraint, shape, nodes)
            per_domain, present = _domain_counts(constraint, nodes, numbers, amount, eligible)
            least = int(per_domain[present].min()) if present.any() else 2**31 - 1
            if int(present.sum()) < constraint.min_domains:
                least = 0
            skew = np.where(numbers >= 0, per_domain[numbers], 0) + constraint.self_match - least
            mask &= (numbers >= 0) & (skew <= constraint.max_skew)
        return mask

    def filter_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> bool:
        mask = self.filter(shape, nodes, state)
        return mask is None or bool(mask[row])

    def explain(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> Status:
        labels = nodes.at(row).labels
        for constraint in self._constraints(shape, "DoNotSchedule"):
            if constraint.topology_key not in labels:
                return unresolvable(MISSING_LABEL)
        return unschedulable(NOT_MATCHED)

    def pre_score(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> bool:
        constraints = self._constraints(shape, "ScheduleAnyway")
        state["soft"], state["everywhere"] = constraints, True
        if not shape.spread and not self._defaults and self._selector is not None:
            selector = self._selector(shape)
            if selector is not None:
                state["soft"] = [_constraint(each, shape, selector) for each in SYSTEM_DEFAULTS]
                state["everywhere"] = False
        return bool(state["soft"])

    def score(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> Scores:
        self._start(shape, nodes, feasible, state)
        return self.live_score(nodes, feasible, state)

    def score_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> int:
        raise AssertionError("a placement reaches all nodes of a domain")

    def refresh_score(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> None:
        raw = state["raw"]
        for counts, seen, numbers, weight, eligible in state["columns"]:
            delta = int(counts[row]) - int(seen[row])
            if not delta:
                continue
            seen[row] = counts[row]
            if numbers is None:
                raw[row] += delta * weight
            elif numbers[row] >= 0 and eligible[row]:
                raw[numbers == numbers[row]] += delta * weight

    def live_score(self, nodes: NodeTable, feasible: Mask, state: State) -> Scores:
        ignored = state["ignored"]
        rounded: Scores = (state["raw"] + 0.5).astype(np.int64)
        counted = feasible if ignored is None else feasible & ~ignored
        among = rounded[counted]
        if not len(among):
            return np.zeros_like(rounded)
        highest, lowest = int(among.max()), int(among.min())
        found: Scores
        if highest == 0:
            found = np.full_like(rounded, MAX_NODE_SCORE)
        else:
            found = MAX_NODE_SCORE * (highest + lowest - rounded) // highest
        if ignored is not None:
            found[ignored] = 0
        return found

    def _start(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> None:
        """Raw scores out of what is on the nodes now, and what is needed to follow changes."""
        constraints: list[Constraint] = state["soft"]
        labelled = nodes.valid[: nodes.size]
        if state["everywhere"]:
            labelled = _labelled(constraints, nodes)
        scored = feasible & labelled
        raw = np.zeros(nodes.size, np.float64)
        columns: list[tuple[Ints, Ints, Ints | None, float, Mask]] = []
        for constraint in constraints:
            numbers, amount = nodes.domains(constraint.topology_key)
            counts = nodes.matching(constraint.kind)
            if constraint.topology_key == HOSTNAME:
                weight = math.log(int(scored.sum()) + 2)
                raw += counts * weight + (constraint.max_skew - 1)
                columns.append((counts, counts.copy(), None, weight, labelled))
                continue
            there = scored & (numbers >= 0)
            weight = math.log(len(np.unique(numbers[there])) + 2)
            eligible = labelled & (numbers >= 0) & _eligible(constraint, shape, nodes)
            per_domain, _ = _domain_counts(constraint, nodes, numbers, amount, eligible)
            shares = per_domain[numbers] * weight + (constraint.max_skew - 1)
            raw += np.where(numbers >= 0, shares, 0.0)
            columns.append((counts, counts.copy(), numbers, weight, eligible))
        state["raw"], state["columns"] = raw, columns
        ignored = ~labelled
        state["ignored"] = ignored if ignored.any() else None

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        if event.resource == "Node":
            return event.action in ("Add", "Delete", "LabelChange", "TaintChange")
        if event.resource != "AssignedPod":
            return False
        pod = event.new or event.old or {}
        return bool(pod.get("metadata", {}).get("namespace") == shape.namespace)

    def _constraints(self, shape: Shape, action: str) -> list[Constraint]:
        stated = shape.spread or self._defaults
        return [
            _constraint(each, shape)
            for each in stated
            if (each.get("whenUnsatisfiable") or "DoNotSchedule") == action
        ]


def _constraint(
    stated: Mapping[str, Any], shape: Shape, chosen: Mapping[str, Any] | None = None
) -> Constraint:
    keys = stated.get("matchLabelKeys") or ()
    selector = label_selector(chosen or stated.get("labelSelector"), shape, keys)
    term = Term(frozenset({shape.namespace}), selector)
    return Constraint(
        max_skew=int(stated.get("maxSkew") or 1),
        topology_key=str(stated.get("topologyKey")),
        min_domains=int(stated.get("minDomains") or 1),
        kind=PodKind((term,), living=True),
        self_match=int(term.matches(shape)),
        honor_affinity=(stated.get("nodeAffinityPolicy") or "Honor") == "Honor",
        honor_taints=stated.get("nodeTaintsPolicy") == "Honor",
    )


def _labelled(constraints: Sequence[Constraint], nodes: NodeTable) -> Mask:
    """Nodes that have all the topology keys."""
    mask = nodes.valid[: nodes.size].copy()
    for constraint in constraints:
        mask &= nodes.domains(constraint.topology_key)[0] >= 0
    return mask


def _eligible(constraint: Constraint, shape: Shape, nodes: NodeTable) -> Mask:
    """Nodes that count for a constraint under its inclusion policies."""
    mask = np.ones(nodes.size, np.bool_)
    if constraint.honor_affinity:
        found = NodeAffinity().filter(shape, nodes, {})
        if found is not None:
            mask &= found
    if constraint.honor_taints:
        found = TaintToleration().filter(shape, nodes, {})
        if found is not None:
            mask &= found
    return mask


def _domain_counts(
    constraint: Constraint, nodes: NodeTable, numbers: Ints, amount: int, eligible: Mask
) -> tuple[Ints, Mask]:
    """(matching pods in each domain, whether the domain has an eligible node). One domain more than
    there are stands at the end, so that -1 is a valid index."""
    counts = nodes.matching(constraint.kind)
    chosen = numbers[eligible]
    per_domain = np.bincount(chosen, weights=counts[eligible], minlength=amount + 1)
    present = np.bincount(chosen, minlength=amount + 1) > 0
    return per_domain.astype(np.int64), present
