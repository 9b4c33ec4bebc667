"""NodeResourcesFit and NodeResourcesBalancedAllocation: does it fit, and where does it fit best.

Plays pkg/scheduler/framework/plugins/noderesources with upstream's integer arithmetic, so that
scores are equal to the point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cluster.scheduler.cache import CPU, MEMORY, PODS, NodeTable
from cluster.scheduler.events import ClusterEvent
from cluster.scheduler.framework import (
    MAX_NODE_SCORE,
    Code,
    Mask,
    Reach,
    Scores,
    State,
    Status,
)
from cluster.scheduler.shape import Shape, pod_requests

DEFAULT_RESOURCES: Mapping[str, int] = {"cpu": 1, "memory": 1}
MAX_UTILIZATION = 100


@dataclass(frozen=True, slots=True)
class Strategy:
    """NodeResourcesFitArgs.scoringStrategy. `points` is (utilization, score 0..10), ascending."""

    type: str = "LeastAllocated"
    resources: tuple[tuple[str, int], ...] = tuple(DEFAULT_RESOURCES.items())
    points: tuple[tuple[int, int], ...] = ()


class Fit:
    """NodeResourcesFit."""

    name = "NodeResourcesFit"
    filter_reach = Reach.ROW
    score_reach = Reach.ROW

    def __init__(
        self,
        strategy: Strategy | None = None,
        ignored: Sequence[str] = (),
        ignored_groups: Sequence[str] = (),
        nodes: NodeTable | None = None,
    ) -> None:
        """`nodes`: lets the hint look whether a node that a pod left has room now."""
        self._nodes = nodes
        self._strategy = strategy or Strategy()
        self._ignored = frozenset(ignored)
        self._ignored_groups = frozenset(ignored_groups)

    def filter(self, shape: Shape, nodes: NodeTable, state: State) -> Mask | None:
        size = nodes.size
        amounts = self._amounts(shape, nodes)
        state[self.name] = amounts
        allocatable, requested = nodes.allocatable, nodes.requested
        mask: Mask = allocatable[PODS, :size] > requested[PODS, :size]
        for index, amount in amounts:
            mask &= (allocatable[index, :size] - requested[index, :size]) >= amount
        return mask

    def filter_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> bool:
        allocatable, requested = nodes.allocatable, nodes.requested
        if allocatable[PODS, row] <= requested[PODS, row]:
            return False
        return all(
            allocatable[index, row] - requested[index, row] >= amount
            for index, amount in state[self.name]
        )

    def explain(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> Status:
        reasons = []
        code = Code.UNSCHEDULABLE
        if nodes.requested[PODS, row] + 1 > nodes.allocatable[PODS, row]:
            reasons.append("Too many pods")
        amounts = sorted(self._amounts(shape, nodes))
        names = nodes.resource_names()
        for index, amount in amounts:
            total = int(nodes.allocatable[index, row])
            if amount > total - int(nodes.requested[index, row]):
                reasons.append(f"Insufficient {names[index]}")
                if amount > total:
                    code = Code.UNSCHEDULABLE_AND_UNRESOLVABLE
        return Status(code, tuple(reasons))

    def pre_score(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> bool:
        state["score"] = self._score_columns(shape, nodes)
        return True

    def score(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> Scores:
        size = nodes.size
        total = np.zeros(size, np.int64)
        weights = np.zeros(size, np.int64)
        for table, need, index, weight in state["score"]:
            capacity = nodes.allocatable[index, :size]
            used = (nodes.nonzero if table else nodes.requested)[
                index if not table else table - 1, :size
            ] + need
            total += weight * self._resource_scores(used, capacity)
            weights += weight * (capacity != 0)
        if self._strategy.type == "RequestedToCapacityRatio":
            return np.where(weights > 0, _round_divide(total, np.maximum(weights, 1)), 0)
        return np.where(weights > 0, total // np.maximum(weights, 1), 0)

    def score_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> int:
        total = weights = 0
        for table, need, index, weight in state["score"]:
            capacity = int(nodes.allocatable[index, row])
            if capacity == 0:
                continue
            used = int(nodes.nonzero[table - 1, row] if table else nodes.requested[index, row])
            total += weight * self._resource_score(used + need, capacity)
            weights += weight
        if not weights:
            return 0
        if self._strategy.type == "RequestedToCapacityRatio":
            return (2 * total + weights) // (2 * weights)
        return total // weights

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        if event.resource == "AssignedPod":
            return _frees(event, shape) and self._has_room(event, shape)
        if event.resource != "Node" or event.new is None:
            return False
        if event.action not in ("Add", "AllocatableChange"):
            return False
        allocatable = (event.new.get("status") or {}).get("allocatable") or {}
        found = pod_requests({"overhead": allocatable})
        return all(found.get(n, 0) >= a for n, a in shape.requests.items())

    def _has_room(self, event: ClusterEvent, shape: Shape) -> bool:
        nodes, pod = self._nodes, event.new or event.old
        if nodes is None or pod is None:
            return True
        row = nodes.row_of(pod["spec"].get("nodeName", ""))
        if row is None:
            return True
        if self.filter_row(shape, nodes, {self.name: self._amounts(shape, nodes)}, row):
            return True
        # With what was freed, preemption may succeed where it did not before.
        return any(other.priority < shape.priority for other in nodes.at(row).pods.values())

    def _amounts(self, shape: Shape, nodes: NodeTable) -> list[tuple[int, int]]:
        amounts = nodes.amounts(shape)  # may add a column: its name exists only afterwards
        names = nodes.resource_names()
        return [
            (index, amount)
            for index, amount in amounts
            if index != PODS and not self._ignores(names[index])
        ]

    def _ignores(self, resource: str) -> bool:
        group, slash, _ = resource.partition("/")
        return resource in self._ignored or bool(slash and group in self._ignored_groups)

    def _score_columns(self, shape: Shape, nodes: NodeTable) -> list[tuple[int, int, int, int]]:
        """(1 + row of nonzero, or 0 for requested; need of the pod; resource index; weight)."""
        columns = []
        for name, weight in self._strategy.resources:
            index = nodes.resources.get(name)
            if index == CPU:
                columns.append((1, shape.nonzero_milli_cpu, CPU, weight))
            elif index == MEMORY:
                columns.append((2, shape.nonzero_memory_bytes, MEMORY, weight))
            elif index is not None and (shape.requests.get(name) or "/" not in name):
                columns.append((0, shape.requests.get(name, 0), index, weight))
        return columns

    def _resource_scores(self, used: Scores, capacity: Scores) -> Scores:
        safe = np.maximum(capacity, 1)
        if self._strategy.type == "LeastAllocated":
            found = (capacity - used) * MAX_NODE_SCORE // safe
            return np.where((capacity > 0) & (used <= capacity), found, 0)
        if self._strategy.type == "MostAllocated":
            found = np.minimum(used, capacity) * MAX_NODE_SCORE // safe
            return np.where(capacity > 0, found, 0)
        full = np.where(used > capacity, MAX_UTILIZATION, used * MAX_UTILIZATION // safe)
        levels = np.array(self._shape_levels(), np.int64)
        return np.where(capacity > 0, levels[np.clip(full, 0, MAX_UTILIZATION)], 0)

    def _resource_score(self, used: int, capacity: int) -> int:
        if self._strategy.type == "LeastAllocated":
            return 0 if used > capacity else (capacity - used) * MAX_NODE_SCORE // capacity
        if self._strategy.type == "MostAllocated":
            return min(used, capacity) * MAX_NODE_SCORE // capacity
        full = MAX_UTILIZATION if used > capacity else used * MAX_UTILIZATION // capacity
        return self._shape_levels()[full]

    def _shape_levels(self) -> list[int]:
        """The broken linear function of RequestedToCapacityRatio at 0..100 percent."""
        points = [(u, s * (MAX_NODE_SCORE // 10)) for u, s in self._strategy.points]
        levels = []
        for percent in range(MAX_UTILIZATION + 1):
            for place, (utilization, score) in enumerate(points):
                if percent <= utilization:
                    if place == 0:
                        levels.append(points[0][1])
                    else:
                        before_u, before_s = points[place - 1]
                        rise = (score - before_s) * (percent - before_u)
                        step = int(rise / (utilization - before_u))
                        levels.append(before_s + step)
                    break
            else:
                levels.append(points[-1][1] if points else 0)
        return levels


class BalancedAllocation:
    """NodeResourcesBalancedAllocation: prefers a node that the pod brings into balance."""

    name = "NodeResourcesBalancedAllocation"
    score_reach = Reach.ROW

    def __init__(self, resources: Sequence[tuple[str, int]] = tuple(DEFAULT_RESOURCES.items())):
        self._resources = tuple(resources)

    def pre_score(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> bool:
        columns = [
            (nodes.resources[name], shape.requests.get(name, 0))
            for name, _ in self._resources
            if name in nodes.resources and (shape.requests.get(name) or "/" not in name)
        ]
        state["score"] = columns
        return any(need for _, need in columns)

    def score(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> Scores:
        columns = state["score"]
        size = nodes.size
        capacity = np.array([nodes.allocatable[i, :size] for i, _ in columns], np.float64)
        used = np.array([nodes.requested[i, :size] for i, _ in columns], np.float64)
        need = np.array([[n] for _, n in columns], np.float64)
        without = _balance(used, capacity)
        with_pod = _balance(used + need, capacity)
        half = MAX_NODE_SCORE // 2
        return half + (half + with_pod - without) // 2

    def score_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> int:
        fractions: list[float] = []
        before: list[float] = []
        for index, need in state["score"]:
            capacity = int(nodes.allocatable[index, row])
            if capacity:
                used = int(nodes.requested[index, row])
                fractions.append(min(1.0, (used + need) / capacity))
                before.append(min(1.0, used / capacity))
        half = MAX_NODE_SCORE // 2
        return half + (half + _balance_of(fractions) - _balance_of(before)) // 2

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        return False


def _balance(used: np.ndarray, capacity: np.ndarray) -> Scores:
    """balancedResourceScorer's (1 - standard deviation) * 100 for each column."""
    there = capacity > 0
    fractions = np.where(there, np.minimum(used / np.where(there, capacity, 1.0), 1.0), 0.0)
    amount = there.sum(axis=0)
    if len(fractions) == 2:
        deviation = np.where(amount == 2, np.abs((fractions[0] - fractions[1]) / 2), 0.0)
    else:
        mean = fractions.sum(axis=0) / np.maximum(amount, 1)
        squares = np.where(there, (fractions - mean) ** 2, 0.0).sum(axis=0)
        deviation = np.sqrt(squares / np.maximum(amount, 1))
        pair = amount == 2
        if pair.any():
            high = np.where(there, fractions, -np.inf).max(axis=0)
            low = np.where(there, fractions, np.inf).min(axis=0)
            deviation = np.where(pair, np.abs((high - low) / 2), deviation)
    found: Scores = ((1 - deviation) * MAX_NODE_SCORE).astype(np.int64)
    return found


def _balance_of(fractions: Sequence[float]) -> int:
    deviation = 0.0
    if len(fractions) == 2:
        deviation = abs((fractions[0] - fractions[1]) / 2)
    elif len(fractions) > 2:
        mean = sum(fractions) / len(fractions)
        deviation = (sum((f - mean) ** 2 for f in fractions) / len(fractions)) ** 0.5
    return int((1 - deviation) * MAX_NODE_SCORE)


def _round_divide(total: Scores, weights: Scores) -> Scores:
    """math.Round of a quotient that is not negative."""
    rounded: Scores = (2 * total + weights) // (2 * weights)
    return rounded


def _frees(event: ClusterEvent, shape: Shape) -> bool:
    """A pod went away, or came to want less of something that this shape wants."""
    if event.action == "Delete":
        return True
    if event.old is None or event.new is None:
        return False
    before, after = pod_requests(event.old["spec"]), pod_requests(event.new["spec"])
    return any(after.get(n, 0) < before.get(n, 0) for n in shape.requests)
