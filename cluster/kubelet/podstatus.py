"""A pod's status as its kubelet writes it.

Plays generateAPIPodStatus and convertToAPIContainerStatuses of pkg/kubelet/kubelet_pods.go and
pkg/kubelet/status/generate.go. Pure: PodState and the clock in, v1.PodStatus out, in upstream's
words.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from cluster.api.meta import Object
from cluster.api.meta import rfc3339 as format_time
from cluster.kubelet.podstate import ContainerView, PodState, wants_restart
from cluster.kubelet.qos import qos_class
from cluster.runtime.model import Container

_OWN = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


@lru_cache(maxsize=256)
def _stamp(second: int) -> str:
    return format_time(second)


def rfc3339(seconds: float) -> str:
    """As meta.rfc3339; a pod's status has seven times, most of them of the same second."""
    return _stamp(int(seconds))


def pod_status(state: PodState, host_ip: str, minor: int, now: float) -> Object:
    """The whole status, foreign conditions of the API's object included. `minor`: Kubernetes
    version."""
    pod = state.pod
    old = pod.get("status") or {}
    init = [container_status(state, v, minor) for v in state.views if v.kind != "container"]
    main = [container_status(state, v, minor) for v in state.views if v.kind == "container"]
    phase = pod_phase(state)
    status: Object = {"phase": phase}
    if minor >= 34 and (generation := pod["metadata"].get("generation")):
        status["observedGeneration"] = generation
    status["conditions"] = _conditions(state, phase, init, main, minor, now)
    if state.reason or (old.get("reason") and state.failed):
        status["reason"] = state.reason
    if state.message:
        status["message"] = state.message
    status["hostIP"] = host_ip
    status["hostIPs"] = [{"ip": host_ip}]
    ip = state.sandbox.ip if state.sandbox is not None else ""
    if ip:
        status["podIP"] = ip
        status["podIPs"] = [{"ip": ip}]
    status["startTime"] = rfc3339(state.start_time)
    if init:
        status["initContainerStatuses"] = init
    if not state.failed or any(v.current for v in state.views):
        status["containerStatuses"] = main
    status["qosClass"] = old.get("qosClass") or qos_class(pod)
    return status


def refused_status(state: PodState, minor: int) -> Object:
    """Of a pod that the node did not take: as short as upstream's rejectPod makes it."""
    old = state.pod.get("status") or {}
    status: Object = {
        "phase": "Failed",
        "reason": state.reason,
        "message": state.message,
        "qosClass": old.get("qosClass") or qos_class(state.pod),
        "startTime": rfc3339(state.start_time),
    }
    if minor >= 34 and (generation := state.pod["metadata"].get("generation")):
        status["observedGeneration"] = generation
    return status


def pod_phase(state: PodState) -> str:
    """Pending, Running, Succeeded or Failed (getPhase)."""
    if state.failed:
        return "Failed"
    old = (state.pod.get("status") or {}).get("phase")
    if old in ("Succeeded", "Failed") and not any(v.current for v in state.views):
        return str(old)
    for view in state.init_views():
        if view.kind == "init":
            if view.exited and not view.succeeded and not wants_restart(state, view):
                return "Failed"
            if not view.succeeded and not any(v.current for v in state.main_views()):
                return "Pending"
        elif view.current is None or (
            not view.started and not any(v.current for v in state.main_views())
        ):
            return "Pending"
    running = waiting = stopped = failed = 0
    for view in state.main_views():
        if view.current is None or view.current.state == "created":
            waiting += view.previous is None
            stopped += view.previous is not None
        elif view.running:
            running += 1
        else:
            stopped += 1
            failed += not view.succeeded
    if waiting:
        return "Pending"
    if running:
        return "Running"
    if any(v.exited and wants_restart(state, v) for v in state.main_views()):
        return "Running"
    if stopped:
        return "Failed" if failed else "Succeeded"
    return "Pending"


def container_status(state: PodState, view: ContainerView, minor: int) -> Object:
    """One v1.ContainerStatus."""
    current = view.current
    status: Object = {
        "name": view.name,
        "state": _state(state, view),
        "lastState": {},
        "ready": view.succeeded if view.kind == "init" else view.running and view.ready,
        "restartCount": view.restarts,
        "image": current.image_ref if current else view.spec["image"],
        "imageID": current.image_id if current else "",
        "started": view.running and view.started,
    }
    if view.kind == "init" and not view.running:
        status["started"] = False
    last = view.previous
    if current is not None and current.state == "exited" and "waiting" in status["state"]:
        last = current
    if last is not None and last.state == "exited":
        status["lastState"] = {"terminated": _terminated(last)}
    if current is not None:
        status["containerID"] = f"containerd://{current.id}"
        if current.state == "running":
            _running_fields(status, state, view, minor)
    if minor >= 31 and (mounts := view.spec.get("volumeMounts")):
        status["volumeMounts"] = [_mount(m) for m in mounts]
    return status


