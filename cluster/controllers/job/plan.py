"""What a Job needs next: its pods as observed in, verdict, pods to make and to delete, and counts
out.

Plays syncJob, manageJob and trackJobStatusAndRemoveFinalizers of pkg/controller/job, as pure
functions. A finished pod is first noted by UID in status.uncountedTerminatedPods, then loses its
finalizer, then is counted: so a pod is counted once, whoever crashes when.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.api.meta import Object, parse_rfc3339
from cluster.controllers.conditions import find_condition
from cluster.controllers.job.pods import (
    format_indexes,
    index_of,
    is_indexed,
    is_tracked,
    parse_indexes,
)
from cluster.controllers.job.policies import (
    FAIL_JOB,
    IGNORE,
    failed_indexes,
    failures_by_index,
    match_failure,
    match_success,
)
from cluster.controllers.podindex import is_ready

BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 10.0, 600.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a Job ended: `condition` is Complete or Failed."""

    condition: str
    reason: str
    message: str


@dataclass(slots=True)
class Plan:
    """One step of a Job."""

    succeeded: list[Object] = field(default_factory=list)  # pods to note as such
    failed: list[Object] = field(default_factory=list)
    ignored: list[Object] = field(default_factory=list)  # failed, but not to be counted
    verdict: Verdict | None = None
    create: list[int | None] = field(default_factory=list)  # indexes, or None for each pod without
    delete: list[Object] = field(default_factory=list)
    active: int = 0
    ready: int = 0
    terminating: int = 0
    completed_indexes: str = ""
    failed_indexes: str | None = None  # None: not kept (no backoffLimitPerIndex)
    failures: dict[int, int] = field(default_factory=dict)  # by index, for the pods to make
    again: float | None = None


def is_finished(job: Object) -> bool:
    conditions = (job.get("status") or {}).get("conditions")
    return any(
        (c := find_condition(conditions, kind)) is not None and c["status"] == "True"
        for kind in ("Complete", "Failed")
    )


def plan_job(job: Object, pods: list[Object], now: float, burst: int = 500) -> Plan:
    """One step of a Job that is not finished."""
    turn = _Turn(job, pods, now, burst)
    turn.judge()
    turn.populate()
    return turn.plan


