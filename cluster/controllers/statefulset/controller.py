"""The shell of the StatefulSet controller."""

from __future__ import annotations

import asyncio

from cluster.api.errors import AlreadyExists, Conflict, NotFound, StatusError
from cluster.api.meta import CONTROLLERREVISIONS, PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS, Object
from cluster.api.selectors import LabelSelector
from cluster.client import run_workers
from cluster.controllers.context import ControllerContext
from cluster.controllers.expectations import Expectations
from cluster.controllers.ownership import has_cause
from cluster.controllers.podindex import PodChange
from cluster.controllers.replicaset.replicas import same_status
from cluster.controllers.statefulset.identity import KIND, make_claims, revision_of
from cluster.controllers.statefulset.plan import (
    CreatePod,
    DeletePod,
    Plan,
    Revisions,
    plan_stateful_set,
)
from cluster.controllers.workload import OwnedPodsView, RevisionHistory

WORKERS = 20
RETRY_SECONDS = 0.1


class StatefulSetController:
    """Keeps the pods of every StatefulSet, in order."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._recorder = context.recorder("statefulset-controller")
        self._queue = context.queue("statefulset")
        self._expectations = Expectations(context.clock)
        self._sets = context.informers.informer(STATEFULSETS)
        self._claims = context.informers.informer(PERSISTENTVOLUMECLAIMS)
        self._history = RevisionHistory(context, KIND)
        self._pods = OwnedPodsView(context, STATEFULSETS, KIND, self._queue)
        self._pods.subscribe(self._observe)
        self._sets.add_handler(self._handle)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(
            STATEFULSETS, PODS, PERSISTENTVOLUMECLAIMS, CONTROLLERREVISIONS
        )
        await run_workers(self._queue, self._sync, WORKERS)

    def _handle(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        self._queue.add(f"{meta['namespace']}/{meta['name']}")

    def _observe(self, change: PodChange, key: str) -> None:
        if change.before is None:
            self._expectations.creation_observed(key)
        deleted = change.new is None or "deletionTimestamp" in change.new["metadata"]
        if deleted and change.before is not None:
            self._expectations.deletion_observed(key, change.before.uid)

    async def _sync(self, key: str) -> float | None:
        owner = self._sets.get(key)
        if owner is None:
            self._expectations.forget(key)
            return None
        selector = LabelSelector.from_dict(owner["spec"].get("selector"))
        if await self._pods.claim(owner, selector) or not self._expectations.satisfied(key):
            return None
        history = await self._history.sync(owner)
        pods = self._pods.of(owner)
        revisions = self._choose(owner, history.current, list(history.others))
        plan = plan_stateful_set(owner, pods, revisions, self._context.clock.now())
        await self._write_status(owner, plan)
        await self._apply(key, owner, plan)
        live = {revisions.current_name, revisions.update_name, *(revision_of(p) for p in pods)}
        await self._history.truncate(owner, history, live)
        return plan.again

    def _choose(self, owner: Object, update: Object, others: list[Object]) -> Revisions:
        """The revision that status.currentRevision names, or the wanted one at the very start."""
        name = (owner.get("status") or {}).get("currentRevision")
        current = next((r for r in others if r["metadata"]["name"] == name), update)
        return Revisions(current, update)

    async def _apply(self, key: str, owner: Object, plan: Plan) -> None:
        creations = [e for e in plan.effects if isinstance(e, CreatePod)]
        if creations:
            self._expectations.expect_creations(key, len(creations))
        await asyncio.gather(*(self._create(key, owner, e) for e in creations))
        for effect in plan.effects:
            if isinstance(effect, DeletePod):
                await self._delete(key, owner, effect.pod)

    async def _create(self, key: str, owner: Object, effect: CreatePod) -> None:
        name, pod_name = owner["metadata"]["name"], effect.pod["metadata"]["name"]
        try:
            for claim in make_claims(owner, effect.ordinal):
                await self._ensure_claim(owner, claim, pod_name)
            await self._client.create(PODS, effect.pod, answer="none")
        except AlreadyExists:
            self._expectations.forget(key)
            self._queue.add_after(key, RETRY_SECONDS)
            return
        except StatusError as error:
            self._expectations.forget(key)
            if has_cause(error, "NamespaceTerminating"):
                return
            message = f"create Pod {pod_name} in StatefulSet {name} failed error: {error.message}"
            self._recorder.event(owner, "Warning", "FailedCreate", message)
            raise
        message = f"create Pod {pod_name} in StatefulSet {name} successful"
        self._recorder.event(owner, "Normal", "SuccessfulCreate", message)

    async def _ensure_claim(self, owner: Object, claim: Object, pod_name: str) -> None:
        meta = claim["metadata"]
        if self._claims.get(f"{meta['namespace']}/{meta['name']}") is not None:
            return
        try:
            await self._client.create(PERSISTENTVOLUMECLAIMS, claim, answer="none")
        except AlreadyExists:
            return
        name = owner["metadata"]["name"]
        message = f"create Claim {meta['name']} Pod {pod_name} in StatefulSet {name} success"
        self._recorder.event(owner, "Normal", "SuccessfulCreate", message)

    async def _delete(self, key: str, owner: Object, pod: Object) -> None:
        meta, name = pod["metadata"], owner["metadata"]["name"]
        self._expectations.expect_deletions(key, [meta["uid"]])
        try:
            await self._client.delete(PODS, meta["name"], meta["namespace"], uid=meta["uid"])
        except NotFound:
            self._expectations.forget(key)
            return
        except StatusError as error:
            self._expectations.forget(key)
            message = (
                f"delete Pod {meta['name']} in StatefulSet {name} failed error: {error.message}"
            )
            self._recorder.event(owner, "Warning", "FailedDelete", message)
            raise
        message = f"delete Pod {meta['name']} in StatefulSet {name} successful"
        self._recorder.event(owner, "Normal", "SuccessfulDelete", message)

    async def _write_status(self, owner: Object, plan: Plan) -> None:
        if same_status(owner.get("status"), plan.status):
            return
        try:
            await self._client.update(
                STATEFULSETS, {**owner, "status": plan.status}, subresource="status", answer="none"
            )
        except NotFound:
            return
        except Conflict:
            meta = owner["metadata"]
            self._queue.add_after(f"{meta['namespace']}/{meta['name']}", RETRY_SECONDS)
