"""The shell of ReplicaSet and ReplicationController: pod events in, pods and statuses out.

Unlike Kubernetes: a sync reads sums that each pod event has moved (`PodIndex`) instead of listing
the namespace's pods, so it costs the same for 3 pods and for 3,000; and statuses of one set are
written at most every `status_batch_period` seconds.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cluster.api.errors import Conflict, NotFound, StatusError
from cluster.api.meta import GVR, PODS, REPLICASETS, REPLICATIONCONTROLLERS, Object, split_key
from cluster.api.selectors import LabelSelector
from cluster.client import run_workers
from cluster.controllers.context import ControllerContext
from cluster.controllers.expectations import Expectations
from cluster.controllers.ownership import (
    Kind,
    adoption_patch,
    controller_ref,
    has_cause,
    owner_uid,
    release_patch,
)
from cluster.controllers.podindex import OwnedPods, PodChange
from cluster.controllers.podtemplate import available_in, pod_from_template
from cluster.controllers.replicaset.ranking import plan_deletions
from cluster.controllers.replicaset.replicas import (
    Counts,
    plan_replicas,
    replica_set_status,
    same_status,
    slow_start,
)

FAST_START = 100  # first batch of a set whose last burst went through whole
CONFLICT_SECONDS = 0.05
WORKERS = 20


@dataclass(frozen=True, slots=True)
class Flavour:
    """What differs between the two kinds that this controller serves."""

    gvr: GVR
    kind: Kind
    component: str
    queue: str


REPLICASET = Flavour(
    REPLICASETS, Kind("apps/v1", "ReplicaSet"), "replicaset-controller", "replicaset"
)
REPLICATIONCONTROLLER = Flavour(
    REPLICATIONCONTROLLERS,
    Kind("v1", "ReplicationController"),
    "replication-controller",
    "replicationmanager",
)


class ReplicaSetController:
    """Keeps spec.replicas pods for every ReplicaSet (or ReplicationController)."""

    def __init__(self, context: ControllerContext, flavour: Flavour = REPLICASET) -> None:
        self._context = context
        self._flavour = flavour
        self._client = context.client
        self._sets = context.informers.informer(flavour.gvr)
        self._pods = context.informers.informer(PODS)
        self._recorder = context.recorder(flavour.component)
        self._expectations = Expectations(context.clock)
        self._queue = context.queue(flavour.queue)
        self._trusted: set[str] = set()  # keys whose last burst of creations went through whole
        self._written: dict[str, float] = {}  # key -> when its status was last written
        self._sets.add_handler(self._handle_set)
        self._sets.add_index("controller", lambda o: [owner_uid(o)])
        context.pods.subscribe(self._handle_pods)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(self._flavour.gvr, PODS)
        await run_workers(self._queue, self._sync, WORKERS)

    # -- events

    def _handle_set(self, old: Object | None, new: Object | None) -> None:
        obj = new or old
        assert obj is not None
        key = _key(obj)
        replaced = old and new and old["metadata"]["uid"] != new["metadata"]["uid"]
        if new is None or replaced:
            self._expectations.forget(key)
            self._trusted.discard(key)
            self._written.pop(key, None)
        self._queue.add(key)

    def _handle_pods(self, changes: list[PodChange]) -> None:
        kind = self._flavour.kind.kind
        orphans: list[PodChange] = []
        for change in changes:
            before, after = change.before, change.after
            if before is not None and before.owner_kind == kind:
                gone = after is None or (
                    not before.terminating and "deletionTimestamp" in _meta(change.new)
                )
                if gone or before != after:
                    key = f"{before.namespace}/{before.owner_name}"
                    if gone:
                        self._expectations.deletion_observed(key, before.uid)
                    self._queue.add(key)
            if after is None or after == before:
                continue
            if after.owner_kind == kind:
                key = f"{after.namespace}/{after.owner_name}"
                if before is None:
                    self._expectations.creation_observed(key)
                self._queue.add(key)
            elif not after.owner_uid and (
                before is None or before.labels != after.labels or before.owner_uid
            ):
                orphans.append(change)
        if orphans:
            self._handle_orphans(orphans)

    def _handle_orphans(self, changes: list[PodChange]) -> None:
        """Wake every set that may adopt one of these pods; each label set is looked at once."""
        groups = {(c.after.namespace, c.after.labels) for c in changes if c.after is not None}
        for namespace, labels in groups:
            mapping = dict(labels)
            for candidate in self._sets.list():
                if candidate["metadata"]["namespace"] == namespace and self._selector(
                    candidate
                ).matches(mapping):
                    self._queue.add(_key(candidate))

    # -- one sync

    async def _sync(self, key: str) -> None:
        replica_set = self._sets.get(key)
        if replica_set is None:
            self._expectations.forget(key)
            return
        owned = self._context.pods.owned(replica_set["metadata"]["uid"])
        selector = self._selector(replica_set)
        claimed = await self._claim(replica_set, selector, owned)
        if claimed:
            return  # the patches come back as events
        diff: int = 0
        error: StatusError | None = None
        deleting = "deletionTimestamp" in replica_set["metadata"]
        if self._expectations.satisfied(key) and not deleting:
            wanted = int(replica_set["spec"].get("replicas", 1))
            diff = plan_replicas(wanted, owned.active, self._context.config.burst_replicas)
            if diff > 0:
                error = await self._create(key, replica_set, diff)
            elif diff < 0:
                error = await self._delete(key, replica_set, owned, -diff)
        await self._write_status(key, error, diff)
        if error is not None:
            raise error  # already reported as an event: try again later

    def _selector(self, replica_set: Object) -> LabelSelector:
        selector = replica_set["spec"].get("selector")
        if self._flavour is REPLICATIONCONTROLLER:
            return LabelSelector.from_map(selector or {})
        return LabelSelector.from_dict(selector)

    async def _claim(self, replica_set: Object, selector: LabelSelector, owned: OwnedPods) -> bool:
        """Adopt pods that match and have no controller, let go those that no longer match. True if
        any."""
        if "deletionTimestamp" in replica_set["metadata"]:
            return False
        namespace = replica_set["metadata"]["namespace"]
        patches: list[tuple[str, Object]] = []
        if not all(selector.matches(dict(labels)) for labels in owned.active_by_labels):
            for key in [
                k
                for k, f in owned.facts.items()
                if f.active and not selector.matches(dict(f.labels))
            ]:
                pod = self._pods.get(key)
                if pod is not None:
                    patches.append((pod["metadata"]["name"], release_patch(replica_set, pod)))
        adoptable = [
            key
            for labels, keys in self._context.pods.orphans(namespace).items()
            if selector.matches(dict(labels))
            for key in keys
        ]
        if adoptable and await self._may_adopt(replica_set):
            for key in adoptable:
                pod = self._pods.get(key)
                if pod is not None:
                    patch = adoption_patch(replica_set, self._flavour.kind, pod)
                    patches.append((pod["metadata"]["name"], patch))
        answers = await asyncio.gather(
            *(
                self._client.patch_nowait(
                    PODS, name, body, namespace, patch_type="strategic", answer="none"
                )
                for name, body in patches
            ),
            return_exceptions=True,
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, NotFound):
                raise answer
        return bool(patches)

    async def _may_adopt(self, replica_set: Object) -> bool:
        """Ask the API itself whether the set still is and is not being deleted
        (RecheckDeletionTimestamp)."""
        meta = replica_set["metadata"]
        try:
            fresh = await self._client.get(self._flavour.gvr, meta["name"], meta["namespace"])
        except NotFound:
            return False
        return (
            fresh["metadata"]["uid"] == meta["uid"] and "deletionTimestamp" not in fresh["metadata"]
        )

    async def _create(self, key: str, replica_set: Object, count: int) -> StatusError | None:
        """Create `count` pods in growing batches; why it stopped early."""
        namespace, name = split_key(key)
        reference = controller_ref(replica_set, self._flavour.kind)
        detail = {"owner": f"{self._flavour.kind.kind}/{name}"}
        pod = pod_from_template(
            replica_set["spec"]["template"], reference, generate_name=f"{name}-"
        )
        self._expectations.expect_creations(key, count)
        created = 0
        begun = self._context.clock.now()
        # Unlike Kubernetes: after a burst that went through whole, do not start at one.
        first = FAST_START if key in self._trusted else 1
        for size in slow_start(count, first):
            answers = await asyncio.gather(
                *(
                    self._client.create_nowait(PODS, pod, namespace, answer="meta")
                    for _ in range(size)
                ),
                return_exceptions=True,
            )
            made = self._context.clock.now()
            failure: BaseException | None = None
            for answer in answers:
                if isinstance(answer, BaseException):
                    failure = failure or answer
                    continue
                created += 1
                pod_name = answer["metadata"]["name"]
                self._recorder.event(
                    replica_set, "Normal", "SuccessfulCreate", f"Created pod: {pod_name}"
                )
                self._context.flow.report(
                    namespace, pod_name, {"controller": (begun, made)}, detail
                )
            if failure is not None:
                return self._creation_failed(key, replica_set, count - created, failure)
        self._trusted.add(key)
        self._context.metrics.pods_created.labels(self._flavour.queue).inc(created)
        return None

    def _creation_failed(
        self, key: str, replica_set: Object, missing: int, failure: BaseException
    ) -> StatusError | None:
        self._trusted.discard(key)
        self._expectations.creation_observed(key, missing)
        if not isinstance(failure, StatusError):
            raise failure
        if has_cause(failure, "NamespaceTerminating"):
            return None
        self._recorder.event(
            replica_set, "Warning", "FailedCreate", f"Error creating: {failure.message}"
        )
        return failure

    async def _delete(
        self, key: str, replica_set: Object, owned: OwnedPods, count: int
    ) -> StatusError | None:
        """Delete `count` pods, those least missed first; why one could not be."""
        namespace, _ = split_key(key)
        pods = [pod for k in owned.active_keys() if (pod := self._pods.get(k)) is not None]
        doomed = plan_deletions(
            pods, self._related_nodes(replica_set), count, self._context.clock.now()
        )
        self._expectations.expect_deletions(key, (p["metadata"]["uid"] for p in doomed))
        answers = await asyncio.gather(
            *(self._client.delete_nowait(PODS, p["metadata"]["name"], namespace) for p in doomed),
            return_exceptions=True,
        )
        error: StatusError | None = None
        for pod, answer in zip(doomed, answers, strict=True):
            name = pod["metadata"]["name"]
            if not isinstance(answer, BaseException):
                self._recorder.event(
                    replica_set, "Normal", "SuccessfulDelete", f"Deleted pod: {name}"
                )
                self._context.metrics.pods_deleted.labels(self._flavour.queue).inc()
                continue
            self._expectations.deletion_observed(key, pod["metadata"]["uid"])
            if isinstance(answer, NotFound):
                continue
            if not isinstance(answer, StatusError):
                raise answer
            error = error or answer
            self._recorder.event(
                replica_set, "Warning", "FailedDelete", f"Error deleting: {answer.message}"
            )
        return error

    def _related_nodes(self, replica_set: Object) -> list[str]:
        """Nodes of every active pod of the sets that share this one's owner (itself included)."""
        owner = owner_uid(replica_set)
        siblings = self._sets.by_index("controller", owner) if owner else [replica_set]
        owned = (self._context.pods.owned(s["metadata"]["uid"]) for s in siblings)
        return [f.node for o in owned for f in o.facts.values() if f.active]

    # -- status

    async def _write_status(self, key: str, error: StatusError | None, diff: int) -> None:
        replica_set = self._sets.get(key)
        if replica_set is None:
            return
        now, monotonic = self._context.clock.now(), self._context.clock.monotonic()
        counts = self._count(key, replica_set, now)
        status = replica_set_status(replica_set, counts, error.message if error else "", diff, now)
        if same_status(replica_set.get("status"), status):
            return
        period = self._context.config.status_batch_period
        old = replica_set.get("status") or {}
        if old.get("observedGeneration") != status.get("observedGeneration"):
            period = 0.0  # a Deployment waits to know that its new size is seen
        wait = self._written.get(key, -period) + period - monotonic
        if wait > 0:
            self._queue.add_after(key, wait)
            return
        self._written[key] = monotonic
        try:
            await self._client.update(
                self._flavour.gvr,
                {**replica_set, "status": status},
                subresource="status",
                answer="none",
            )
        except NotFound:
            return
        except Conflict:  # our copy is old: the newer one comes as an event
            self._queue.add_after(key, CONFLICT_SECONDS)

    def _count(self, key: str, replica_set: Object, now: float) -> Counts:
        owned = self._context.pods.owned(replica_set["metadata"]["uid"])
        # Unlike Kubernetes: pods just told to go are not counted, even before their events come.
        owned = owned.without(self._expectations.pending_deletions(key))
        spec = replica_set["spec"]
        wanted = (spec["template"].get("metadata") or {}).get("labels") or {}
        labeled = sum(
            n
            for labels, n in owned.active_by_labels.items()
            if wanted.items() <= dict(labels).items()
        )
        available = owned.ready
        if spec.get("minReadySeconds"):
            available = self._count_available(key, owned, int(spec["minReadySeconds"]), now)
        counts_terminating = (
            self._context.config.counts_terminating_replicas and self._flavour is REPLICASET
        )
        terminating = owned.terminating if counts_terminating else None
        return Counts(owned.active, labeled, owned.ready, available, terminating)

    def _count_available(self, key: str, owned: OwnedPods, min_ready: int, now: float) -> int:
        waits = [
            wait
            for k, facts in owned.facts.items()
            if facts.active
            and facts.ready
            and (pod := self._pods.get(k)) is not None
            and (wait := available_in(pod, min_ready, now)) is not None
        ]
        later = [w for w in waits if w > 0]
        if later:
            self._queue.add_after(key, min(later))
        return len(waits) - len(later)


def _key(obj: Object) -> str:
    meta = obj["metadata"]
    return f"{meta['namespace']}/{meta['name']}"


def _meta(obj: Object | None) -> Object:
    return obj["metadata"] if obj is not None else {}
