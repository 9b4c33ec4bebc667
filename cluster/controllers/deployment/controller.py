"""The shell of the Deployment controller: events in, `plan.plan_deployment`, its effects out.

Unlike Kubernetes: one sync writes the status once, at its end, where upstream writes it up to three
times.
"""

from __future__ import annotations

from cluster.api.errors import AlreadyExists, Conflict, NotFound, StatusError
from cluster.api.meta import DEPLOYMENTS, PODS, REPLICASETS, Object
from cluster.api.selectors import LabelSelector
from cluster.client import run_workers
from cluster.controllers.conditions import set_condition
from cluster.controllers.context import ControllerContext
from cluster.controllers.deployment import plan, revisions
from cluster.controllers.deployment.status import condition, has_deadline
from cluster.controllers.ownership import (
    ADOPT,
    MATCHES,
    RELEASE,
    Kind,
    adoption_patch,
    has_cause,
    owner_uid,
    plan_claim,
    release_patch,
)
from cluster.controllers.podindex import PodChange

KIND = Kind("apps/v1", "Deployment")
WORKERS = 20
CONFLICT_SECONDS = 0.05
OTHER = "-"  # in place of a key: controlled by something that is no Deployment


class DeploymentController:
    """Rolls every Deployment towards its template and size."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._deployments = context.informers.informer(DEPLOYMENTS)
        self._sets = context.informers.informer(REPLICASETS)
        self._recorder = context.recorder("deployment-controller")
        self._queue = context.queue("deployment")
        self._sets.add_index("controller", lambda o: [owner_uid(o)])
        self._deployments.add_handler(self._handle_deployment)
        self._sets.add_handler(self._handle_set)
        context.pods.subscribe(self._handle_pods)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(DEPLOYMENTS, REPLICASETS, PODS)
        await run_workers(self._queue, self._sync, WORKERS)

    # -- events

    def _handle_deployment(self, old: Object | None, new: Object | None) -> None:
        self._queue.add(_key(new or old or {}))

    def _handle_set(self, old: Object | None, new: Object | None) -> None:
        holders = {_owner_key(o) for o in (old, new) if o is not None}
        for key in holders - {"", OTHER}:
            self._queue.add(key)
        if "" in holders and new is not None:  # an orphan: whoever selects it may adopt it
            labels = new["metadata"].get("labels") or {}
            for deployment in self._deployments.list(new["metadata"]["namespace"]):
                if LabelSelector.from_dict(deployment["spec"]["selector"]).matches(labels):
                    self._queue.add(_key(deployment))

    def _handle_pods(self, changes: list[PodChange]) -> None:
        """A Recreate rollout waits for the last old pod to be gone."""
        for change in changes:
            if change.after is not None or change.before is None:
                continue
            if change.before.owner_kind != "ReplicaSet":
                continue
            replica_set = self._sets.get(f"{change.before.namespace}/{change.before.owner_name}")
            key = _owner_key(replica_set) if replica_set is not None else ""
            deployment = self._deployments.get(key) if key else None
            if deployment and (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
                self._queue.add(key)

    # -- one sync

    async def _sync(self, key: str) -> float | None:
        deployment = self._deployments.get(key)
        if deployment is None:
            return None
        selector = LabelSelector.from_dict(deployment["spec"].get("selector"))
        if selector.empty():
            await self._refuse_everything(deployment)
            return None
        replica_sets = await self._claim(deployment, selector)
        if replica_sets is None:
            return None  # the patches come back as events
        effects = plan.plan_deployment(
            deployment,
            replica_sets,
            self._has_running_pods,
            self._context.clock.now(),
            count_terminating=self._context.config.counts_terminating_replicas,
        )
        return await self._apply(deployment, effects)

    async def _refuse_everything(self, deployment: Object) -> None:
        self._recorder.event(
            deployment,
            "Warning",
            "SelectingAll",
            "This deployment is selecting all pods. A non-empty selector is required.",
        )
        generation = deployment["metadata"].get("generation", 0)
        status = deployment.get("status") or {}
        if status.get("observedGeneration", 0) < generation:
            wanted = {**deployment, "status": {**status, "observedGeneration": generation}}
            await self._client.update(DEPLOYMENTS, wanted, subresource="status", answer="none")

    async def _claim(self, deployment: Object, selector: LabelSelector) -> list[Object] | None:
        """The Deployment's ReplicaSets; None if some had to be adopted or let go first."""
        namespace = deployment["metadata"]["namespace"]
        own: list[Object] = []
        patches: list[tuple[str, Object]] = []
        candidates = self._sets.by_index("controller", deployment["metadata"]["uid"])
        orphans = [
            o
            for o in self._sets.by_index("controller", "")
            if o["metadata"]["namespace"] == namespace
        ]
        for replica_set in [*candidates, *orphans]:
            verdict = plan_claim(deployment, selector, replica_set)
            if verdict == MATCHES:
                own.append(replica_set)
            elif verdict == RELEASE:
                patches.append(
                    (replica_set["metadata"]["name"], release_patch(deployment, replica_set))
                )
            elif verdict == ADOPT and await self._may_adopt(deployment):
                patch = adoption_patch(deployment, KIND, replica_set)
                patches.append((replica_set["metadata"]["name"], patch))
        for name, patch in patches:
            try:
                await self._client.patch(
                    REPLICASETS, name, patch, namespace, patch_type="strategic", answer="none"
                )
            except NotFound:
                continue
        return None if patches else own

    async def _may_adopt(self, deployment: Object) -> bool:
        meta = deployment["metadata"]
        try:
            fresh = await self._client.get(DEPLOYMENTS, meta["name"], meta["namespace"])
        except NotFound:
            return False
        return (
            fresh["metadata"]["uid"] == meta["uid"] and "deletionTimestamp" not in fresh["metadata"]
        )

    def _has_running_pods(self, replica_set: Object) -> bool:
        owned = self._context.pods.owned(replica_set["metadata"].get("uid", ""))
        return any(f.phase not in ("Succeeded", "Failed") for f in owned.facts.values())

    async def _apply(self, deployment: Object, effects: list[plan.Effect]) -> float | None:
        again: float | None = None
        for effect in effects:
            match effect:
                case plan.CreateSet(wanted):
                    if not await self._create_set(deployment, wanted):
                        return None
                case plan.UpdateSet(wanted):
                    try:
                        await self._client.update(REPLICASETS, wanted, answer="none")
                    except Conflict:  # our copy is old: the newer one comes as an event
                        return CONFLICT_SECONDS
                    except NotFound:
                        return CONFLICT_SECONDS
                case plan.DeleteSet(doomed):
                    meta = doomed["metadata"]
                    try:
                        await self._client.delete(
                            REPLICASETS, meta["name"], meta["namespace"], uid=meta["uid"]
                        )
                    except NotFound:
                        continue
                case plan.Report(kind, reason, message):
                    self._recorder.event(deployment, kind, reason, message)
                case plan.WriteStatus(wanted):
                    try:
                        await self._client.update(
                            DEPLOYMENTS, wanted, subresource="status", answer="none"
                        )
                    except Conflict:
                        return CONFLICT_SECONDS
                    except NotFound:
                        return None
                case plan.LookAgain(seconds):
                    again = seconds
        return again

    async def _create_set(self, deployment: Object, wanted: Object) -> bool:
        """False: it is there already, or its name is taken (then the next turn hashes anew)."""
        try:
            await self._client.create(REPLICASETS, wanted, answer="meta")
        except AlreadyExists:
            await self._resolve_collision(deployment, wanted)
            return False
        except StatusError as error:
            if has_cause(error, "NamespaceTerminating"):
                return False
            await self._report_refusal(deployment, wanted, error)
            raise
        return True

    async def _resolve_collision(self, deployment: Object, wanted: Object) -> None:
        meta = wanted["metadata"]
        taken = await self._client.get(REPLICASETS, meta["name"], meta["namespace"])
        same = revisions.find_new(deployment, [taken]) is not None
        if same and owner_uid(taken) == deployment["metadata"]["uid"]:
            self._queue.add_after(_key(deployment), CONFLICT_SECONDS)  # only our cache is behind
            return
        status = dict(deployment.get("status") or {})
        status["collisionCount"] = int(status.get("collisionCount") or 0) + 1
        await self._client.update(
            DEPLOYMENTS, {**deployment, "status": status}, subresource="status", answer="none"
        )

    async def _report_refusal(self, deployment: Object, wanted: Object, error: StatusError) -> None:
        reason = "ReplicaSetCreateError"
        message = (
            f'Failed to create new replica set "{wanted["metadata"]["name"]}": {error.message}'
        )
        self._recorder.event(deployment, "Warning", reason, message)
        if not has_deadline(deployment):
            return
        failed = condition("Progressing", "False", reason, message, self._context.clock.now())
        status = deployment.get("status") or {}
        conditions = set_condition(status.get("conditions"), failed)
        if conditions != status.get("conditions"):
            changed = {**deployment, "status": {**status, "conditions": conditions}}
            await self._client.update(DEPLOYMENTS, changed, subresource="status", answer="none")


def _key(obj: Object) -> str:
    meta = obj["metadata"]
    return f"{meta['namespace']}/{meta['name']}"


def _owner_key(replica_set: Object) -> str:
    """Key of the Deployment that controls it; '' if none does."""
    for ref in replica_set["metadata"].get("ownerReferences") or ():
        if ref.get("controller"):
            kind = ref.get("kind")
            namespace = replica_set["metadata"]["namespace"]
            return f"{namespace}/{ref['name']}" if kind == "Deployment" else OTHER
    return ""
