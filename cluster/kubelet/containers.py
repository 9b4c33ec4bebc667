"""Starting, probing and watching the containers of one pod.

Plays startContainer of pkg/kubelet/kuberuntime, pkg/kubelet/images and the worker side of
pkg/kubelet/prober. Functions over a PodWorker: they hold no state of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cluster.api.meta import Object
from cluster.kubelet import messages
from cluster.kubelet.environment import ConfigError, container_environment, needs_lookup, references
from cluster.kubelet.handlers import Target, Verdict, run_handler
from cluster.kubelet.podstate import ContainerView, backoff_key
from cluster.kubelet.probes import SPEC_FIELDS, Prober, ProbeType
from cluster.kubelet.sandbox import container_config
from cluster.kubelet.volumes import MountFailed
from cluster.runtime.images import Image
from cluster.runtime.model import (
    Container,
    ImageNotFound,
    InvalidImageName,
    RuntimeFailure,
    Sandbox,
)

if TYPE_CHECKING:
    from cluster.kubelet.worker import PodWorker

FALLBACK_LINES = 80
FALLBACK_BYTES = 2048
CONFIG_RETRY_SECONDS = 10.0


async def start(worker: PodWorker, view: ContainerView) -> bool:
    """Bring one container up; False: it waits for something, and the worker will be woken."""
    node, state, context = worker.node, worker.state, worker.node.context
    if await _ensure_image(worker, view) is None:
        return False
    assert state.sandbox is not None
    restart = view.current is not None
    config = None
    try:
        env = await _environment_at_start(worker, view)
        mounts = context.volumes.mounts(state.pod, view.spec)
        if restart:
            view.restarts += 1
        config = container_config(state, view, mounts, env)
        if context.runtime.needs_files(config):
            await context.volumes.materialise(node.client, state.pod, state.sandbox.ip)
    except (ConfigError, MountFailed) as error:
        if restart and config is not None:
            view.restarts -= 1
        _wait_for_config(worker, view, str(error))
        return False
    if restart and view.current is not None:
        node.crash_backoff.next(backoff_key(state, view), context.clock.now())
        await _replace_instance(worker, view)
    container = await context.runtime.create_container(state.sandbox.id, config)
    minor = context.config.minor
    node.normal(state.pod, "Created", messages.created(view.name, minor), view.field_path)
    context.by_container[container.id] = worker
    view.current = container
    view.crash_loop = view.waiting_reason = view.waiting_message = ""
    await context.runtime.start_container(container.id)
    node.normal(state.pod, "Started", messages.started(view.name, minor), view.field_path)
    kind = "init_container" if view.kind != "container" else "container"
    context.metrics.started_containers.labels(kind).inc()
    if not await _post_start(worker, view, container):
        return True
    view.started = "startupProbe" not in view.spec
    view.ready = "readinessProbe" not in view.spec and view.started
    start_probes(worker, view)
    return True


def handle_spec(worker: PodWorker) -> None:
    """The spec changed: an image may have (nothing else of a running container can)."""
    state, context = worker.state, worker.node.context
    spec = worker.state.pod["spec"]
    fresh = {c["name"]: c for c in (*(spec.get("initContainers") or ()), *spec["containers"])}
    for view in state.views:
        new = fresh.get(view.name)
        if new is None:
            continue
        changed = new["image"] != view.spec["image"]
        view.spec = new
        if changed and view.running and view.current is not None and view.kind != "init":
            text = f"Container {view.name} definition changed, will be restarted"
            worker.node.normal(state.pod, "Killing", text, view.field_path)
            worker.node.crash_backoff.reset(backoff_key(state, view))
            context.runtime.kill_container(view.current.id)


def adopt(worker: PodWorker, sandbox: Sandbox, found: list[Container]) -> None:
    """Take over what the runtime found again after a restart of this process."""
    state, context = worker.state, worker.node.context
    state.sandbox = sandbox
    state.sandbox_attempts = sandbox.config.attempt + 1
    known = _known_statuses(state.pod)
    for container in found:
        view = next((v for v in state.views if v.name == container.config.name), None)
        if view is None:
            continue
        view.previous, view.current = view.current, container
        view.restarts = container.config.attempt
    for view in state.views:
        if view.current is None:
            continue
        context.by_container[view.current.id] = worker
        if view.running:
            status = known.get(view.name) or {}
            view.started = bool(status.get("started")) or "startupProbe" not in view.spec
            view.ready = bool(status.get("ready")) or (
                "readinessProbe" not in view.spec and view.started
            )
            start_probes(worker, view)


def start_probes(worker: PodWorker, view: ContainerView) -> None:
    """Start asking what the container's spec asks for."""
    if view.current is None or view.kind == "init":
        return
    container = view.current
    probers: list[Prober] = []
    for type_, field in SPEC_FIELDS.items():
        spec = view.spec.get(field)
        if spec is None or (type_ == "startup" and view.started):
            continue

        async def ask(spec: Object, timeout: float) -> Verdict:
            return await _ask(worker, view, container, spec, timeout)

        def tell(type_: ProbeType, value: bool, verdict: Verdict, changed: bool) -> None:
            _handle_probe(worker, view, type_, value, verdict, changed)

        probers.append(Prober(type_, spec, ask, tell))
    if probers:
        worker.probers[view.name] = probers
        age = worker.node.context.clock.now() - container.started_at
        for prober in probers:
            if prober.type == "startup" or view.started:
                prober.start(age)


