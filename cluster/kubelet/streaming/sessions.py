"""What exec, attach and port-forward do, whatever protocol carries them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

from cluster.api.errors import BadRequest
from cluster.httpserver import Request, Response
from cluster.kubelet.containers import full_environment
from cluster.kubelet.environment import ConfigError, references
from cluster.kubelet.podstate import ContainerView
from cluster.kubelet.streaming import portforward
from cluster.kubelet.streaming.channels import ERROR, RESIZE, STDERR, STDIN, STDOUT, Channels
from cluster.kubelet.streaming.spdychannels import open_spdy
from cluster.kubelet.streaming.websocket import WebSocket, WebSocketChannels, is_websocket
from cluster.kubelet.volumes import MountFailed
from cluster.runtime import commands
from cluster.runtime.logs import show
from cluster.runtime.model import ExecResult, RuntimeFailure
from cluster.runtime.network import ExecProcess
from cluster.runtime.pipes import read_fd, write_fd

if TYPE_CHECKING:
    from cluster.kubelet.worker import PodWorker

SUCCESS = {"metadata": {}, "status": "Success"}


async def serve_exec(worker: PodWorker, view: ContainerView, request: Request) -> Response | None:
    """/exec: one command in the pod's namespaces, its streams over the connection."""
    argv = request.query.get("command") or []
    if not argv:
        raise BadRequest("you must specify at least 1 command for exec")
    if view.current is None or not view.running:
        raise BadRequest(f"container not found ({_quoted(view.name)})")
    tty = _flag(request, "tty")
    channels = await _open(request)
    await _exec(worker, view, argv, tty, channels)
    return None


async def _exec(
    worker: PodWorker, view: ContainerView, argv: Sequence[str], tty: bool, channels: Channels
) -> int:
    """Run a command over channels that are open; its exit code."""
    try:
        process = await _start(worker, view, argv, tty)
    except (RuntimeFailure, ConfigError, MountFailed) as error:
        emulated = await _emulated(worker, view, argv)
        if emulated is None:
            text = f"error executing command in container: {error}"
            await channels.send(ERROR, _failure(text))
        else:
            await channels.send(STDOUT, emulated.stdout)
            await channels.send(STDERR, emulated.stderr)
            await channels.send(ERROR, exit_status(emulated.exit_code))
        await channels.finish()
        return 126 if emulated is None else emulated.exit_code
    return await run_session(channels, process, tty)


async def _emulated(
    worker: PodWorker, view: ContainerView, argv: Sequence[str]
) -> ExecResult | None:
    """What the emulated shell makes of the command, where no real one can be run."""
    real = bool(argv) and argv[0].rpartition("/")[2] in commands.REAL
    if view.current is None or real or not commands.runnable(argv):
        return None
    try:
        env = full_environment(worker, view)
        return await worker.node.context.runtime.exec_sync(view.current.id, argv, env=env)
    except (RuntimeFailure, ConfigError):
        return None


async def serve_attach(worker: PodWorker, view: ContainerView, request: Request) -> Response | None:
    """/attach: the container's output from now on, until it ends or the client goes."""
    container = view.current
    if container is None or not view.running:
        raise BadRequest(f"container not found ({_quoted(view.name)})")
    runtime = worker.node.context.runtime
    channels = await _open(request)
    if shell := runtime.interactive(container):
        # kubectl run -it: the shell that the container is runs for real while one is attached.
        code = await _exec(worker, view, shell, bool(view.spec.get("tty")), channels)
        if view.spec.get("stdinOnce"):
            runtime.kill_container(container.id, code, "")
        return None
    lines: asyncio.Queue[bytes | None] = asyncio.Queue(1000)

    def line(data: bytes | None) -> None:
        if not lines.full():
            lines.put_nowait(data)

    stop = runtime.log_of(container.id).follow(line)

    async def pump() -> None:
        while (data := await lines.get()) is not None:
            await channels.send(STDOUT, show(data, False))
        await channels.send(ERROR, orjson.dumps(SUCCESS))

    async def drain() -> None:
        while await channels.receive() is not None:
            pass

    try:
        await _first(pump(), drain())
    finally:
        stop()
        await channels.finish()
    return None


