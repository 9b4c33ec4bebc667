"""What a kubelet knows of one pod, and what to do about it: the decisions of a pod worker.

Plays computePodActions of pkg/kubelet/kuberuntime/kuberuntime_manager.go. Synchronous and pure but
for the state it is given: `plan_actions` looks at spec, containers and back-offs and names the next
steps; worker.py takes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from cluster.api.meta import Object
from cluster.kubelet.backoff import Backoff
from cluster.runtime.model import Container, Sandbox

ContainerKind = Literal["init", "sidecar", "container"]
_FIELDS = {"init": "initContainers", "sidecar": "initContainers", "container": "containers"}


@dataclass(slots=True)
class ContainerView:
    """One container of the spec with its latest and its previous instance.

    `started`: startup probe passed (or none) and postStart done. `ready`: readiness probe passes
    (or none). `waiting_*`: why there is no instance, or none again."""

    spec: Object
    kind: ContainerKind
    current: Container | None = None
    previous: Container | None = None
    started: bool = False
    ready: bool = False
    waiting_reason: str = ""
    waiting_message: str = ""
    crash_loop: str = ""
    restarts: int = 0

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def running(self) -> bool:
        return self.current is not None and self.current.state == "running"

    @property
    def exited(self) -> bool:
        return self.current is not None and self.current.state == "exited"

    @property
    def succeeded(self) -> bool:
        return self.current is not None and self.exited and self.current.exit_code == 0

    @property
    def field_path(self) -> str:
        """involvedObject.fieldPath of its events."""
        return f"spec.{_FIELDS[self.kind]}{{{self.name}}}"


@dataclass(slots=True)
class PodState:
    """One pod on its node. `pod` is the API's latest object, shared with the informer: never
    changed."""

    pod: Object
    uid: str
    views: list[ContainerView]
    sandbox: Sandbox | None = None
    start_time: float = 0.0
    reason: str = ""
    message: str = ""
    failed: bool = False
    """Failed for good by the node itself (refused, evicted, deadline)."""
    sandbox_attempts: int = 0

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def restart_policy(self) -> str:
        return str(self.pod["spec"].get("restartPolicy") or "Always")

    def view(self, name: str) -> ContainerView:
        return next(v for v in self.views if v.name == name)

    def init_views(self) -> Iterator[ContainerView]:
        return (v for v in self.views if v.kind != "container")

    def main_views(self) -> Iterator[ContainerView]:
        return (v for v in self.views if v.kind == "container")


@dataclass(slots=True)
class Actions:
    """The next steps: containers to start in order, a time to look again (0: none), and whether
    the pod has come to its end."""

    start: list[ContainerView] = field(default_factory=list)
    look_again_at: float = 0.0
    finished: bool = False
    backed_off: list[ContainerView] = field(default_factory=list)


def new_state(pod: Object) -> PodState:
    """A pod that was just seen."""
    spec = pod["spec"]
    views = [
        ContainerView(c, "sidecar" if c.get("restartPolicy") == "Always" else "init")
        for c in spec.get("initContainers") or ()
    ]
    views += [ContainerView(c, "container") for c in spec["containers"]]
    return PodState(pod, pod["metadata"]["uid"], views)


def plan_actions(state: PodState, backoff: Backoff, now: float) -> Actions:
    """What to do with a pod whose sandbox is ready. `now` in seconds since the epoch."""
    actions = Actions()
    if state.failed or _is_over(state):
        actions.finished = True
        return actions
    initialised = any(v.current is not None for v in state.main_views())
    for view in state.init_views():
        if view.kind == "init" and initialised:
            continue
        if view.current is None:
            actions.start.append(view)
            return actions
        if view.kind == "sidecar":
            if view.exited:
                _restart(state, view, backoff, now, actions)
                if not initialised:
                    return actions
            elif not view.started and not initialised:
                return actions
            continue
        if not view.exited:
            return actions
        if not view.succeeded:
            # _is_over answered for restartPolicy Never: here it is tried again.
            _restart(state, view, backoff, now, actions)
            return actions
    for view in state.main_views():
        if view.current is None:
            actions.start.append(view)
        elif view.exited and wants_restart(state, view):
            _restart(state, view, backoff, now, actions)
    return actions


def wants_restart(state: PodState, view: ContainerView) -> bool:
    """restartPolicy applied to a container that ended."""
    if view.kind == "sidecar":
        return True
    policy = view.spec.get("restartPolicy") or state.restart_policy
    code = view.current.exit_code if view.current is not None else 0
    for rule in view.spec.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        inside = code in (codes.get("values") or ())
        if rule.get("action") == "Restart" and inside == (codes.get("operator") == "In"):
            return True
    if view.kind == "init":
        return policy != "Never" and code != 0
    return bool(policy == "Always" or (policy == "OnFailure" and code != 0))


def backoff_key(state: PodState, view: ContainerView) -> str:
    return f"{state.uid}/{view.name}"


def _restart(
    state: PodState, view: ContainerView, backoff: Backoff, now: float, actions: Actions
) -> None:
    """Start again, unless the back-off says later."""
    assert view.current is not None
    key = backoff_key(state, view)
    until = backoff.waits_until(key, view.current.finished_at, now)
    if until == 0.0:
        actions.start.append(view)
        return
    delay = go_duration(backoff.get(key))
    where = f"{state.name}_{state.namespace}({state.uid})"
    view.crash_loop = f"back-off {delay} restarting failed container={view.name} pod={where}"
    actions.backed_off.append(view)
    actions.look_again_at = min(until, actions.look_again_at or until)


def _is_over(state: PodState) -> bool:
    """Every main container ended for good, or an init container failed for good."""
    for view in state.init_views():
        failed = view.kind == "init" and view.exited and not view.succeeded
        if failed and not wants_restart(state, view):
            return not any(v.running for v in state.main_views())
    return all(v.exited and not wants_restart(state, v) for v in state.main_views())


def go_duration(seconds: float) -> str:
    """time.Duration's text, for whole milliseconds and up: 10s, 1m20s, 5m0s, 1.5s, 250ms."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if seconds > 0 else "0s"
    whole, millis = divmod(round(seconds * 1000), 1000)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    tail = f"{secs}.{millis:03d}".rstrip("0").rstrip(".") if millis else str(secs)
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if hours or minutes else ""
    return f"{text}{tail}s"
