"""The next step of a StatefulSet: pods as observed in, status and effects out
(stateful_set_control.go)."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.api.meta import Object
from cluster.controllers.controllerrevisions import revision_template
from cluster.controllers.podindex import is_ready
from cluster.controllers.podtemplate import available_in
from cluster.controllers.statefulset.identity import make_pod, ordinal_of, revision_of


@dataclass(frozen=True, slots=True)
class CreatePod:
    """Create the pod of an ordinal, its claims first."""

    pod: Object
    ordinal: int


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete a pod that is too many, of an old revision, or ended."""

    pod: Object


@dataclass(slots=True)
class Plan:
    """What to do, what to write as status, and when to look again (None: at the next event)."""

    status: Object
    effects: list[CreatePod | DeletePod] = field(default_factory=list)
    again: float | None = None


@dataclass(frozen=True, slots=True)
class Revisions:
    """The revision that was rolled out and the one that is wanted."""

    current: Object
    update: Object

    @property
    def current_name(self) -> str:
        return str(self.current["metadata"]["name"])

    @property
    def update_name(self) -> str:
        return str(self.update["metadata"]["name"])


def plan_stateful_set(owner: Object, pods: list[Object], revisions: Revisions, now: float) -> Plan:
    """One step. OrderedReady takes one pod at a time, Parallel all that are missing or too many."""
    turn = _Turn(owner, pods, revisions, now)
    plan = Plan(turn.status())
    if "deletionTimestamp" not in owner["metadata"]:
        turn.advance(plan)
    _complete_rollout(owner, plan.status, revisions)
    return plan


class _Turn:
    """Pods of one StatefulSet by ordinal."""

    def __init__(self, owner: Object, pods: list[Object], revisions: Revisions, now: float) -> None:
        self._owner, self._pods, self._revisions, self._now = owner, pods, revisions, now
        spec = owner["spec"]
        self._start = int((spec.get("ordinals") or {}).get("start", 0))
        self._count = int(spec.get("replicas", 1))
        self._ordered = spec.get("podManagementPolicy", "OrderedReady") != "Parallel"
        self._min_ready = int(spec.get("minReadySeconds", 0))
        strategy = spec.get("updateStrategy") or {}
        self._rolling = strategy.get("type", "RollingUpdate") == "RollingUpdate"
        self._partition = int((strategy.get("rollingUpdate") or {}).get("partition", 0))
        wanted = range(self._start, self._start + self._count)
        by_ordinal = {ordinal_of(owner, p["metadata"]["name"]): p for p in pods}
        self._replicas: dict[int, Object | None] = {o: by_ordinal.get(o) for o in wanted}
        self._condemned = [by_ordinal[o] for o in sorted(by_ordinal) if o >= 0 and o not in wanted]
        self._again: float | None = None

    def status(self) -> Object:
        old = self._owner.get("status") or {}
        created = [p for p in self._pods if (p.get("status") or {}).get("phase")]
        alive = [p for p in created if not _terminating(p)]
        status: Object = {
            "observedGeneration": self._owner["metadata"].get("generation", 0),
            "replicas": len(created),
            "readyReplicas": sum(_ready(p) for p in created),
            "currentReplicas": sum(revision_of(p) == self._revisions.current_name for p in alive),
            "updatedReplicas": sum(revision_of(p) == self._revisions.update_name for p in alive),
            "availableReplicas": sum(_ready(p) and self._available(p) for p in created),
            "currentRevision": self._revisions.current_name,
            "updateRevision": self._revisions.update_name,
            "collisionCount": int(old.get("collisionCount") or 0),
        }
        if old.get("conditions"):
            status["conditions"] = old["conditions"]
        return status

    def advance(self, plan: Plan) -> None:
        if self._fill(plan) and self._shrink(plan):
            self._update(plan)
        plan.again = self._again

    def _fill(self, plan: Plan) -> bool:
        """Make the missing pods. False: wait before anything else."""
        for ordinal, pod in self._replicas.items():
            if pod is None:
                plan.effects.append(CreatePod(self._new(ordinal), ordinal))
                if self._ordered:
                    return False
                continue
            if (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
                if not _terminating(pod):
                    plan.effects.append(DeletePod(pod))
                return False
            if self._ordered and (_terminating(pod) or not _ready(pod) or not self._available(pod)):
                return False
        return not plan.effects

    def _shrink(self, plan: Plan) -> bool:
        """Delete pods beyond the wanted ordinals, highest first. False: wait."""
        every = [*(p for p in self._replicas.values() if p is not None), *self._condemned]
        first_unhealthy = next((p for p in every if not _healthy(p)), None)
        for pod in reversed(self._condemned):
            if _terminating(pod):
                if self._ordered:
                    return False
                continue
            if self._ordered and not _ready(pod) and pod is not first_unhealthy:
                return False
            plan.effects.append(DeletePod(pod))
            if self._ordered:
                return False
        return not plan.effects

    def _update(self, plan: Plan) -> None:
        """Roll to the wanted revision from the highest ordinal down, one pod at a time."""
        if not self._rolling:
            return
        for ordinal in sorted(self._replicas, reverse=True):
            pod = self._replicas[ordinal]
            if ordinal < self._partition or pod is None:
                return
            if revision_of(pod) != self._revisions.update_name and not _terminating(pod):
                plan.effects.append(DeletePod(pod))
                return
            if not _healthy(pod) or not self._available(pod):
                return

    def _new(self, ordinal: int) -> Object:
        revision = (
            self._revisions.current if self._needs_current(ordinal) else self._revisions.update
        )
        template = revision_template(revision)
        return make_pod(self._owner, template, revision["metadata"]["name"], ordinal)

    def _needs_current(self, ordinal: int) -> bool:
        """During a rollout, ordinals it has not come to yet are made of the old revision."""
        if not self._rolling:
            return False
        if self._partition:
            return ordinal < self._partition
        if self._revisions.current_name == self._revisions.update_name:
            return False
        return ordinal < self._start + int(
            (self._owner.get("status") or {}).get("currentReplicas", 0)
        )

    def _available(self, pod: Object) -> bool:
        wait = available_in(pod, self._min_ready, self._now)
        if wait:
            self._again = min(self._again or wait, wait)
        return wait == 0.0


def _terminating(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _ready(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") == "Running" and is_ready(pod)


def _healthy(pod: Object) -> bool:
    return _ready(pod) and not _terminating(pod)


def _complete_rollout(owner: Object, status: Object, revisions: Revisions) -> None:
    """All pods updated and ready: the wanted revision is current (completeRollingUpdate)."""
    rolling = (owner["spec"].get("updateStrategy") or {}).get(
        "type", "RollingUpdate"
    ) == "RollingUpdate"
    done = status["updatedReplicas"] == status["replicas"] == status["readyReplicas"]
    if rolling and done and status["replicas"] == int(owner["spec"].get("replicas", 1)):
        status["currentReplicas"] = status["updatedReplicas"]
        status["currentRevision"] = revisions.update_name