async def serve_port_forward(worker: PodWorker, request: Request) -> Response | None:
    """/portForward over SPDY/3.1, bare or tunnelled through a WebSocket."""
    return await portforward.serve(worker, request)


async def run_session(channels: Channels, process: ExecProcess, tty: bool) -> int:
    """Copy until the command ends; its exit code goes to the error stream."""
    code = 137
    outputs = [asyncio.ensure_future(_copy_out(channels, STDOUT, process.stdout_fd))]
    if process.stderr_fd >= 0:
        outputs.append(asyncio.ensure_future(_copy_out(channels, STDERR, process.stderr_fd)))
    inputs = asyncio.ensure_future(_copy_in(channels, process, tty))
    try:
        code = await process.wait()
        # Children that outlive the command may hold its output open: give them a moment only.
        await asyncio.wait(outputs, timeout=0.5)
        await channels.send(ERROR, exit_status(code))
    except ConnectionResetError:
        process.kill()
    finally:
        for task in (*outputs, inputs):
            task.cancel()
        await asyncio.gather(*outputs, inputs, return_exceptions=True)
        for fd in {process.stdin_fd, process.stdout_fd, process.stderr_fd}:
            _close(fd)
        process.kill()
        await channels.finish()
    return code


def exit_status(code: int) -> bytes:
    """metav1.Status of a finished command."""
    if code == 0:
        return orjson.dumps(SUCCESS)
    return orjson.dumps(
        {
            "metadata": {},
            "status": "Failure",
            "message": f"command terminated with non-zero exit code: exit status {code}",
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
    )


async def _start(
    worker: PodWorker, view: ContainerView, argv: Sequence[str], tty: bool
) -> ExecProcess:
    context, state = worker.node.context, worker.state
    assert view.current is not None and state.sandbox is not None
    for kind, name in references(view.spec):
        await context.sources.get(worker.node.client, kind, state.namespace, name)
    env = full_environment(worker, view)
    if tty:
        env.setdefault("TERM", "xterm")
    await context.volumes.materialise(worker.node.client, state.pod, state.sandbox.ip)
    return await context.runtime.exec(view.current.id, argv, tty=tty, env=env)


async def _open(request: Request) -> Channels:
    if is_websocket(request):
        return WebSocketChannels(WebSocket.accept(request, WebSocketChannels.PROTOCOLS))
    return await open_spdy(request)


async def _copy_out(channels: Channels, channel: int, fd: int) -> None:
    while data := await read_fd(fd):
        await channels.send(channel, data)


async def _copy_in(channels: Channels, process: ExecProcess, tty: bool) -> None:
    """Input and window sizes; when the client is gone the command is killed."""
    open_ = process.stdin_fd >= 0
    while True:
        piece = await channels.receive()
        if piece is None:
            process.kill()
            return
        channel, data = piece
        if channel == RESIZE and data:
            size = orjson.loads(data)
            process.resize(int(size.get("Width", 80)), int(size.get("Height", 24)))
        elif channel == STDIN and open_:
            try:
                if data:
                    await write_fd(process.stdin_fd, data)
                    continue
            except OSError:
                pass
            open_ = False
            if not tty:
                _close(process.stdin_fd)
                process.stdin_fd = -1


async def _first(*coroutines: object) -> None:
    tasks = [asyncio.ensure_future(c) for c in coroutines]  # type: ignore[call-overload]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _close(fd: int) -> None:
    if fd >= 0:
        try:
            os.close(fd)
        except OSError:
            return


def _failure(message: str) -> bytes:
    return orjson.dumps(
        {"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError",
         "code": 500}
    )  # fmt: skip


def _flag(request: Request, name: str) -> bool:
    return request.parameter(name) in ("true", "1")


def _quoted(name: str) -> str:
    return f'"{name}"'
