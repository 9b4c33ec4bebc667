"""Deletes pods from nodes whose NoExecute taints they do not tolerate, at once or after
tolerationSeconds.

Plays pkg/controller/tainteviction. Only pods of tainted nodes are ever looked at.
"""

from __future__ import annotations

import asyncio

from cluster.api.errors import NotFound
from cluster.api.meta import NODES, PODS, Object, rfc3339, split_key
from cluster.client import run_workers
from cluster.controllers.context import ControllerContext
from cluster.controllers.podindex import PodChange

WORKERS = 100


def no_execute_taints(node: Object) -> list[Object]:
    return [t for t in node.get("spec", {}).get("taints") or () if t["effect"] == "NoExecute"]


def tolerates(toleration: Object, taint: Object) -> bool:
    """v1helper.ToleratesTaint for a NoExecute taint."""
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    key = toleration.get("key", "")
    if key and key != taint["key"]:
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    return bool(
        operator == "Equal" and key and toleration.get("value", "") == taint.get("value", "")
    )


def plan_stay(pod: Object, taints: list[Object]) -> float | None:
    """Seconds that a pod may stay on a node with these taints: 0 none at all, None for ever."""
    tolerations = (pod.get("spec") or {}).get("tolerations") or []
    seconds: list[float] = []
    for taint in taints:
        matching = [t for t in tolerations if tolerates(t, taint)]
        if not matching:
            return 0.0
        seconds.extend(
            max(0.0, float(t["tolerationSeconds"]))
            for t in matching
            if t.get("tolerationSeconds") is not None
        )
    return min(seconds, default=None)


class TaintEvictionController:
    """Evicts pods by taints."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._recorder = context.recorder("taint-eviction-controller")
        self._queue = context.queue("noexec_taint_pod")
        self._tainted: dict[str, list[Object]] = {}
        self._deadlines: dict[str, float] = {}  # pod key -> monotonic
        self._since: dict[str, float] = {}  # pod key -> when its present stay began
        self._nodes = context.informers.informer(NODES)
        self._pods = context.informers.informer(PODS)
        self._nodes.add_handler(self._handle_node)
        context.pods.subscribe(self._handle_pods)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(NODES, PODS)
        await run_workers(self._queue, self._sync, WORKERS)

    def _handle_node(self, old: Object | None, new: Object | None) -> None:
        obj = new or old
        assert obj is not None
        name = obj["metadata"]["name"]
        taints = no_execute_taints(new) if new is not None else []
        if taints == self._tainted.get(name, []):
            return
        if taints:
            self._tainted[name] = taints
        else:
            self._tainted.pop(name, None)
        for key in self._context.pods.on_node(name):
            self._queue.add(key)

    def _handle_pods(self, changes: list[PodChange]) -> None:
        if not self._tainted and not self._since:
            return
        for change in changes:
            after = change.after
            if after is None:
                self._forget(change.key)
            elif after.node in self._tainted and (
                change.before is None
                or change.before.node != after.node
                or (change.old or {}).get("spec") != (change.new or {}).get("spec")
            ):
                self._queue.add(change.key)

    def _forget(self, key: str) -> None:
        self._since.pop(key, None)
        self._deadlines.pop(key, None)

    async def _sync(self, key: str) -> float | None:
        pod = self._pods.get(key)
        if pod is None or "deletionTimestamp" in pod["metadata"]:
            self._forget(key)
            return None
        taints = self._tainted.get((pod.get("spec") or {}).get("nodeName", ""))
        if not taints:
            if key in self._deadlines:
                message = f"Cancelling deletion of Pod {key}"
                self._recorder.event(pod, "Normal", "TaintManagerEviction", message)
            self._forget(key)
            return None
        stay = plan_stay(pod, taints)
        if stay is None:
            self._forget(key)
            return None
        monotonic = self._context.clock.monotonic()
        deadline = self._since.setdefault(key, monotonic) + stay
        self._deadlines[key] = deadline
        if deadline > monotonic:
            return deadline - monotonic
        await self._delete(key, pod)
        return None

    async def _delete(self, key: str, pod: Object) -> None:
        namespace, name = split_key(key)
        message = f"Marking for deletion Pod {key}"
        self._recorder.event(pod, "Normal", "TaintManagerEviction", message)
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "lastTransitionTime": rfc3339(self._context.clock.now()),
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
        }
        try:
            marked = self._client.patch_nowait(
                PODS,
                name,
                {"status": {"conditions": [condition]}},
                namespace,
                patch_type="strategic",
                subresource="status",
                answer="none",
            )
            deleted = self._client.delete_nowait(PODS, name, namespace, uid=pod["metadata"]["uid"])
            await asyncio.gather(marked, deleted)
        except NotFound:
            pass
        self._context.metrics.taint_deletions.inc()
        self._forget(key)
