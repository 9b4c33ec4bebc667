"""The end of a pod: hooks, signals, sandbox, last status, removal.

Plays SyncTerminatingPod/SyncTerminatedPod of pkg/kubelet/kubelet.go and killContainer of
kuberuntime.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cluster.kubelet import containers, messages
from cluster.kubelet.podstate import ContainerView

if TYPE_CHECKING:
    from cluster.kubelet.worker import PodWorker

MINIMUM_GRACE_SECONDS = 2


async def terminate(worker: PodWorker) -> None:
    """Stop everything, free the network, write the last status and delete the object."""
    state, context = worker.state, worker.node.context
    if not worker.finished:
        await _stop_all(worker, _grace_seconds(worker))
    # A pod that never started anything has no ended containers to show.
    shown = worker.current_status() if any(v.current for v in state.views) else None
    sandbox = state.sandbox
    if sandbox is not None:
        await context.runtime.stop_pod_sandbox(sandbox.id)
        shown = worker.current_status() if shown is not None else None
    if not worker.deleted:
        already = worker.finished
        last = None if already else shown
        context.statuses.publish_and_delete(worker.node.client, state.pod, last)
    worker.finished = True
    for view in state.views:
        for container in (view.current, view.previous):
            if container is not None:
                context.by_container.pop(container.id, None)
    if sandbox is not None:
        await context.runtime.remove_pod_sandbox(sandbox.id)
    context.volumes.remove(state.uid)
    context.volumes.forget_tokens(state.uid)
    worker.release()
    if worker.deleted:
        context.statuses.forget(state.uid)
        worker.node.workers.pop(state.uid, None)


async def finish(worker: PodWorker) -> None:
    """The pod came to its end by itself: sidecars stop, the address is freed, the status stays."""
    context, state = worker.node.context, worker.state
    await _stop_all(worker, state.pod["spec"].get("terminationGracePeriodSeconds", 30))
    worker.finished = True
    if state.sandbox is not None:
        await context.runtime.stop_pod_sandbox(state.sandbox.id)
    worker.publish()
    worker.release()


async def stop_container(
    worker: PodWorker, view: ContainerView, grace_seconds: float, message: str
) -> None:
    """Killing event, preStop hook, SIGTERM, SIGKILL."""
    container = view.current
    if container is None or not view.running:
        return
    context, state = worker.node.context, worker.state
    worker.node.normal(state.pod, "Killing", message, view.field_path)
    hook = (view.spec.get("lifecycle") or {}).get("preStop")
    remaining = float(grace_seconds)
    if hook is not None and grace_seconds > 0:
        started = context.clock.monotonic()
        try:
            async with asyncio.timeout(grace_seconds):
                verdict = await containers.ask_handler(worker, view, container, hook, grace_seconds)
            if not verdict.ok:
                worker.node.warn(
                    state.pod, "FailedPreStopHook", "PreStopHook failed", view.field_path
                )
        except TimeoutError:
            pass
        remaining -= context.clock.monotonic() - started
        remaining = max(remaining, MINIMUM_GRACE_SECONDS)
    await context.runtime.stop_container(container.id, remaining)


async def _stop_all(worker: PodWorker, grace_seconds: float) -> None:
    """Main and init containers at once, then the sidecars in reverse order."""
    state = worker.state
    for name in list(worker.probers):
        containers.stop_probes(worker, name)
    main = [v for v in state.views if v.running and v.kind != "sidecar"]
    if len(main) == 1:
        await stop_container(worker, main[0], grace_seconds, messages.stopping(main[0].name))
    elif main:
        await asyncio.gather(
            *(stop_container(worker, v, grace_seconds, messages.stopping(v.name)) for v in main)
        )
    for view in reversed([v for v in state.views if v.kind == "sidecar"]):
        await stop_container(worker, view, grace_seconds, messages.stopping(view.name))


def _grace_seconds(worker: PodWorker) -> float:
    meta, spec = worker.state.pod["metadata"], worker.state.pod["spec"]
    grace = meta.get("deletionGracePeriodSeconds")
    if grace is None:
        grace = spec.get("terminationGracePeriodSeconds", 30)
    return float(grace)
