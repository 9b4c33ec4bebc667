"""CronJobs: make a Job at each time of a schedule (pkg/controller/cronjob, v2)."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.api.errors import AlreadyExists, Conflict, NotFound, StatusError
from cluster.api.meta import CRONJOBS, JOBS, Object, parse_rfc3339, rfc3339
from cluster.client import run_workers
from cluster.controllers.conditions import find_condition
from cluster.controllers.context import ControllerContext
from cluster.controllers.job.plan import is_finished
from cluster.controllers.job.schedule import Schedule, parse_schedule
from cluster.controllers.ownership import Kind, controller_ref, has_cause, owner_uid

KIND = Kind("batch/v1", "CronJob")
WORKERS = 20
SKEW_SECONDS = 0.1
TOO_MANY = 100


@dataclass(frozen=True, slots=True)
class Due:
    """The latest time that was missed (None: none), how many were, and seconds to the next."""

    latest: float | None
    missed: int
    next_in: float | None


def plan_due(cron_job: Object, schedule: Schedule, now: float) -> Due:
    """Which time is due now (nextScheduleTime and mostRecentScheduleTime)."""
    spec, status = cron_job["spec"], cron_job.get("status") or {}
    since = parse_rfc3339(cron_job["metadata"]["creationTimestamp"])
    if status.get("lastScheduleTime"):
        since = parse_rfc3339(status["lastScheduleTime"])
    deadline = spec.get("startingDeadlineSeconds")
    if deadline is not None:
        since = max(since, now - int(deadline))
    latest, missed, moment = None, 0, schedule.next_after(since)
    while moment is not None and moment <= now:
        latest, missed = moment, missed + 1
        if missed > TOO_MANY:  # catch up from a little before now
            step = (schedule.next_after(moment) or now) - moment
            moment = schedule.next_after(max(moment, now - 2 * step))
            continue
        moment = schedule.next_after(moment)
    upcoming = schedule.next_after(now)
    return Due(latest, missed, upcoming - now + SKEW_SECONDS if upcoming is not None else None)


def make_job(cron_job: Object, scheduled: float) -> Object:
    """The Job of a scheduled time; its name holds the time in minutes, so that it is made once."""
    meta, template = cron_job["metadata"], cron_job["spec"]["jobTemplate"]
    source = template.get("metadata") or {}
    stamp = {"batch.kubernetes.io/cronjob-scheduled-timestamp": rfc3339(scheduled)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{meta['name']}-{int(scheduled) // 60}",
            "namespace": meta["namespace"],
            "labels": dict(source.get("labels") or {}),
            "annotations": {**(source.get("annotations") or {}), **stamp},
            "ownerReferences": [controller_ref(cron_job, KIND)],
        },
        "spec": template["spec"],
    }


class CronJobController:
    """Starts Jobs on time and forgets old ones."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._recorder = context.recorder("cronjob-controller")
        self._queue = context.queue("cronjob")
        self._cron_jobs = context.informers.informer(CRONJOBS)
        self._jobs = context.informers.informer(JOBS)
        self._jobs.add_index("controller", lambda o: [owner_uid(o)])
        self._cron_jobs.add_handler(self._handle)
        self._jobs.add_handler(self._handle_job)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(CRONJOBS, JOBS)
        await run_workers(self._queue, self._sync, WORKERS)

    def _handle(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        self._queue.add(f"{meta['namespace']}/{meta['name']}")

    def _handle_job(self, old: Object | None, new: Object | None) -> None:
        obj = new or old or {}
        for ref in obj["metadata"].get("ownerReferences") or ():
            if ref.get("controller") and ref["kind"] == "CronJob":
                self._queue.add(f"{obj['metadata']['namespace']}/{ref['name']}")

    async def _sync(self, key: str) -> float | None:
        cron_job = self._cron_jobs.get(key)
        if cron_job is None or "deletionTimestamp" in cron_job["metadata"]:
            return None
        jobs = self._jobs.by_index("controller", cron_job["metadata"]["uid"])
        await self._clean_up(cron_job, jobs)
        status = self._settle_active(cron_job, jobs)
        again: float | None = None
        if not cron_job["spec"].get("suspend"):
            again = await self._start_due(cron_job, status, jobs)
        if status != (cron_job.get("status") or {}):
            try:
                await self._client.update(
                    CRONJOBS, {**cron_job, "status": status}, subresource="status", answer="none"
                )
            except Conflict:
                return SKEW_SECONDS
            except NotFound:
                return None
        return again

    def _settle_active(self, cron_job: Object, jobs: list[Object]) -> Object:
        """Status with the Jobs still running in `active` (syncCronJob's first half)."""
        status = dict(cron_job.get("status") or {})
        by_uid = {j["metadata"]["uid"]: j for j in jobs}
        active: list[Object] = []
        for ref in status.get("active") or ():
            job = by_uid.get(ref["uid"])
            if job is None:
                message = f"Active job went missing: {ref['name']}"
                self._recorder.event(cron_job, "Normal", "MissingJob", message)
            elif is_finished(job):
                complete = find_condition(job["status"]["conditions"], "Complete")
                word = "Complete" if complete is not None else "Failed"
                message = f"Saw completed job: {ref['name']}, condition: {word}"
                self._recorder.event(cron_job, "Normal", "SawCompletedJob", message)
                ended = (job.get("status") or {}).get("completionTime")
                if ended and ended > status.get("lastSuccessfulTime", ""):
                    status["lastSuccessfulTime"] = ended
            else:
                active.append(ref)
        status.pop("active", None)
        if active:
            status["active"] = active
        return status

    async def _start_due(
        self, cron_job: Object, status: Object, jobs: list[Object]
    ) -> float | None:
        """Make the Job that is due, if the concurrency policy lets it; seconds to the next."""
        spec, now = cron_job["spec"], self._context.clock.now()
        try:
            schedule = parse_schedule(spec["schedule"], spec.get("timeZone") or "")
        except ValueError as error:
            message = f"unparseable schedule: {spec['schedule']} : {error}"
            self._recorder.event(cron_job, "Warning", "UnparseableSchedule", message)
            return None
        due = plan_due({**cron_job, "status": status}, schedule, now)
        if due.missed > TOO_MANY:
            message = (
                "too many missed start times. Set or decrease "
                ".spec.startingDeadlineSeconds or check clock skew"
            )
            self._recorder.event(cron_job, "Warning", "TooManyMissedTimes", message)
        if due.latest is None:
            return due.next_in
        policy, active = spec.get("concurrencyPolicy", "Allow"), status.get("active") or []
        if policy == "Forbid" and active:
            message = (
                "Not starting job because prior execution is running and "
                "concurrency policy is Forbid"
            )
            self._recorder.event(cron_job, "Normal", "JobAlreadyActive", message)
            return due.next_in
        if policy == "Replace":
            for ref in active:
                await self._delete_job(cron_job, ref["name"])
            active = []
        ref = await self._create_job(cron_job, make_job(cron_job, due.latest))
        if ref is not None and all(a["uid"] != ref["uid"] for a in active):
            active = [*active, ref]
        if active:
            status["active"] = active
        status["lastScheduleTime"] = rfc3339(due.latest)
        return due.next_in

    async def _create_job(self, cron_job: Object, job: Object) -> Object | None:
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        try:
            created = await self._client.create(JOBS, job)
            message = f"Created job {name}"
            self._recorder.event(cron_job, "Normal", "SuccessfulCreate", message)
        except AlreadyExists:
            created = await self._client.get(JOBS, name, namespace)
            if owner_uid(created) != cron_job["metadata"]["uid"] or is_finished(created):
                return None
        except StatusError as error:
            if has_cause(error, "NamespaceTerminating"):
                return None
            message = f"Error creating job: {error.message}"
            self._recorder.event(cron_job, "Warning", "FailedCreate", message)
            raise
        meta = created["metadata"]
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": name,
            "namespace": namespace,
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
        }

    async def _clean_up(self, cron_job: Object, jobs: list[Object]) -> None:
        """Delete the oldest finished Jobs beyond the history limits."""
        spec = cron_job["spec"]
        for kind, limit in (
            ("Complete", spec.get("successfulJobsHistoryLimit", 3)),
            ("Failed", spec.get("failedJobsHistoryLimit", 1)),
        ):
            ended = [
                j
                for j in jobs
                if "deletionTimestamp" not in j["metadata"]
                and (c := find_condition((j.get("status") or {}).get("conditions"), kind))
                is not None
                and c["status"] == "True"
            ]
            ended.sort(
                key=lambda j: (
                    (j.get("status") or {}).get("startTime") or "",
                    j["metadata"]["name"],
                )
            )
            for job in ended[: max(0, len(ended) - int(limit))]:
                await self._delete_job(cron_job, job["metadata"]["name"])

    async def _delete_job(self, cron_job: Object, name: str) -> None:
        try:
            await self._client.delete(
                JOBS, name, cron_job["metadata"]["namespace"], propagation="Background"
            )
        except NotFound:
            return
        self._recorder.event(cron_job, "Normal", "SuccessfulDelete", f"Deleted job {name}")
