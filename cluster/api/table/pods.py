"""Pods: READY, STATUS and RESTARTS as printPod works them out of container statuses."""

from __future__ import annotations

from typing import Any

from cluster.api.meta import Object
from cluster.api.table.columns import layout
from cluster.api.table.durations import age, since

_NONE = "<none>"
_COMPLETED = {
    "Succeeded": "The pod has completed successfully.",
    "Failed": "The pod failed.",
}


def row_conditions(pod: Object) -> list[Object]:
    """Marks rows of finished pods, so that clients may leave them out."""
    phase = (pod.get("status") or {}).get("phase", "")
    message = _COMPLETED.get(phase)
    if message is None:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": message}]


class _Tally:
    """What one pass over the container statuses adds up to."""

    __slots__ = ("last", "ready", "reason", "restarts", "sidecar_last", "sidecar_restarts", "total")

    def __init__(self, reason: str, total: int) -> None:
        self.reason = reason
        self.total = total
        self.ready = 0
        self.restarts = self.sidecar_restarts = 0
        self.last = self.sidecar_last = ""

    def count(self, container: Object) -> None:
        self.restarts += container.get("restartCount") or 0
        self.last = max(self.last, _finished(container))


def _finished(container: Object) -> str:
    terminated = (container.get("lastState") or {}).get("terminated") or {}
    return str(terminated.get("finishedAt") or "")


def pod_cells(pod: Object, now: float) -> list[Any]:
    meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    tally = _tally(spec, status)
    reason = tally.reason
    if meta.get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    restarts = str(tally.restarts)
    if tally.restarts and tally.last:
        restarts += f" ({since(tally.last, now)} ago)"
    ips = status.get("podIPs") or ()
    return [
        meta["name"],
        f"{tally.ready}/{tally.total}",
        reason,
        restarts,
        age(pod, now),
        (ips[0].get("ip") if ips else status.get("podIP")) or _NONE,
        spec.get("nodeName") or _NONE,
        status.get("nominatedNodeName") or _NONE,
        _readiness_gates(spec, status),
    ]


def _tally(spec: Object, status: Object) -> _Tally:
    tally = _Tally(
        status.get("reason") or status.get("phase") or "", len(spec.get("containers") or ())
    )
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    if (conditions.get("PodScheduled") or {}).get("reason") == "SchedulingGated":
        tally.reason = "SchedulingGated"
    initializing = _count_init_containers(tally, spec, status)
    if not initializing or (conditions.get("Initialized") or {}).get("status") == "True":
        tally.restarts, tally.last = tally.sidecar_restarts, tally.sidecar_last
        running = _count_containers(tally, status)
        if tally.reason == "Completed" and running:
            ready = (conditions.get("Ready") or {}).get("status") == "True"
            tally.reason = "Running" if ready else "NotReady"
    return tally


def _count_init_containers(tally: _Tally, spec: Object, status: Object) -> bool:
    """Counts them; answers whether one of them is still to finish."""
    declared = spec.get("initContainers") or ()
    sidecars = {c["name"] for c in declared if c.get("restartPolicy") == "Always"}
    tally.total += len(sidecars)
    for i, container in enumerate(status.get("initContainerStatuses") or ()):
        tally.count(container)
        sidecar = container.get("name") in sidecars
        if sidecar:
            tally.sidecar_restarts += container.get("restartCount") or 0
            tally.sidecar_last = max(tally.sidecar_last, _finished(container))
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if sidecar and container.get("started"):
            tally.ready += bool(container.get("ready"))
            continue
        if terminated is not None:
            tally.reason = "Init:" + _termination(terminated)
        elif waiting.get("reason") and waiting["reason"] != "PodInitializing":
            tally.reason = "Init:" + waiting["reason"]
        else:
            tally.reason = f"Init:{i}/{len(declared)}"
        return True
    return False


def _count_containers(tally: _Tally, status: Object) -> bool:
    """Counts them, last to first; answers whether one is running and ready."""
    running = False
    for container in reversed(status.get("containerStatuses") or ()):
        tally.count(container)
        state = container.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            tally.reason = waiting["reason"]
        elif terminated is not None:
            tally.reason = _termination(terminated)
        elif container.get("ready") and state.get("running") is not None:
            running = True
            tally.ready += 1
    return running


def _termination(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _readiness_gates(spec: Object, status: Object) -> str:
    gates = spec.get("readinessGates")
    if not gates:
        return _NONE
    true = {c["type"] for c in status.get("conditions") or () if c.get("status") == "True"}
    passed = sum(gate.get("conditionType") in true for gate in gates)
    return f"{passed}/{len(gates)}"


LAYOUTS = {
    ("", "Pod"): layout(
        "Name|Ready|Status|Restarts|Age|IP*|Node*|Nominated Node*|Readiness Gates*", pod_cells
    ),
}