def stop_probes(worker: PodWorker, name: str) -> None:
    for prober in worker.probers.pop(name, ()):
        prober.stop()


def read_termination_message(worker: PodWorker, view: ContainerView, container: Container) -> None:
    """The message that the container left, or the end of its log if it may stand for one."""
    runtime = worker.node.context.runtime
    path = view.spec.get("terminationMessagePath") or "/dev/termination-log"
    if runtime.root_dir(container.id) is not None:
        file, _ = runtime.files_of(container).find(path, "/")
        if file.is_file():
            container.message = file.read_bytes()[:4096].decode(errors="replace")
    if container.message or container.exit_code == 0:
        return
    if view.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        log = runtime.log_of(container.id)
        container.message = log.tail_bytes(FALLBACK_LINES, FALLBACK_BYTES)


def full_environment(worker: PodWorker, view: ContainerView) -> dict[str, str]:
    """The container's environment from what has been read. Raises ConfigError."""
    state, context = worker.state, worker.node.context
    namespace = state.namespace
    ip = state.sandbox.ip if state.sandbox is not None else ""
    host = worker.node.spec.ip
    status = {"podIP": ip, "podIPs": ip, "hostIP": host, "hostIPs": host}
    links = state.pod["spec"].get("enableServiceLinks", True) is not False
    return container_environment(
        state.pod,
        view.spec,
        lambda kind, name: context.sources.peek(kind, namespace, name),
        context.services_of(namespace, links),
        status,
    )


async def _environment_at_start(worker: PodWorker, view: ContainerView) -> Mapping[str, str]:
    """What the start needs: nothing for a server, whose environment nobody reads until exec."""
    context = worker.node.context
    if needs_lookup(view.spec):
        for kind, name in references(view.spec):
            await worker.wait(
                context.sources.get(worker.node.client, kind, worker.state.namespace, name)
            )
        return full_environment(worker, view)
    if view.spec.get("command") or view.spec.get("args"):
        return full_environment(worker, view)
    return {}


async def _ensure_image(worker: PodWorker, view: ContainerView) -> Image | None:
    """The image on the node, pulled if need be; None: it is waited for."""
    node, state, context = worker.node, worker.state, worker.node.context
    name, runtime = view.spec["image"], context.runtime
    try:
        present = runtime.image_status(node.name, name)
    except InvalidImageName as error:
        text = f'Failed to apply default image tag "{name}": {error}'
        node.warn(state.pod, "InspectFailed", text, view.field_path)
        _fail_image(worker, view, "InvalidImageName", text)
        return None
    policy = view.spec.get("imagePullPolicy") or "IfNotPresent"
    if present is not None and policy != "Always":
        text = messages.present(name, context.config.minor)
        node.normal(state.pod, "Pulled", text, view.field_path)
        return present
    if policy == "Never":
        text = messages.never_pull(name)
        node.warn(state.pod, "ErrImageNeverPull", text, view.field_path)
        _fail_image(worker, view, "ErrImageNeverPull", text)
        return None
    key = f"{state.uid}_{name}"
    now = context.clock.now()
    until = node.image_backoff.waits_until(key, worker.marks.get("pull:" + name, (0, 0))[1], now)
    if until:
        node.normal(state.pod, "BackOff", messages.pull_backoff(name), view.field_path)
        text = f"{messages.pull_backoff(name)}: ErrImagePull: {_last_pull_error(view)}"
        _fail_image(worker, view, "ImagePullBackOff", text, until)
        return None
    return await _pull(worker, view, key)


async def _pull(worker: PodWorker, view: ContainerView, key: str) -> Image | None:
    node, state, context = worker.node, worker.state, worker.node.context
    name = view.spec["image"]
    node.normal(state.pod, "Pulling", messages.pulling(name), view.field_path)
    started = context.clock.now()
    try:
        result = await worker.wait(context.runtime.pull_image(node.name, name))
    except ImageNotFound as error:
        now = context.clock.now()
        node.image_backoff.next(key, now)
        worker.marks["pull:" + name] = (started, now)
        node.warn(state.pod, "Failed", messages.pull_failed(name, str(error)), view.field_path)
        _fail_image(worker, view, "ErrImagePull", str(error), now + 1.0)
        return None
    worker.marks["pull"] = (started, context.clock.now())
    image: Image = result.image
    text = messages.pulled(name, result.seconds, result.seconds_with_waiting, image.size_bytes)
    node.normal(state.pod, "Pulled", text, view.field_path)
    return image


