"""TaintToleration. Plays pkg/scheduler/framework/plugins/tainttoleration.

Nodes with equal taints share one entry, so a verdict costs as many comparisons as there are
different sets of taints in the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


class TaintToleration:
    name = "TaintToleration"
    filter_reach = Reach.NOTHING
    score_reach = Reach.NOTHING

    def filter(self, shape: Shape, nodes: NodeTable, state: State) -> Mask | None:
        fits = np.array([_fits(shape, taints) for taints in nodes.taint_sets], np.bool_)
        if fits.all():
            return None
        mask: Mask = fits[nodes.taint_set[: nodes.size]]
        return mask

    def filter_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> bool:
        return _fits(shape, nodes.at(row).taints)

    def explain(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> Status:
        return unresolvable("node(s) had untolerated taint(s)")

    def pre_score(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> bool:
        counts = [_intolerable(shape, taints) for taints in nodes.taint_sets]
        state["score"] = np.array(counts, np.int64)
        return any(counts)

    def score(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> Scores:
        found: Scores = state["score"][nodes.taint_set[: nodes.size]]
        return found

    def score_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> int:
        raise AssertionError("a placement changes no taint")

    def normalize(self, scores: Scores, feasible: Mask) -> Scores:
        return default_normalize(scores, feasible, reverse=True)

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        if event.resource != "Node" or event.new is None:
            return False
        if event.action not in ("Add", "TaintChange"):
            return False
        return _fits(shape, (event.new.get("spec") or {}).get("taints") or ())


def tolerates(tolerations: Iterable[Mapping[str, Any]], taint: Mapping[str, Any]) -> bool:
    """Whether any of the tolerations covers the taint."""
    return any(_covers(toleration, taint) for toleration in tolerations)


def _covers(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    effect = toleration.get("effect")
    if effect and effect != taint.get("effect"):
        return False
    key = toleration.get("key")
    if key and key != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    if not key or operator != "Equal":
        return False
    return bool((toleration.get("value") or "") == (taint.get("value") or ""))


def _fits(shape: Shape, taints: Iterable[Mapping[str, Any]]) -> bool:
    return all(
        tolerates(shape.tolerations, taint)
        for taint in taints
        if taint.get("effect") in ("NoSchedule", "NoExecute")
    )


def _intolerable(shape: Shape, taints: Iterable[Mapping[str, Any]]) -> int:
    soft = [t for t in shape.tolerations if t.get("effect") in (None, "", "PreferNoSchedule")]
    return sum(
        1
        for taint in taints
        if taint.get("effect") == "PreferNoSchedule" and not tolerates(soft, taint)
    )
