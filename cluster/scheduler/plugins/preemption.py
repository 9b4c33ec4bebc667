"""DefaultPreemption: make room by removing pods of lower priority.

Plays pkg/scheduler/framework/plugins/defaultpreemption and framework/preemption. Victims are the
fewest by upstream's rules: all lower-priority pods are taken away in mind, then given back, the
most important first, as long as the pod still fits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.api.meta import Object
from cluster.api.selectors import LabelSelector
from cluster.scheduler.cache import NodeTable, PodInfo
from cluster.scheduler.events import ClusterEvent
from cluster.scheduler.framework import Code, Diagnosis, PostFilterResult, Status, unresolvable
from cluster.scheduler.profile import Run
from cluster.scheduler.shape import Shape

NO_VICTIMS = "No preemption victims found for incoming pod"
NOT_HELPFUL = "Preemption is not helpful for scheduling"
MIN_CANDIDATES, MIN_PERCENTAGE = 100, 10

RunOf = Callable[[Shape], Run]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node and whom to remove from it, the most important first."""

    row: int
    victims: tuple[PodInfo, ...]
    violations: int


class DefaultPreemption:
    name = "DefaultPreemption"

    def __init__(
        self, run_of: RunOf, budgets: Callable[[], Iterable[Object]], rng: random.Random
    ) -> None:
        self._run_of = run_of
        self._budgets = budgets
        self._rng = rng

    def post_filter(self, pod: PodInfo, nodes: NodeTable, diagnosis: Diagnosis) -> PostFilterResult:
        refusal = self._refusal(pod, nodes, diagnosis)
        if refusal:
            return PostFilterResult(f"preemption: {refusal}")
        potential = [
            row
            for row in nodes.live_rows()
            if (status := diagnosis.status_of(row)) is not None
            and status.code is Code.UNSCHEDULABLE
        ]
        candidates, statuses = self._candidates(pod, nodes, potential)
        if not candidates:
            verdict = Diagnosis(nodes.count, statuses, unresolvable(NOT_HELPFUL))
            return PostFilterResult(f"preemption: {verdict.message()}", nominated_node="")
        best = pick_candidate(candidates)
        return PostFilterResult("", nodes.name_of(best.row), best.victims)

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        return event.resource == "AssignedPod" and event.action == "Delete"

    def _refusal(self, pod: PodInfo, nodes: NodeTable, diagnosis: Diagnosis) -> str:
        if pod.shape.preemption_policy == "Never":
            return "not eligible due to preemptionPolicy=Never."
        nominated = (pod.obj.get("status") or {}).get("nominatedNodeName")
        row = nodes.row_of(nominated) if nominated else None
        if row is None:
            return ""
        status = diagnosis.status_of(row)
        if status is not None and status.code is Code.UNSCHEDULABLE_AND_UNRESOLVABLE:
            return ""
        for other in nodes.at(row).pods.values():
            if other.priority < pod.priority and _terminating_by_preemption(other.obj):
                return "not eligible due to a terminating pod on the nominated node."
        return ""

    def _candidates(
        self, pod: PodInfo, nodes: NodeTable, potential: Sequence[int]
    ) -> tuple[list[Candidate], dict[int, Status]]:
        statuses: dict[int, Status] = {}
        candidates: list[Candidate] = []
        if not potential:
            return candidates, statuses
        wanted = max(MIN_CANDIDATES, len(potential) * MIN_PERCENTAGE // 100)
        offset = self._rng.randrange(len(potential))
        budgets = [*self._budgets()]
        run = None
        for place in range(len(potential)):
            row = potential[(offset + place) % len(potential)]
            lower = [p for p in nodes.at(row).pods.values() if p.priority < pod.priority]
            if not lower:
                statuses[row] = Status(Code.UNSCHEDULABLE_AND_UNRESOLVABLE, (NO_VICTIMS,))
                continue
            run = run or self._run_of(pod.shape)
            found = self._victims(run, nodes, row, lower, budgets)
            if isinstance(found, Status):
                statuses[row] = found
            else:
                candidates.append(found)
                if len(candidates) >= wanted:
                    break
        return candidates, statuses

    def _victims(
        self,
        run: Run,
        nodes: NodeTable,
        row: int,
        lower: Sequence[PodInfo],
        budgets: Sequence[Object],
    ) -> Candidate | Status:
        """Dry run on the real table, undone before returning."""
        node = nodes.name_of(row)
        removed: list[PodInfo] = []
        try:
            for pod in lower:
                nodes.remove_pod(pod)
                removed.append(pod)
            refused = run.fits_row(row)
            if refused is not None:
                return refused.explain(run.shape, nodes, run.state(refused.name), row)
            violating, harmless = split_by_budgets(sorted(lower, key=importance), budgets)
            victims: list[PodInfo] = []
            violations = 0
            for pods, counts in ((violating, 1), (harmless, 0)):
                for pod in pods:
                    nodes.add_pod(pod, node)
                    if run.fits_row(row) is None:
                        removed.remove(pod)
                    else:
                        nodes.remove_pod(pod)
                        victims.append(pod)
                        violations += counts
            victims.sort(key=importance)
            if not victims:
                return Status(Code.UNSCHEDULABLE_AND_UNRESOLVABLE, (NO_VICTIMS,))
            return Candidate(row, tuple(victims), violations)
        finally:
            for pod in removed:
                nodes.add_pod(pod, node)


def pick_candidate(candidates: Sequence[Candidate]) -> Candidate:
    """Fewest budget violations; least important first victim; least sum of priorities; fewest pods;
    the one whose most important victims started last."""

    def rank(candidate: Candidate) -> tuple[float, ...]:
        victims = candidate.victims
        highest = victims[0].priority
        started = min(_started(p) for p in victims if p.priority == highest)
        total = sum(p.priority + 2**31 for p in victims)
        return (candidate.violations, highest, total, len(victims), _reversed(started))

    return min(candidates, key=rank)


def importance(pod: PodInfo) -> tuple[float, str]:
    """Sort key, the most important first: higher priority, then the one that started earlier."""
    return (-pod.priority, _started(pod))


def split_by_budgets(
    pods: Iterable[PodInfo], budgets: Sequence[Object]
) -> tuple[list[PodInfo], list[PodInfo]]:
    """(pods whose removal breaks a PodDisruptionBudget, the others), order kept."""
    allowed = [int((b.get("status") or {}).get("disruptionsAllowed") or 0) for b in budgets]
    violating: list[PodInfo] = []
    harmless: list[PodInfo] = []
    for pod in pods:
        breaks = False
        for place, budget in enumerate(budgets):
            if not _covers(budget, pod):
                continue
            disrupted = (budget.get("status") or {}).get("disruptedPods") or {}
            if pod.name in disrupted:
                continue
            allowed[place] -= 1
            breaks = breaks or allowed[place] < 0
        (violating if breaks else harmless).append(pod)
    return violating, harmless


def _covers(budget: Mapping[str, Any], pod: PodInfo) -> bool:
    if budget["metadata"].get("namespace") != pod.namespace:
        return False
    selector = (budget.get("spec") or {}).get("selector")
    if not selector or not pod.shape.labels:
        return False
    return LabelSelector.from_dict(selector).matches(pod.shape.labels)


def _terminating_by_preemption(obj: Mapping[str, Any]) -> bool:
    if not obj["metadata"].get("deletionTimestamp"):
        return False
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "DisruptionTarget":
            return bool(
                condition.get("status") == "True"
                and condition.get("reason") == "PreemptionByScheduler"
            )
    return False


def _started(pod: PodInfo) -> str:
    """RFC 3339 sorts as text; a pod that has not started yet counts as starting now."""
    return str((pod.obj.get("status") or {}).get("startTime") or "9999")


def _reversed(text: str) -> float:
    """A number that falls as the text rises."""
    return -float(int.from_bytes(text.encode()[:24].ljust(24, b"\0"), "big"))
