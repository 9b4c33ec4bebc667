"""Pods that nobody else would ever remove (pkg/controller/podgc).

Ended pods beyond a threshold, pods of nodes that no longer exist, pods deleted before they had a
node, pods of nodes tainted out-of-service.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from cluster.api.errors import NotFound, StatusError
from cluster.api.meta import NODES, PODS, Object, rfc3339
from cluster.controllers.context import ControllerContext
from cluster.controllers.node.taints import ready_status

log = logging.getLogger("kubestage.controllers.podgc")

QUARANTINE_SECONDS = 40.0
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


@dataclass(frozen=True, slots=True)
class Removal:
    """One pod to delete at once, and the cause."""

    pod: Object
    reason: str  # label of the metric
    message: str = ""  # of the DisruptionTarget condition; '' for none


class PodGarbageCollector:
    """Looks over all pods every `pod_gc_period` seconds."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._missing: dict[str, float] = {}  # node -> since when it is not there
        self._pods = context.informers.informer(PODS)
        self._nodes = context.informers.informer(NODES)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(PODS, NODES)
        while True:
            await asyncio.sleep(self._context.config.pod_gc_period)
            try:
                await self.collect()
            except StatusError as error:  # the next pass tries again
                log.info("pod garbage collector: %s", error)

    async def collect(self) -> None:
        """One pass."""
        pods = self._pods.list()
        removals = [
            *plan_terminated(pods, self._context.config.terminated_pod_gc_threshold),
            *plan_unscheduled(pods),
            *self._out_of_service(pods),
            *await self._orphaned(),
        ]
        await asyncio.gather(*(self._remove(r) for r in removals))

    def _out_of_service(self, pods: list[Object]) -> list[Removal]:
        nodes = {
            n["metadata"]["name"]
            for n in self._nodes.list()
            if ready_status(n) != "True"
            and any(t["key"] == OUT_OF_SERVICE for t in n.get("spec", {}).get("taints") or ())
        }
        if not nodes:
            return []
        return [
            Removal(p, "out-of-service")
            for p in pods
            if "deletionTimestamp" in p["metadata"] and p.get("spec", {}).get("nodeName") in nodes
        ]

    async def _orphaned(self) -> list[Removal]:
        """Pods of nodes that are missing for 40 s and that the API does not know either."""
        now = self._context.clock.monotonic()
        gone: list[str] = []
        candidates = [n for n in self._context.pods.nodes_with_pods() if self._nodes.get(n) is None]
        self._missing = {n: self._missing.get(n, now) for n in candidates}
        for node, since in self._missing.items():
            if now - since < QUARANTINE_SECONDS:
                continue
            try:
                await self._client.get(NODES, node)
            except NotFound:
                gone.append(node)
        keys = [key for node in gone for key in self._context.pods.on_node(node)]
        pods = [p for k in keys if (p := self._pods.get(k)) is not None]
        return [Removal(p, "orphaned", "PodGC: node no longer exists") for p in pods]

    async def _remove(self, removal: Removal) -> None:
        meta = removal.pod["metadata"]
        status = removal.pod.get("status") or {}
        try:
            if removal.message and status.get("phase") not in ("Succeeded", "Failed"):
                await self._client.patch(
                    PODS,
                    meta["name"],
                    self._failed(removal.message),
                    meta["namespace"],
                    patch_type="strategic",
                    subresource="status",
                    answer="none",
                )
            await self._client.delete(
                PODS, meta["name"], meta["namespace"], grace_seconds=0, uid=meta["uid"]
            )
        except NotFound:
            return
        except StatusError:
            return  # the next pass tries again
        self._context.metrics.pod_gc_deletions.labels(meta["namespace"], removal.reason).inc()

    def _failed(self, message: str) -> Object:
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByPodGC",
            "message": message,
            "lastTransitionTime": rfc3339(self._context.clock.now()),
        }
        return {"status": {"phase": "Failed", "conditions": [condition]}}


def plan_terminated(pods: list[Object], threshold: int) -> list[Removal]:
    """The oldest ended pods beyond `threshold` (0: never); evicted ones first."""
    if threshold <= 0:
        return []
    ended = [
        p
        for p in pods
        if (p.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        and "deletionTimestamp" not in p["metadata"]
    ]
    surplus = len(ended) - threshold
    if surplus <= 0:
        return []
    ended.sort(
        key=lambda p: (
            not _is_evicted(p),
            p["metadata"].get("creationTimestamp", ""),
            p["metadata"]["name"],
        )
    )
    return [Removal(p, "terminated") for p in ended[:surplus]]


def plan_unscheduled(pods: list[Object]) -> list[Removal]:
    """Pods deleted before a node was found: no kubelet will finish their deletion."""
    return [
        Removal(p, "unscheduled")
        for p in pods
        if "deletionTimestamp" in p["metadata"] and not p.get("spec", {}).get("nodeName")
    ]


def _is_evicted(pod: Object) -> bool:
    return bool((pod.get("status") or {}).get("reason") == "Evicted")