def _running_fields(status: Object, state: PodState, view: ContainerView, minor: int) -> None:
    if minor >= 33:
        resources = view.spec.get("resources") or {}
        if requests := resources.get("requests"):
            status["allocatedResources"] = requests
        status["resources"] = {k: v for k, v in resources.items() if k != "claims"}
        pod_context = state.pod["spec"].get("securityContext") or {}
        context = view.spec.get("securityContext") or {}
        uid = context.get("runAsUser", pod_context.get("runAsUser", 0))
        gid = context.get("runAsGroup", pod_context.get("runAsGroup", 0))
        groups = {gid, *(pod_context.get("supplementalGroups") or ())}
        if (fs_group := pod_context.get("fsGroup")) is not None:
            groups.add(fs_group)
        status["user"] = {"linux": {"uid": uid, "gid": gid, "supplementalGroups": sorted(groups)}}


def _mount(mount: Object) -> Object:
    status = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        status["readOnly"] = True
        status["recursiveReadOnly"] = "Disabled"
    return status


def _state(state: PodState, view: ContainerView) -> Object:
    current = view.current
    if current is None or current.state == "created":
        if view.waiting_reason:
            waiting = {"reason": view.waiting_reason}
            if view.waiting_message:
                waiting["message"] = view.waiting_message
            return {"waiting": waiting}
        inits = state.pod["spec"].get("initContainers")
        return {"waiting": {"reason": "PodInitializing" if inits else "ContainerCreating"}}
    if current.state == "running":
        return {"running": {"startedAt": rfc3339(current.started_at)}}
    if view.waiting_reason:
        return {"waiting": {"reason": view.waiting_reason, "message": view.waiting_message}}
    if view.crash_loop:
        return {"waiting": {"reason": "CrashLoopBackOff", "message": view.crash_loop}}
    return {"terminated": _terminated(current)}


def _terminated(container: Container) -> Object:
    state: Object = {
        "exitCode": container.exit_code,
        "reason": container.reason,
        "startedAt": rfc3339(container.started_at),
        "finishedAt": rfc3339(container.finished_at),
        "containerID": f"containerd://{container.id}",
    }
    if container.message:
        state["message"] = container.message
    if container.reason == "OOMKilled":
        state["exitCode"] = container.exit_code or 137
    return state


def _conditions(
    state: PodState,
    phase: str,
    init: Sequence[Object],
    main: Sequence[Object],
    minor: int,
    now: float,
) -> list[Object]:
    pod = state.pod
    old = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or ()}
    ready = _containers_ready(state, phase, init, main)
    made: dict[str, tuple[str, str, str]] = {}
    if minor >= 29:
        sandbox = state.sandbox is not None and state.sandbox.ready
        made["PodReadyToStartContainers"] = ("True" if sandbox else "False", "", "")
    made["Initialized"] = _initialized(state, phase, init)
    made["Ready"] = _pod_ready(pod, old, ready)
    made["ContainersReady"] = ready
    made["PodScheduled"] = ("True", "", "")
    generation = pod["metadata"].get("generation") if minor >= 34 else None
    stamp = rfc3339(now)
    result: list[Object] = []
    for type_, (value, reason, message) in made.items():
        was = old.pop(type_, None)
        condition: Object = {"type": type_, "status": value}
        if generation:
            condition["observedGeneration"] = generation
        same = was is not None and was["status"] == value
        since = was.get("lastTransitionTime") if same and was is not None else None
        condition["lastTransitionTime"] = since or stamp
        if reason:
            condition["reason"] = reason
        if message:
            condition["message"] = message
        result.append(condition)
    return [*result, *old.values()]


def _containers_ready(
    state: PodState, phase: str, init: Sequence[Object], main: Sequence[Object]
) -> tuple[str, str, str]:
    if phase == "Succeeded":
        return ("False", "PodCompleted", "")
    if phase == "Failed":
        return ("False", "PodFailed", "")
    by_name = {s["name"]: s for s in (*init, *main)}
    unready = [v.name for v in state.views if v.kind != "init" and not by_name[v.name]["ready"]]
    if unready:
        names = " ".join(unready)
        return ("False", "ContainersNotReady", f"containers with unready status: [{names}]")
    return ("True", "", "")


def _initialized(state: PodState, phase: str, init: Sequence[Object]) -> tuple[str, str, str]:
    if phase == "Succeeded":
        return ("True", "PodCompleted", "")
    if any(v.current is not None for v in state.main_views()):
        return ("True", "", "")
    missing = [
        v.name
        for v, s in zip(state.init_views(), init, strict=True)
        if not (s["started"] if v.kind == "sidecar" else s["ready"])
    ]
    if missing:
        names = " ".join(missing)
        message = f"containers with incomplete status: [{names}]"
        return ("False", "ContainersNotInitialized", message)
    return ("True", "", "")


def _pod_ready(
    pod: Object, conditions: dict[str, Object], ready: tuple[str, str, str]
) -> tuple[str, str, str]:
    if ready[0] != "True":
        return ready
    problems = []
    for gate in pod["spec"].get("readinessGates") or ():
        name = gate["conditionType"]
        condition = conditions.get(name)
        if condition is None:
            problems.append(
                f'corresponding condition of pod readiness gate "{name}" does not exist.'
            )
        elif condition["status"] != "True":
            value = condition["status"]
            problems.append(f'the status of pod readiness gate "{name}" is not "True", but {value}')
    if problems:
        return ("False", "ReadinessGatesNotReady", ", ".join(problems))
    return ("True", "", "")
