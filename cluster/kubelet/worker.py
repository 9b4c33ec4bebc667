"""One pod's worker: takes the steps that podstate.py plans, one at a time.

Plays pkg/kubelet/pod_workers.go with the SyncPod half of kuberuntime. A worker has no task while
its pod is at rest: an event (a change in the API, an exit, a probe, a timer) wakes it, it plans and
acts until there is nothing to do, writes the status and is gone again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from cluster.api.meta import Object, parse_rfc3339
from cluster.kubelet import containers, messages, termination
from cluster.kubelet.podstate import (
    ContainerView,
    PodState,
    backoff_key,
    new_state,
    plan_actions,
)
from cluster.kubelet.podstatus import pod_status, refused_status
from cluster.kubelet.probes import Prober
from cluster.kubelet.sandbox import sandbox_config
from cluster.kubelet.volumes import MountFailed
from cluster.runtime.model import Container, RuntimeFailure, Sandbox

if TYPE_CHECKING:
    from cluster.kubelet.node import NodeAgent

log = logging.getLogger(__name__)
MOUNT_RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 122.0)
SANDBOX_RETRY_SECONDS = 1.0


class Interrupted(Exception):
    """The pod is to end: drop what is under way."""


class PodWorker:
    """Call `handle_*` from the event loop; everything else happens by itself."""

    __slots__ = (
        "_deadline",
        "_dirty",
        "_mount_tries",
        "_side",
        "_slow",
        "_task",
        "_timers",
        "_waiting",
        "admitted",
        "announced",
        "deleted",
        "finished",
        "marks",
        "node",
        "probers",
        "seen_at",
        "state",
        "terminating",
    )

    def __init__(self, node: NodeAgent, pod: Object) -> None:
        self.node = node
        self.state: PodState = new_state(pod)
        self.seen_at = node.context.clock.now()
        self.probers: dict[str, list[Prober]] = {}
        self.marks: dict[str, tuple[float, float]] = {}
        self.admitted = False
        self.announced = bool((pod.get("status") or {}).get("containerStatuses"))
        self.terminating = False
        self.finished = False
        self.deleted = False
        self._task: asyncio.Task[None] | None = None
        self._waiting: asyncio.Future[Any] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._dirty = False
        self._slow: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._mount_tries = 0
        self._side: set[asyncio.Task[None]] | None = None

    # -- events ----------

    def handle_pod(self, pod: Object) -> None:
        """The API's object was seen, new or changed."""
        old, self.state.pod = self.state.pod, pod
        meta = pod["metadata"]
        if meta.get("deletionTimestamp"):
            if not self.terminating:
                self.terminating = True
                self._interrupt()
            self.wake()
            return
        if old is pod:
            self.wake()
        elif meta.get("generation") != old["metadata"].get("generation"):
            containers.handle_spec(self)
            self.wake()
        elif pod["spec"].get("readinessGates") and self.admitted:
            self.publish()

    def handle_gone(self) -> None:
        """The object is gone from the API (removed with grace 0): end what still runs."""
        self.deleted = True
        if not self.terminating:
            self.terminating = True
            self._interrupt()
        self.wake()

    def handle_exit(self, container: Container) -> None:
        """A container of ours ended."""
        view = self.state.view(container.config.name)
        containers.stop_probes(self, view.name)
        containers.read_termination_message(self, view, container)
        if view.current is not container:
            return
        view.started = view.ready = False
        if not self.terminating:
            self.wake()

    def adopt(self, sandbox: Sandbox, found: list[Container]) -> None:
        """After a restart of this process: what the runtime found again."""
        containers.adopt(self, sandbox, found)

    def wake(self) -> None:
        """Look at the pod soon."""
        self._dirty = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def wake_at(self, when: float, cause: str) -> None:
        """Look again at a wall-clock time; a later call for the same cause replaces this one."""
        timer = self._timers.pop(cause, None)
        if timer is not None:
            timer.cancel()
        loop = asyncio.get_running_loop()
        delay = max(0.0, when - self.node.context.clock.now())
        self._timers[cause] = loop.call_later(delay, self._timer_fired, cause)

    def close(self) -> None:
        """Let go of tasks and timers; the pod itself stays as it is."""
        for name in list(self.probers):
            containers.stop_probes(self, name)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._cancel_slow()
        for task in (self._task, *(self._side or ())):
            if task is not None:
                task.cancel()

    # -- turns ----------

    async def _run(self) -> None:
        context = self.node.context
        try:
            while self._dirty:
                self._dirty = False
                started = context.clock.monotonic()
                try:
                    if self.terminating:
                        await termination.terminate(self)
                        return
                    await self._sync()
                except Interrupted:
                    self._dirty = True
                kind = "create" if not self.finished and self.state.sandbox else "sync"
                seconds = context.clock.monotonic() - started
                context.metrics.pod_worker_seconds.labels(kind).observe(seconds)
        except Exception:
            # A bug must not leave the pod without a worker: say so and look again later.
            log.exception("sync of %s/%s", self.state.namespace, self.state.name)
            self.wake_at(context.clock.now() + 10.0, "bug")
        finally:
            self._task = None
            if self._dirty and not self.finished:
                self.wake()

    async def _sync(self) -> None:
        """One turn towards what the spec wants."""
        state, context = self.state, self.node.context
        if not self.admitted and self.node.mismatch(state.pod):
            # Labels may have changed since the node was last read: look before refusing.
            await self.node.refresh()
        if self.finished or not self._admit():
            return
        if context.clock.now() >= self._deadline > 0:
            await self._exceed_deadline()
            return
        # Awaited only when something is missing: the usual pod passes without a pause.
        if not context.volumes.ready(state.pod) and not await self._mount():
            return
        if (state.sandbox is None or not state.sandbox.ready) and not await self._make_sandbox():
            return
        while True:
            now = context.clock.now()
            actions = plan_actions(state, self.node.crash_backoff, now)
            for view in actions.backed_off:
                self._tell_crash_loop(view)
            if actions.finished:
                await termination.finish(self)
                return
            progressed = False
            for view in actions.start:
                self.check_interrupt()
                progressed = await containers.start(self, view) or progressed
            if not progressed:
                break
        if actions.look_again_at:
            self.wake_at(actions.look_again_at, "crash")
        self.publish()

    def _admit(self) -> bool:
        """True if the pod is (now) ours to run."""
        if self.admitted:
            return True
        state, context = self.state, self.node.context
        if (state.pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            self.finished = True
            return False
        state.start_time = context.clock.now()
        status = state.pod.get("status") or {}
        if status.get("startTime"):
            state.start_time = parse_rfc3339(status["startTime"])
        refusal = self.node.admit(state.uid, state.pod)
        if refusal is not None:
            self.node.warn(
                state.pod, refusal.reason, refusal.message.removeprefix("Pod was rejected: ")
            )
            state.failed, state.reason, state.message = True, refusal.reason, refusal.message
            self.finished = True
            status = refused_status(state, context.config.minor)
            context.statuses.publish(self.node.client, state.pod, status)
            return False
        self.admitted = True
        seconds = state.pod["spec"].get("activeDeadlineSeconds")
        if seconds:
            self._deadline = state.start_time + seconds
            self.wake_at(self._deadline, "deadline")
        loop = asyncio.get_running_loop()
        if "containerStatuses" not in status:
            self._slow = loop.call_later(context.config.slow_start_seconds, self._publish_slow)
        return True

    async def _mount(self) -> bool:
        """Wait for what the volumes are made of; False: tried, to be tried again."""
        state, context = self.state, self.node.context
        started = context.clock.now()
        try:
            await self.wait(context.volumes.wait_sources(self.node.client, state.pod))
        except MountFailed as error:
            tries = min(self._mount_tries, len(MOUNT_RETRY_SECONDS) - 1)
            self._mount_tries += 1
            self.node.warn(state.pod, "FailedMount", str(error))
            self.wake_at(context.clock.now() + MOUNT_RETRY_SECONDS[tries], "mount")
            return False
        self._mount_tries = 0
        self.marks["volumes"] = (started, context.clock.now())
        return True

    async def _make_sandbox(self) -> bool:
        state, context = self.state, self.node.context
        if state.sandbox is not None:
            await self._drop_sandbox()
        if not self.node.pod_cidr and not state.pod["spec"].get("hostNetwork"):
            self.wake_at(context.clock.now() + SANDBOX_RETRY_SECONDS, "network")
            text = (
                "network is not ready: container runtime network not ready: NetworkReady=false "
                "reason:NetworkPluginNotReady message:Network plugin returns error: "
                "cni plugin not initialized"
            )
            self.node.warn(state.pod, "NetworkNotReady", text)
            return False
        config = sandbox_config(self.node, state)
        started = context.clock.now()
        try:
            state.sandbox = await context.runtime.run_pod_sandbox(config)
        except RuntimeFailure as error:
            context.metrics.started_pods_errors.inc()
            text = f"Failed to create pod sandbox: {error}"
            self.node.warn(state.pod, "FailedCreatePodSandBox", text)
            self.wake_at(context.clock.now() + SANDBOX_RETRY_SECONDS, "sandbox")
            return False
        state.sandbox_attempts += 1
        self.marks["cni"] = (started, context.clock.now())
        context.metrics.started_pods.inc()
        return True

    async def _drop_sandbox(self) -> None:
        """The sandbox is gone (its network was lost): everything in it starts anew."""
        state, context = self.state, self.node.context
        assert state.sandbox is not None
        text = "Pod sandbox changed, it will be killed and re-created."
        self.node.normal(state.pod, "SandboxChanged", text)
        for view in state.views:
            if view.running and view.current is not None:
                context.runtime.kill_container(view.current.id)
        await context.runtime.stop_pod_sandbox(state.sandbox.id)

    async def _exceed_deadline(self) -> None:
        state = self.state
        state.failed, state.reason = True, "DeadlineExceeded"
        state.message = "Pod was active on the node longer than the specified deadline"
        self.node.normal(state.pod, "DeadlineExceeded", state.message)
        await termination.finish(self)

    # -- what the other files of a worker use ----------

    async def wait(self, awaitable: Any) -> Any:
        """Wait for something that the pod's end may interrupt. Raises Interrupted."""
        self._waiting = asyncio.ensure_future(awaitable)
        try:
            return await self._waiting
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.terminating and task is not None and not task.cancelling():
                raise Interrupted from None
            raise
        finally:
            self._waiting = None

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Something beside the turns (killing an unhealthy container)."""
        side = self._side = self._side if self._side is not None else set()
        task = asyncio.get_running_loop().create_task(work)
        side.add(task)
        task.add_done_callback(side.discard)

    def check_interrupt(self) -> None:
        if self.terminating:
            raise Interrupted

    def publish(self) -> None:
        """Bring the API's status up to date."""
        status = self.current_status()
        self._cancel_slow()
        self.node.context.statuses.publish(self.node.client, self.state.pod, status)
        if not self.announced and status["phase"] == "Running":
            self.announced = True
            self._announce()

    def current_status(self) -> Object:
        context = self.node.context
        now = context.clock.now()
        return pod_status(self.state, self.node.spec.ip, context.config.minor, now)

    def release(self) -> None:
        """The node's room is free again."""
        self.node.allocations.release(self.state.uid)
        for view in self.state.views:
            self.node.crash_backoff.reset(backoff_key(self.state, view))
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._cancel_slow()

    def _announce(self) -> None:
        """The pod runs for the first time: count how long it took, and tell the flow log."""
        state, context = self.state, self.node.context
        now = context.clock.now()
        created = parse_rfc3339(state.pod["metadata"]["creationTimestamp"])
        pulling = sum(end - start for key, (start, end) in self.marks.items() if key == "pull")
        context.metrics.pod_start_seconds.observe(max(0.0, now - self.seen_at))
        context.metrics.pod_start_sli_seconds.observe(max(0.0, now - created - pulling))
        first = min(
            (v.current.created_at for v in state.main_views() if v.current is not None),
            default=now,
        )
        marks = {
            "kubelet": (self.seen_at, self.marks.get("cni", (now, now))[0]),
            **{k: v for k, v in self.marks.items() if not k.startswith("pull:")},
            "containers": (first, now),
        }
        detail: Object = {"node": self.node.name}
        if state.sandbox is not None:
            detail["ip"] = state.sandbox.ip
        context.flow.report(state.namespace, state.name, marks, detail)

    def _tell_crash_loop(self, view: ContainerView) -> None:
        state = self.state
        text = messages.crash_backoff(view.name, state.name, state.namespace, state.uid)
        self.node.warn(state.pod, "BackOff", text, view.field_path)

    def _publish_slow(self) -> None:
        """The start takes long: show what there is."""
        self._slow = None
        if not self.terminating:
            self.publish()

    def _cancel_slow(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _interrupt(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    def _timer_fired(self, cause: str) -> None:
        self._timers.pop(cause, None)
        self.wake()
