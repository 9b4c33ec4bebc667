"""The shell of the Job controller."""

from __future__ import annotations

import asyncio

from cluster.api.errors import Conflict, NotFound, StatusError
from cluster.api.meta import JOBS, PODS, Object, rfc3339, split_key
from cluster.api.selectors import LabelSelector
from cluster.client import run_workers
from cluster.controllers.conditions import find_condition, set_condition
from cluster.controllers.context import ControllerContext
from cluster.controllers.expectations import Expectations
from cluster.controllers.job.plan import Plan, Verdict, is_finished, plan_job
from cluster.controllers.job.pods import FINALIZER, KIND, is_indexed, is_tracked, make_pod
from cluster.controllers.ownership import has_cause
from cluster.controllers.podindex import PodChange
from cluster.controllers.replicaset.replicas import same_status, slow_start
from cluster.controllers.workload import OwnedPodsView

WORKERS = 20
RETRY_SECONDS = 0.1
_FIRST_SUSPENDED = 31  # since this minor version a target condition comes before the final one


class JobController:
    """Runs every Job to its end."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._recorder = context.recorder("job-controller")
        self._queue = context.queue("job")
        self._expectations = Expectations(context.clock)
        self._jobs = context.informers.informer(JOBS)
        self._stored_pods = context.informers.informer(PODS)
        self._orphans = context.queue("job_orphan_pod")
        self._pods = OwnedPodsView(context, JOBS, KIND, self._queue)
        self._pods.subscribe(self._observe)
        self._jobs.add_handler(self._handle)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(JOBS, PODS)
        async with asyncio.TaskGroup() as group:
            group.create_task(run_workers(self._queue, self._sync, WORKERS))
            group.create_task(run_workers(self._orphans, self._release_orphan, WORKERS))

    def _handle(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        self._queue.add(f"{meta['namespace']}/{meta['name']}")
        if new is None:
            for key in self._context.pods.owned(meta["uid"]).facts:
                self._orphans.add(key)

    def _observe(self, change: PodChange, key: str) -> None:
        if change.before is None:
            self._expectations.creation_observed(key)
        deleted = change.new is None or "deletionTimestamp" in change.new["metadata"]
        if deleted and change.before is not None:
            self._expectations.deletion_observed(key, change.before.uid)
        if (
            deleted
            and change.new is not None
            and is_tracked(change.new)
            and self._jobs.get(key) is None
        ):
            self._orphans.add(change.key)

    async def _release_orphan(self, key: str) -> None:
        """A tracked pod whose Job has gone must not wait for it."""
        pod = self._stored_pods.get(key)
        facts = self._context.pods.facts(key)
        if pod is None or facts is None or not is_tracked(pod):
            return
        job = self._jobs.get(f"{facts.namespace}/{facts.owner_name}")
        if job is None or job["metadata"]["uid"] != facts.owner_uid:
            await self._untrack([pod])

    async def _sync(self, key: str) -> float | None:
        job = self._jobs.get(key)
        if job is None:
            self._expectations.forget(key)
            return None
        spec = job["spec"]
        if spec.get("managedBy", "kubernetes.io/job-controller") != "kubernetes.io/job-controller":
            return None
        pods = self._pods.of(job)
        if is_finished(job):
            await self._untrack([p for p in pods if is_tracked(p)])
            return None
        if await self._pods.claim(job, LabelSelector.from_dict(spec.get("selector"))):
            return None
        plan = plan_job(job, pods, self._context.clock.now(), self._context.config.burst_replicas)
        try:
            job = await self._note_finished(job, plan)
            noted = [p for p in pods if is_tracked(p) and _is_noted(job, p)]
            await self._untrack([*noted, *plan.ignored])
            if self._expectations.satisfied(key) and "deletionTimestamp" not in job["metadata"]:
                await self._apply(key, job, plan)
            await self._write_status(job, plan)
        except Conflict:
            return RETRY_SECONDS
        except NotFound:
            return None
        return plan.again

    async def _note_finished(self, job: Object, plan: Plan) -> Object:
        """Write down which pods have ended before they are let go."""
        if not plan.succeeded and not plan.failed:
            return job
        status = dict(job.get("status") or {})
        uncounted = status.get("uncountedTerminatedPods") or {}
        noted: Object = {}
        for name, pods in (("succeeded", plan.succeeded), ("failed", plan.failed)):
            uids = [*(uncounted.get(name) or ()), *(p["metadata"]["uid"] for p in pods)]
            if uids:
                noted[name] = uids
        status["uncountedTerminatedPods"] = noted
        return await self._client.update(JOBS, {**job, "status": status}, subresource="status")

    async def _untrack(self, pods: list[Object]) -> None:
        """Remove the tracking finalizer."""
        if not pods:
            return
        patches = []
        for pod in pods:
            meta = pod["metadata"]
            left = [f for f in meta.get("finalizers") or () if f != FINALIZER]
            patch = {"metadata": {"uid": meta["uid"], "finalizers": left or None}}
            patches.append(
                self._client.patch_nowait(
                    PODS, meta["name"], patch, meta["namespace"], answer="none"
                )
            )
        for answer in await asyncio.gather(*patches, return_exceptions=True):
            if isinstance(answer, BaseException) and not isinstance(answer, NotFound | Conflict):
                raise answer

    async def _apply(self, key: str, job: Object, plan: Plan) -> None:
        if plan.delete:
            self._expectations.expect_deletions(key, (p["metadata"]["uid"] for p in plan.delete))
            await self._delete(key, job, plan.delete)
        elif plan.create:
            self._expectations.expect_creations(key, len(plan.create))
            plan.active += await self._create(key, job, plan)

    async def _create(self, key: str, job: Object, plan: Plan) -> int:
        namespace, _ = split_key(key)
        indexes = plan.create

        def pod(index: int | None) -> Object:
            counts = index is not None and plan.failed_indexes is not None
            return make_pod(job, index, plan.failures.get(index or 0, 0) if counts else None)

        done = 0
        for size in slow_start(len(indexes)):
            batch = indexes[done : done + size]
            answers = await asyncio.gather(
                *(
                    self._client.create_nowait(PODS, pod(i), namespace, answer="meta")
                    for i in batch
                ),
                return_exceptions=True,
            )
            failure: BaseException | None = None
            for answer in answers:
                if isinstance(answer, BaseException):
                    failure = failure or answer
                    continue
                done += 1
                message = f"Created pod: {answer['metadata']['name']}"
                self._recorder.event(job, "Normal", "SuccessfulCreate", message)
            if failure is not None:
                self._expectations.creation_observed(key, len(indexes) - done)
                if not isinstance(failure, StatusError):
                    raise failure
                if not has_cause(failure, "NamespaceTerminating"):
                    message = f"Error creating: {failure.message}"
                    self._recorder.event(job, "Warning", "FailedCreate", message)
                    self._queue.add_rate_limited(key)
                return done
        return done

    async def _delete(self, key: str, job: Object, pods: list[Object]) -> None:
        answers = await asyncio.gather(
            *(
                self._client.delete_nowait(PODS, p["metadata"]["name"], p["metadata"]["namespace"])
                for p in pods
            ),
            return_exceptions=True,
        )
        for pod, answer in zip(pods, answers, strict=True):
            name = pod["metadata"]["name"]
            if isinstance(answer, BaseException):
                self._expectations.deletion_observed(key, pod["metadata"]["uid"])
                if not isinstance(answer, NotFound):
                    raise answer
                continue
            self._recorder.event(job, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")

    async def _write_status(self, job: Object, plan: Plan) -> None:
        now = self._context.clock.now()
        status = plan_status(
            job, plan, now, target_first=self._context.config.minor >= _FIRST_SUSPENDED
        )
        if same_status(job.get("status"), status):
            return
        await self._client.update(
            JOBS, {**job, "status": status}, subresource="status", answer="none"
        )
        self._report(job, plan.verdict, find_condition(status["conditions"], "Suspended"))

    def _report(self, job: Object, verdict: Verdict | None, suspended: Object | None) -> None:
        if verdict is not None:
            metric = self._context.metrics.jobs_finished
            mode = "Indexed" if is_indexed(job) else "NonIndexed"
            if verdict.condition == "Complete":
                self._recorder.event(job, "Normal", "Completed", "Job completed")
                metric.labels(mode, "succeeded", "").inc()
            else:
                self._recorder.event(job, "Warning", verdict.reason, verdict.message)
                metric.labels(mode, "failed", verdict.reason).inc()
        before = find_condition((job.get("status") or {}).get("conditions"), "Suspended")
        was, now = (c is not None and c["status"] == "True" for c in (before, suspended))
        if was != now:
            word = "Suspended" if now else "Resumed"
            self._recorder.event(job, "Normal", word, f"Job {word.lower()}")


def plan_status(job: Object, plan: Plan, now: float, *, target_first: bool) -> Object:
    """Counts with the noted pods in them, start, end and conditions."""
    old = job.get("status") or {}
    uncounted = old.get("uncountedTerminatedPods") or {}
    status: Object = {
        "active": plan.active,
        "ready": plan.ready,
        "terminating": plan.terminating,
        "succeeded": int(old.get("succeeded") or 0) + len(uncounted.get("succeeded") or ()),
        "failed": int(old.get("failed") or 0) + len(uncounted.get("failed") or ()),
        "uncountedTerminatedPods": {},
        "conditions": list(old.get("conditions") or ()),
        "startTime": old.get("startTime"),
    }
    if is_indexed(job):
        status["completedIndexes"] = plan.completed_indexes
        status["failedIndexes"] = plan.failed_indexes
    suspend = bool(job["spec"].get("suspend"))
    held = find_condition(status["conditions"], "Suspended")
    if plan.verdict is None and suspend:
        suspended = _condition("Suspended", "True", "JobSuspended", "Job suspended", now)
        status["conditions"] = set_condition(status["conditions"], suspended)
        status["startTime"] = None
    elif plan.verdict is None and held is not None and held["status"] == "True":
        resumed = _condition("Suspended", "False", "JobResumed", "Job resumed", now)
        status["conditions"] = set_condition(status["conditions"], resumed)
        status["startTime"] = rfc3339(now)
    if not suspend and status["startTime"] is None:
        status["startTime"] = rfc3339(now)
    if plan.verdict is not None:
        _finish(status, plan.verdict, now, target_first)
    return {
        k: v for k, v in status.items() if v not in (None, 0, "") or k in ("ready", "terminating")
    }


def _finish(status: Object, verdict: Verdict, now: float, target_first: bool) -> None:
    """The final condition; before it, since 1.31, the one that says what it will be."""
    target = "SuccessCriteriaMet" if verdict.condition == "Complete" else "FailureTarget"
    kinds = (target, verdict.condition) if target_first else (verdict.condition,)
    for kind in kinds:
        wanted = _condition(kind, "True", verdict.reason, verdict.message, now)
        status["conditions"] = set_condition(status["conditions"], wanted)
    if verdict.condition == "Complete":
        status["completionTime"] = rfc3339(now)


def _condition(kind: str, verdict: str, reason: str, message: str, now: float) -> Object:
    stamp = rfc3339(now)
    return {
        "type": kind,
        "status": verdict,
        "lastProbeTime": stamp,
        "lastTransitionTime": stamp,
        "reason": reason,
        "message": message,
    }


def _is_noted(job: Object, pod: Object) -> bool:
    uncounted = (job.get("status") or {}).get("uncountedTerminatedPods") or {}
    uid = pod["metadata"]["uid"]
    return uid in (uncounted.get("succeeded") or ()) or uid in (uncounted.get("failed") or ())
