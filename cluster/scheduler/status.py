"""What the scheduler tells the world about a pod: its PodScheduled condition, its nomination,
events.

Plays handleSchedulingFailure and the recorder calls of schedule_one.go and preemption.go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from cluster.api.errors import NotFound, StatusError
from cluster.api.meta import PODS, Clock, Object, rfc3339
from cluster.client import Client, EventRecorder
from cluster.scheduler.cache import PodInfo

log = logging.getLogger(__name__)

NOTE_LIMIT = 1024


class PodStatusWriter:
    """Nothing waits for these writes; an answer that matters comes back through the informer."""

    def __init__(self, client: Client, recorder: EventRecorder, clock: Clock) -> None:
        self._client = client
        self._recorder = recorder
        self._clock = clock

    def scheduled(self, pod: PodInfo, node: str) -> None:
        note = f"Successfully assigned {pod.namespace}/{pod.name} to {node}"
        self._recorder.event(pod.obj, "Normal", "Scheduled", note, action="Binding")

    def skipped(self, pod: PodInfo) -> None:
        note = f"skip schedule deleting pod: {pod.key}"
        self._recorder.event(pod.obj, "Warning", "FailedScheduling", note, action="Scheduling")

    def failed(
        self, pod: PodInfo, reason: str, message: str, *, nominate: str | None = None
    ) -> None:
        """Event FailedScheduling, and the condition if it says something new."""
        note = message if len(message) <= NOTE_LIMIT else message[: NOTE_LIMIT - 4] + " ..."
        self._recorder.event(pod.obj, "Warning", "FailedScheduling", note, action="Scheduling")
        status: dict[str, Any] = {}
        condition = self._condition(pod.obj, reason, message)
        if condition is not None:
            status["conditions"] = [condition]
        current = (pod.obj.get("status") or {}).get("nominatedNodeName") or ""
        if nominate or (nominate == "" and current):
            status["nominatedNodeName"] = nominate or None
        if status:
            self._patch(pod, status)

    def preempt(self, pod: PodInfo, node: str, victims: Sequence[PodInfo]) -> None:
        """Say on each victim who it yields to, then delete it with its own grace period."""
        now = rfc3339(self._clock.now())
        for victim in victims:
            if victim.obj["metadata"].get("deletionTimestamp"):
                continue
            condition = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": f"{pod.shape.scheduler_name}: preempting to accommodate a higher "
                "priority pod",
                "lastTransitionTime": now,
            }
            self._patch(victim, {"conditions": [condition]})
            future = self._client.delete_nowait(PODS, victim.name, victim.namespace, uid=victim.uid)
            future.add_done_callback(_log_failure)
            self._recorder.event(
                victim.obj, "Normal", "Preempted",
                f"Preempted by pod {pod.uid} on node {node}", action="Preempting", related=pod.obj,
            )  # fmt: skip

    def _condition(self, obj: Object, reason: str, message: str) -> Object | None:
        before: Object = {}
        for each in (obj.get("status") or {}).get("conditions") or ():
            if each.get("type") == "PodScheduled":
                before = each
        if before.get("status") == "False":
            if before.get("reason") == reason and before.get("message") == message:
                return None
            since = before.get("lastTransitionTime")
        else:
            since = rfc3339(self._clock.now())
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": since,
            "lastProbeTime": None,
        }
        generation = obj["metadata"].get("generation")
        if generation:
            condition["observedGeneration"] = generation
        return condition

    def _patch(self, pod: PodInfo, status: dict[str, Any]) -> None:
        future = self._client.patch_nowait(
            PODS, pod.name, {"metadata": {"uid": pod.uid}, "status": status}, pod.namespace,
            patch_type="strategic", subresource="status", answer="none",
        )  # fmt: skip
        future.add_done_callback(_log_failure)


def _log_failure(future: asyncio.Future[Object]) -> None:
    if future.cancelled():
        return
    error = future.exception()
    if isinstance(error, NotFound):
        return
    if isinstance(error, StatusError):
        log.warning("status of a pod was not written: %s", error)
    elif error is not None:
        raise error
