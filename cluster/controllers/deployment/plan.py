"""One turn of a Deployment: its ReplicaSets as observed in, effects out. Nothing here waits or does
anything.

Plays deployment_controller.syncDeployment, sync.go and recreate.go. The plan works on its own
picture of the ReplicaSets: what an effect will change is changed there at once, so that the status
it ends with is the one after the effects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.api.meta import Object
from cluster.controllers.conditions import drop_zeros, find_condition, set_condition
from cluster.controllers.deployment import revisions, rollout, status
from cluster.controllers.deployment.sizes import (
    is_rolling,
    new_set_size,
    replicas_of,
    status_number,
    status_sum,
)


@dataclass(frozen=True, slots=True)
class CreateSet:
    """Create this ReplicaSet."""

    replica_set: Object


@dataclass(frozen=True, slots=True)
class UpdateSet:
    """Write this ReplicaSet (size, annotations or minReadySeconds)."""

    replica_set: Object


@dataclass(frozen=True, slots=True)
class DeleteSet:
    """Delete an old, empty ReplicaSet."""

    replica_set: Object


@dataclass(frozen=True, slots=True)
class Report:
    """An Event about the Deployment."""

    kind: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """Write the Deployment's status and revision annotation."""

    deployment: Object


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Plan again after so many seconds even if nothing happens."""

    seconds: float


Effect = CreateSet | UpdateSet | DeleteSet | Report | WriteStatus | LookAgain


def plan_deployment(
    deployment: Object,
    replica_sets: list[Object],
    pods_running: Callable[[Object], bool],
    now: float,
    *,
    count_terminating: bool = True,
) -> list[Effect]:
    """What to do for `deployment`, whose ReplicaSets are `replica_sets`.

    `pods_running(replica_set)`: does it still have a pod that has not ended (Recreate waits for
    that)?
    """
    turn = _Turn(deployment, list(replica_sets), now, count_terminating)
    if "deletionTimestamp" in deployment["metadata"]:
        turn.find_new(create=False)
        turn.write_status(deadline=False)
        return turn.effects
    turn.mark_paused()
    if deployment["spec"].get("paused") or turn.is_scaling_event():
        turn.find_new(create=False)
        turn.scale()
        if deployment["spec"].get("paused"):
            turn.clean_up()
        turn.write_status(deadline=False)
    elif is_rolling(deployment):
        turn.roll()
    else:
        turn.recreate(pods_running)
    return turn.effects


@dataclass(slots=True)
class _Turn:
    """The picture that one plan works on."""

    deployment: Object
    sets: list[Object]
    now: float
    count_terminating: bool
    effects: list[Effect] = field(default_factory=list)
    new_set: Object | None = None
    changed: bool = False  # the Deployment's conditions or annotations were changed here

    @property
    def old_sets(self) -> list[Object]:
        if self.new_set is None:
            return list(self.sets)
        uid = _identity(self.new_set)
        return [s for s in self.sets if _identity(s) != uid]

    # -- strategies

    def roll(self) -> None:
        self.find_new(create=True)
        assert self.new_set is not None
        size = rollout.plan_new_size(self.deployment, self.sets, self.new_set)
        if size is not None:
            self.resize(self.new_set, size)
        else:
            shrunk = rollout.plan_old_sizes(self.deployment, self.old_sets, self.new_set)
            for replica_set, smaller in shrunk:
                self.resize(replica_set, smaller)
            if not shrunk and status.is_complete(
                self.deployment, self.deployment.get("status") or {}
            ):
                self.clean_up()
        self.write_status(deadline=True)

    def recreate(self, pods_running: Callable[[Object], bool]) -> None:
        self.find_new(create=False)
        active = [s for s in self.old_sets if replicas_of(s) > 0]
        for replica_set in active:
            self.resize(replica_set, 0)
        waits = status_sum(self.old_sets, "replicas") > 0 or any(
            pods_running(s) for s in self.old_sets
        )
        if not active and not waits:
            if self.new_set is None:
                self.find_new(create=True)
            assert self.new_set is not None
            if replicas_of(self.new_set) != replicas_of(self.deployment):
                self.resize(self.new_set, replicas_of(self.deployment))
            if status.is_complete(self.deployment, self.deployment.get("status") or {}):
                self.clean_up()
        self.write_status(deadline=True)

    # -- steps

    def mark_paused(self) -> None:
        """Note in Progressing that the rollout was paused or resumed (checkPausedConditions)."""
        if not status.has_deadline(self.deployment):
            return
        held = find_condition(
            (self.deployment.get("status") or {}).get("conditions"), "Progressing"
        )
        if held is not None and held.get("reason") == status.TIMED_OUT:
            return
        noted = held is not None and held.get("reason") == "DeploymentPaused"
        paused = bool(self.deployment["spec"].get("paused"))
        if paused and not noted:
            self.set_progress("Unknown", "DeploymentPaused", "Deployment is paused")
        elif not paused and noted:
            self.set_progress("Unknown", "DeploymentResumed", "Deployment is resumed")

    def is_scaling_event(self) -> bool:
        """Did spec.replicas change since the ReplicaSets were last sized?"""
        desired = replicas_of(self.deployment)
        noted = [revisions.desired_annotation(s) for s in self.sets if replicas_of(s) > 0]
        return any(n is not None and n != desired for n in noted)

    def find_new(self, *, create: bool) -> None:
        """Find (or create) the ReplicaSet of the wanted template; keep its number and ours up to
        date."""
        found = revisions.find_new(self.deployment, self.sets)
        others = [s for s in self.sets if found is None or _identity(s) != _identity(found)]
        revision = revisions.max_revision(others) + 1
        if found is not None:
            current = revisions.renumbered(self.deployment, found, revision)
            if current is not found:
                self.replace(found, current)
                self.effects.append(UpdateSet(current))
            self.new_set = current
            self.number_deployment(revisions.revision_of(current))
            if self.needs_first_progress():
                name = current["metadata"]["name"]
                self.set_progress("True", "FoundNewReplicaSet", f'Found new replica set "{name}"')
        elif create:
            self.create_set(revision)

    def create_set(self, revision: int) -> None:
        size = new_set_size(self.deployment, self.sets, 0)
        wanted = revisions.new_replica_set(self.deployment, size, revision)
        self.effects.append(CreateSet(wanted))
        name = wanted["metadata"]["name"]
        if size > 0:
            message = f"Scaled up replica set {name} from 0 to {size}"
            self.effects.append(Report("Normal", "ScalingReplicaSet", message))
        self.sets.append(wanted)
        self.new_set = wanted
        self.number_deployment(revision)
        if status.has_deadline(self.deployment):
            self.set_progress("True", "NewReplicaSetCreated", f'Created new replica set "{name}"')

    def needs_first_progress(self) -> bool:
        held = find_condition(
            (self.deployment.get("status") or {}).get("conditions"), "Progressing"
        )
        return held is None and status.has_deadline(self.deployment)

    def scale(self) -> None:
        """Resize without rolling: the active ReplicaSet, or all of them in proportion."""
        for replica_set, size in rollout.plan_scaling(self.deployment, self.old_sets, self.new_set):
            self.resize(replica_set, size)

    def resize(self, replica_set: Object, size: int) -> None:
        """Set a ReplicaSet's size and replicas annotations; tell of another size."""
        before = replicas_of(replica_set)
        current = revisions.resized(self.deployment, replica_set, size)
        if current == replica_set:
            return
        self.replace(replica_set, current)
        self.effects.append(UpdateSet(current))
        if before != size:
            way = "up" if before < size else "down"
            name = current["metadata"]["name"]
            message = f"Scaled {way} replica set {name} from {before} to {size}"
            self.effects.append(Report("Normal", "ScalingReplicaSet", message))

    def clean_up(self) -> None:
        """Delete the oldest empty ReplicaSets beyond revisionHistoryLimit."""
        limit = self.deployment["spec"].get("revisionHistoryLimit")
        if limit is None or limit == status.NO_DEADLINE:
            return
        alive = [s for s in self.old_sets if "deletionTimestamp" not in s["metadata"]]
        surplus = len(alive) - int(limit)
        if surplus <= 0:
            return
        alive.sort(key=lambda s: (revisions.revision_of(s), revisions.by_creation(s)))
        for replica_set in alive[:surplus]:
            unseen = replica_set["metadata"].get("generation", 0) > status_number(
                replica_set, "observedGeneration"
            )
            if (
                not status_number(replica_set, "replicas")
                and not replicas_of(replica_set)
                and not unseen
            ):
                self.effects.append(DeleteSet(replica_set))

    def write_status(self, *, deadline: bool) -> None:
        """End the turn: write the status if it differs, ask for the next look at the deadline."""
        make = status.rollout_status if deadline else status.calculate_status
        wanted = make(
            self.deployment,
            self.sets,
            self.new_set,
            self.now,
            count_terminating=self.count_terminating,
        )
        old = self.deployment.get("status") or {}
        if self.changed or drop_zeros(old) != drop_zeros(wanted):
            self.effects.append(WriteStatus({**self.deployment, "status": wanted}))
        if deadline:
            again = status.progress_check_in(self.deployment, wanted, self.now)
            if again is not None:
                self.effects.append(LookAgain(again))

    # -- the picture

    def replace(self, old: Object, new: Object) -> None:
        self.sets = [new if s is old else s for s in self.sets]
        if self.new_set is old:
            self.new_set = new

    def number_deployment(self, revision: int) -> None:
        meta = self.deployment["metadata"]
        annotations = meta.get("annotations") or {}
        if annotations.get(revisions.REVISION) == str(revision):
            return
        annotations = {**annotations, revisions.REVISION: str(revision)}
        self.deployment = {**self.deployment, "metadata": {**meta, "annotations": annotations}}
        self.changed = True

    def set_progress(self, verdict: str, reason: str, message: str) -> None:
        old = self.deployment.get("status") or {}
        wanted = status.condition("Progressing", verdict, reason, message, self.now)
        conditions = set_condition(old.get("conditions"), wanted)
        self.deployment = {**self.deployment, "status": {**old, "conditions": conditions}}
        self.changed = True


def _identity(replica_set: Object) -> str:
    meta = replica_set["metadata"]
    return str(meta.get("uid") or meta["name"])
