"""Deletes finished Jobs when their ttlSecondsAfterFinished is over
(pkg/controller/ttlafterfinished)."""

from __future__ import annotations

from cluster.api.errors import Conflict, NotFound
from cluster.api.meta import JOBS, Object, parse_rfc3339, split_key
from cluster.client import run_workers
from cluster.controllers.context import ControllerContext

WORKERS = 5


class TtlAfterFinishedController:
    """Cleans up finished Jobs."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._queue = context.queue("ttl_jobs_to_delete")
        self._jobs = context.informers.informer(JOBS)
        self._jobs.add_handler(self._handle)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(JOBS)
        await run_workers(self._queue, self._sync, WORKERS)

    def _handle(self, old: Object | None, new: Object | None) -> None:
        if new is not None and expires_at(new) is not None:
            self._queue.add(f"{new['metadata']['namespace']}/{new['metadata']['name']}")

    async def _sync(self, key: str) -> float | None:
        job = self._jobs.get(key)
        deadline = expires_at(job) if job is not None else None
        if job is None or deadline is None:
            return None
        left = deadline - self._context.clock.now()
        if left > 0:
            return left
        namespace, name = split_key(key)
        try:
            await self._context.client.delete(
                JOBS, name, namespace, propagation="Foreground", uid=job["metadata"]["uid"]
            )
        except (NotFound, Conflict):
            return None
        return None


def expires_at(job: Object) -> float | None:
    """When a finished Job's time is over; None if it has none, runs still or is being deleted."""
    ttl = job["spec"].get("ttlSecondsAfterFinished")
    if ttl is None or "deletionTimestamp" in job["metadata"]:
        return None
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return parse_rfc3339(condition["lastTransitionTime"]) + int(ttl)
    return None