class _Turn:
    """Counts over a Job's pods, and the step they call for."""

    def __init__(self, job: Object, pods: list[Object], now: float, burst: int) -> None:
        self.plan = Plan()
        self._job, self._spec, self._now, self._burst = job, job["spec"], now, burst
        self._status = job.get("status") or {}
        uncounted = self._status.get("uncountedTerminatedPods") or {}
        noted = {*(uncounted.get("succeeded") or ()), *(uncounted.get("failed") or ())}
        self._active: list[Object] = []
        for pod in pods:
            phase = (pod.get("status") or {}).get("phase")
            deleting = "deletionTimestamp" in pod["metadata"]
            if phase not in ("Succeeded", "Failed") and not deleting:
                self._active.append(pod)
            elif deleting and phase not in ("Succeeded", "Failed"):
                self.plan.terminating += 1
            elif pod["metadata"]["uid"] not in noted and is_tracked(pod):
                self._end(pod, str(phase))
        self._succeeded = int(self._status.get("succeeded") or 0)
        self._succeeded += len(uncounted.get("succeeded") or ()) + len(self.plan.succeeded)
        self._failed = int(self._status.get("failed") or 0)
        self._failed += len(uncounted.get("failed") or ()) + len(self.plan.failed)
        self._last_failure = max(
            (_finished_at(p) for p in pods if _phase(p) == "Failed"), default=0.0
        )
        self._done: set[int] = set()
        if is_indexed(job):
            self._done = parse_indexes(self._status.get("completedIndexes") or "")
            self._done |= {index_of(p) for p in pods if _phase(p) == "Succeeded"} - {-1}
            self._succeeded = len(self._done)
            self.plan.completed_indexes = format_indexes(self._done)
        self._lost: set[int] = set()
        if self._spec.get("backoffLimitPerIndex") is not None:
            self.plan.failures = failures_by_index(job, pods)
            self._lost = failed_indexes(job, pods, self.plan.failures) - self._done
            self.plan.failed_indexes = format_indexes(self._lost)

    def _end(self, pod: Object, phase: str) -> None:
        """Sort a pod that has ended into those to count and those to ignore."""
        if phase == "Succeeded":
            self.plan.succeeded.append(pod)
            return
        match = match_failure(self._job, pod)
        if match.action == IGNORE:
            self.plan.ignored.append(pod)
            return
        self.plan.failed.append(pod)
        if match.action == FAIL_JOB and self.plan.verdict is None:
            self.plan.verdict = Verdict("Failed", "PodFailurePolicy", match.message)

    def judge(self) -> None:
        """Is it over?"""
        spec, plan = self._spec, self.plan
        if plan.verdict is None:
            plan.verdict = self._judge_indexes()
        if plan.verdict is not None:
            return
        completions = spec.get("completions")
        deadline, started = spec.get("activeDeadlineSeconds"), self._status.get("startTime")
        if self._failed > int(spec.get("backoffLimit", 6)):
            message = "Job has reached the specified backoff limit"
            plan.verdict = Verdict("Failed", "BackoffLimitExceeded", message)
        elif deadline is not None and started and not spec.get("suspend"):
            left = parse_rfc3339(started) + int(deadline) - self._now
            if left <= 0:
                message = "Job was active longer than specified deadline"
                plan.verdict = Verdict("Failed", "DeadlineExceeded", message)
            else:
                plan.again = left
        if plan.verdict is None:
            complete = self._succeeded > 0 and not self._active
            if completions is not None:
                complete = self._succeeded >= int(completions)
            if complete:
                message = "Reached expected number of succeeded pods"
                plan.verdict = Verdict("Complete", "CompletionsReached", message)

    def _judge_indexes(self) -> Verdict | None:
        """Rules about indexes: enough have succeeded, or too many have failed."""
        if not is_indexed(self._job):
            return None
        reason = match_success(self._job, self._done)
        if reason:
            return Verdict("Complete", "SuccessPolicy", reason)
        if not self._lost:
            return None
        limit = self._spec.get("maxFailedIndexes")
        if limit is not None and len(self._lost) > int(limit):
            message = "Job has exceeded the specified maximal number of failed indexes"
            return Verdict("Failed", "MaxFailedIndexesExceeded", message)
        if len(self._lost) + len(self._done) >= int(self._spec.get("completions") or 0):
            return Verdict("Failed", "FailedIndexes", "Job has failed indexes")
        return None

    def populate(self) -> None:
        """Make or delete pods."""
        plan = self.plan
        if plan.verdict is not None or self._spec.get("suspend"):
            plan.delete = list(self._active)
        else:
            wanted = self._wanted_active()
            surplus = len(self._active) - wanted
            if surplus > 0:
                plan.delete = sorted(self._active, key=_least_missed)[: min(surplus, self._burst)]
            elif surplus < 0 and not self._back_off():
                self._grow(-surplus)
        doomed = {p["metadata"]["uid"] for p in plan.delete}
        left = [p for p in self._active if p["metadata"]["uid"] not in doomed]
        plan.active = len(left)
        plan.ready = sum(is_ready(p) for p in left)

    def _wanted_active(self) -> int:
        parallelism = int(self._spec.get("parallelism", 1))
        completions = self._spec.get("completions")
        if completions is None:
            return len(self._active) if self._succeeded else parallelism
        return max(0, min(int(completions) - self._succeeded - len(self._lost), parallelism))

    def _back_off(self) -> bool:
        """Wait after a failure: 10 s, 20 s, 40 s, ... at most 6 minutes and more."""
        if not self._failed or not self._last_failure:
            return False
        delay = min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0 ** min(self._failed - 1, 20))
        left = self._last_failure + delay - self._now
        if left > 0:
            self.plan.again = min(self.plan.again or left, left)
        return left > 0

    def _grow(self, count: int) -> None:
        count = min(count, self._burst)
        if not is_indexed(self._job):
            self.plan.create = [None] * count
            return
        busy = {index_of(p) for p in self._active} | self._done | self._lost
        free = (i for i in range(int(self._spec.get("completions") or 0)) if i not in busy)
        self.plan.create = [i for i, _ in zip(free, range(count), strict=False)]


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "")


def _finished_at(pod: Object) -> float:
    """When its last container ended, else when it was last seen to change."""
    latest = 0.0
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = ((container.get("state") or {}).get("terminated") or {}).get("finishedAt")
        if ended:
            latest = max(latest, parse_rfc3339(ended))
    if latest:
        return latest
    ready = find_condition((pod.get("status") or {}).get("conditions"), "Ready")
    stamp = (ready or {}).get("lastTransitionTime") or pod["metadata"].get("creationTimestamp")
    return parse_rfc3339(stamp) if stamp else 0.0


def _least_missed(pod: Object) -> tuple[bool, int, bool, str]:
    phase = {"Pending": 0, "Unknown": 1, "Running": 2}.get(_phase(pod), 0)
    created = str(pod["metadata"].get("creationTimestamp", ""))
    return bool((pod.get("spec") or {}).get("nodeName")), phase, is_ready(pod), created
