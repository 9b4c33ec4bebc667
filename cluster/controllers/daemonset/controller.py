"""The shell of the DaemonSet controller."""

from __future__ import annotations

import asyncio

from cluster.api.errors import Conflict, NotFound, StatusError
from cluster.api.meta import CONTROLLERREVISIONS, DAEMONSETS, NODES, PODS, Object
from cluster.api.selectors import LabelSelector
from cluster.client import run_workers
from cluster.controllers.context import ControllerContext
from cluster.controllers.controllerrevisions import HASH_LABEL as REVISION_HASH
from cluster.controllers.daemonset.placement import KIND, make_pod, node_of
from cluster.controllers.daemonset.plan import Plan, plan_daemon_set
from cluster.controllers.expectations import Expectations
from cluster.controllers.ownership import has_cause
from cluster.controllers.podindex import PodChange
from cluster.controllers.replicaset.replicas import same_status, slow_start
from cluster.controllers.workload import OwnedPodsView, RevisionHistory

WORKERS = 2
BURST = 250
RETRY_SECONDS = 0.1


class DaemonSetController:
    """Keeps one pod of every DaemonSet on each node it fits."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._recorder = context.recorder("daemonset-controller")
        self._queue = context.queue("daemonset")
        self._expectations = Expectations(context.clock)
        self._sets = context.informers.informer(DAEMONSETS)
        self._nodes = context.informers.informer(NODES)
        self._history = RevisionHistory(context, KIND)
        self._pods = OwnedPodsView(context, DAEMONSETS, KIND, self._queue)
        self._pods.subscribe(self._observe)
        self._sets.add_handler(self._handle)
        self._nodes.add_handler(self._handle_node)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(DAEMONSETS, PODS, NODES, CONTROLLERREVISIONS)
        await run_workers(self._queue, self._sync, WORKERS)

    def _handle(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        self._queue.add(f"{meta['namespace']}/{meta['name']}")

    def _handle_node(self, old: Object | None, new: Object | None) -> None:
        """Only what placement looks at matters: labels and taints."""
        if old is not None and new is not None and _placed_by(old) == _placed_by(new):
            return
        for daemon_set in self._sets.list():
            self._handle(None, daemon_set)

    def _observe(self, change: PodChange, key: str) -> None:
        if change.before is None:
            self._expectations.creation_observed(key)
        deleted = change.new is None or "deletionTimestamp" in change.new["metadata"]
        if deleted and change.before is not None:
            self._expectations.deletion_observed(key, change.before.uid)

    async def _sync(self, key: str) -> float | None:
        daemon_set = self._sets.get(key)
        if daemon_set is None:
            self._expectations.forget(key)
            return None
        selector = LabelSelector.from_dict(daemon_set["spec"].get("selector"))
        if selector.empty():
            message = "This daemon set is selecting all pods. A non-empty selector is required."
            self._recorder.event(daemon_set, "Warning", "SelectingAll", message)
            return None
        if "deletionTimestamp" in daemon_set["metadata"]:
            return None
        if await self._pods.claim(daemon_set, selector):
            return None
        history = await self._history.sync(daemon_set)
        digest = str(history.current["metadata"]["labels"][REVISION_HASH])
        by_node: dict[str, list[Object]] = {}
        for pod in self._pods.of(daemon_set):
            by_node.setdefault(node_of(pod), []).append(pod)
        now = self._context.clock.now()
        plan = plan_daemon_set(daemon_set, self._nodes.list(), by_node, digest, now)
        if self._expectations.satisfied(key):
            await self._apply(key, daemon_set, plan, digest)
            live = {
                r["metadata"]["name"]
                for r in history.others
                if any(
                    _hash_of(p) == r["metadata"]["labels"].get(REVISION_HASH)
                    for ps in by_node.values()
                    for p in ps
                )
            }
            await self._history.truncate(daemon_set, history, live)
        await self._write_status(key, daemon_set, plan)
        return plan.again

    async def _apply(self, key: str, daemon_set: Object, plan: Plan, digest: str) -> None:
        for pod in plan.failed:
            meta = pod["metadata"]
            where = f"{meta['namespace']}/{meta['name']} on node {node_of(pod)}"
            message = f"Found failed daemon pod {where}, will try to kill it"
            self._recorder.event(daemon_set, "Warning", "FailedDaemonPod", message)
        doomed = plan.doomed[:BURST]
        nodes = plan.nodes[:BURST]
        if doomed:
            self._expectations.expect_deletions(key, (p["metadata"]["uid"] for p in doomed))
            await self._delete(key, daemon_set, doomed)
        elif nodes:
            self._expectations.expect_creations(key, len(nodes))
            await self._create(key, daemon_set, nodes, digest)

    async def _create(self, key: str, daemon_set: Object, nodes: list[str], digest: str) -> None:
        namespace = daemon_set["metadata"]["namespace"]
        done = 0
        for size in slow_start(len(nodes)):
            batch = nodes[done : done + size]
            answers = await asyncio.gather(
                *(
                    self._client.create_nowait(
                        PODS, make_pod(daemon_set, node, digest), namespace, answer="meta"
                    )
                    for node in batch
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
                self._recorder.event(daemon_set, "Normal", "SuccessfulCreate", message)
            if failure is not None:
                self._expectations.creation_observed(key, len(nodes) - done)
                if not isinstance(failure, StatusError):
                    raise failure
                if has_cause(failure, "NamespaceTerminating"):
                    return
                message = f"Error creating: {failure.message}"
                self._recorder.event(daemon_set, "Warning", "FailedCreate", message)
                raise failure

    async def _delete(self, key: str, daemon_set: Object, pods: list[Object]) -> None:
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
            self._recorder.event(daemon_set, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")

    async def _write_status(self, key: str, daemon_set: Object, plan: Plan) -> None:
        if same_status(daemon_set.get("status"), plan.status):
            return
        try:
            await self._client.update(
                DAEMONSETS,
                {**daemon_set, "status": plan.status},
                subresource="status",
                answer="none",
            )
        except NotFound:
            return
        except Conflict:
            self._queue.add_after(key, RETRY_SECONDS)


def _placed_by(node: Object) -> tuple[object, object]:
    return node["metadata"].get("labels"), node.get("spec", {}).get("taints")


def _hash_of(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get("controller-revision-hash", ""))