def _last_pull_error(view: ContainerView) -> str:
    return view.waiting_message.rpartition("ErrImagePull: ")[2]


def _fail_image(
    worker: PodWorker, view: ContainerView, reason: str, text: str, again_at: float = 0.0
) -> None:
    context = worker.node.context
    view.waiting_reason, view.waiting_message = reason, text
    worker.node.warn(worker.state.pod, "Failed", f"Error: {reason}", view.field_path)
    worker.publish()
    worker.wake_at(again_at or context.clock.now() + CONFIG_RETRY_SECONDS, "image:" + view.name)


def _wait_for_config(worker: PodWorker, view: ContainerView, text: str) -> None:
    view.waiting_reason, view.waiting_message = "CreateContainerConfigError", text
    worker.node.warn(worker.state.pod, "Failed", f"Error: {text}", view.field_path)
    worker.publish()
    now = worker.node.context.clock.now()
    worker.wake_at(now + CONFIG_RETRY_SECONDS, "config:" + view.name)


async def _replace_instance(worker: PodWorker, view: ContainerView) -> None:
    """The ended instance becomes the previous one; the one before it is removed."""
    context = worker.node.context
    if view.previous is not None:
        context.by_container.pop(view.previous.id, None)
        await context.runtime.remove_container(view.previous.id)
    view.previous, view.current = view.current, None


async def _post_start(worker: PodWorker, view: ContainerView, container: Container) -> bool:
    """The postStart hook, if any; False: it failed and the container is being killed."""
    hook = (view.spec.get("lifecycle") or {}).get("postStart")
    if hook is None:
        return True
    verdict = await worker.wait(ask_handler(worker, view, container, hook, 3600.0))
    if verdict.ok:
        return True
    node, state = worker.node, worker.state
    node.warn(state.pod, "FailedPostStartHook", "PostStartHook failed", view.field_path)
    node.normal(state.pod, "Killing", "FailedPostStartHook", view.field_path)
    worker.node.context.runtime.kill_container(container.id)
    return False


async def ask_handler(
    worker: PodWorker, view: ContainerView, container: Container, handler: Object, timeout: float
) -> Verdict:
    """Run a probe's or hook's handler against a container."""
    state, context = worker.state, worker.node.context
    assert state.sandbox is not None
    env = None
    if "exec" in handler:
        try:
            env = full_environment(worker, view)
            await context.volumes.materialise(worker.node.client, state.pod, state.sandbox.ip)
        except (ConfigError, MountFailed) as error:
            return Verdict(False, str(error), unknown=True)
    target = Target(state.sandbox, container, view.spec, env)
    agent = f"kube-probe/1.{context.config.minor}"
    return await run_handler(context.runtime, target, handler, timeout, agent)


async def _ask(
    worker: PodWorker, view: ContainerView, container: Container, spec: Object, timeout: float
) -> Verdict:
    try:
        return await ask_handler(worker, view, container, spec, timeout)
    except RuntimeFailure as error:
        return Verdict(False, str(error), unknown=True)


def _handle_probe(
    worker: PodWorker,
    view: ContainerView,
    type_: ProbeType,
    value: bool,
    verdict: Verdict,
    changed: bool,
) -> None:
    """One result of a probe is in."""
    state, context = worker.state, worker.node.context
    if worker.terminating or not view.running:
        return
    result = "successful" if verdict.ok else ("unknown" if verdict.unknown else "failed")
    context.metrics.probes.labels(type_.capitalize(), result).inc()
    if not verdict.ok:
        text = messages.probe_failed(type_, verdict.output, unknown=verdict.unknown)
        worker.node.warn(state.pod, "Unhealthy", text, view.field_path)
    if not changed:
        return
    if type_ == "readiness":
        view.ready = value and view.started
        worker.publish()
    elif not value:
        worker.spawn(_kill_unhealthy(worker, view, type_))
    elif type_ == "startup":
        _started(worker, view)


def _started(worker: PodWorker, view: ContainerView) -> None:
    """The startup probe passed: the others may ask now."""
    view.started = True
    view.ready = "readinessProbe" not in view.spec
    assert view.current is not None
    age = worker.node.context.clock.now() - view.current.started_at
    for prober in worker.probers.get(view.name, ()):
        if prober.type == "startup":
            prober.stop()
        else:
            prober.start(age)
    worker.wake()


async def _kill_unhealthy(worker: PodWorker, view: ContainerView, type_: ProbeType) -> None:
    from cluster.kubelet.termination import stop_container

    text = messages.probe_kill(view.name, type_)
    spec = view.spec.get(SPEC_FIELDS[type_]) or {}
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is None:
        grace = worker.state.pod["spec"].get("terminationGracePeriodSeconds", 30)
    stop_probes(worker, view.name)
    await stop_container(worker, view, grace, text)


def _known_statuses(pod: Object) -> dict[str, Object]:
    status = pod.get("status") or {}
    listed = [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]
    return {s["name"]: s for s in listed}
