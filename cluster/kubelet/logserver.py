"""/containerLogs: one container's log, whole, its tail, or as it grows.

Plays the log half of pkg/kubelet/server and pkg/kubelet/kuberuntime/logs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cluster.api.errors import BadRequest
from cluster.api.meta import parse_rfc3339
from cluster.httpserver import Request, Response, StreamResponse
from cluster.kubelet.podstate import ContainerView
from cluster.runtime.logs import LogOptions, show
from cluster.runtime.model import Container

if TYPE_CHECKING:
    from cluster.kubelet.worker import PodWorker


def container_log(
    worker: PodWorker, view: ContainerView, request: Request
) -> Response | StreamResponse:
    """Raises BadRequest in upstream's words when there is no such instance."""
    container = _instance(worker, view, request.parameter("previous") in ("true", "1"))
    runtime = worker.node.context.runtime
    log = runtime.log_of(container.id)
    options = _options(request, worker.node.context.clock.now())
    lines = log.read(options)
    follow = request.parameter("follow") in ("true", "1")
    if not follow or container.state == "exited":
        return Response(200, b"".join(lines), "text/plain")
    stop: Callable[[], None] = lambda: None  # noqa: E731

    def begin(stream: StreamResponse) -> None:
        nonlocal stop
        stream.write_nowait(b"".join(lines)) if lines else None

        def line(data: bytes | None) -> None:
            # A reader too slow for its buffer is cut off, as is one whose container ended.
            if data is None or not stream.write_nowait(show(data, options.timestamps)):
                stream.close()

        stop = log.follow(line)

    return StreamResponse(200, content_type="text/plain", on_start=begin, on_close=lambda: stop())


def _instance(worker: PodWorker, view: ContainerView, previous: bool) -> Container:
    state = worker.state
    where = f'container "{view.name}" in pod "{state.name}"'
    if previous:
        found = view.previous
        if found is None:
            raise BadRequest(f"previous terminated {where} not found")
        return found
    if view.current is None:
        reason = view.waiting_reason or "ContainerCreating"
        if not view.waiting_reason and state.pod["spec"].get("initContainers"):
            reason = "PodInitializing"
        if view.waiting_message and reason.endswith(("Pull", "BackOff", "ImageName")):
            raise BadRequest(f"{where} is waiting to start: {_wait_words(reason)}")
        raise BadRequest(f"{where} is waiting to start: {reason}")
    return view.current


def _wait_words(reason: str) -> str:
    if reason in ("ErrImagePull", "ImagePullBackOff"):
        return "trying and failing to pull image"
    return reason


def _options(request: Request, now: float) -> LogOptions:
    tail = _number(request, "tailLines")
    limit = _number(request, "limitBytes")
    seconds = _number(request, "sinceSeconds")
    since = 0.0
    if text := request.parameter("sinceTime"):
        try:
            since = parse_rfc3339(text)
        except ValueError as error:
            raise BadRequest(f"sinceTime: {error}") from error
    if seconds >= 0:
        since = now - seconds
    timestamps = request.parameter("timestamps") in ("true", "1")
    return LogOptions(tail, limit, since, timestamps)


def _number(request: Request, name: str) -> int:
    text = request.parameter(name)
    if not text:
        return -1
    if not text.isdigit():
        raise BadRequest(f"{name} must be a non-negative number")
    return int(text)
