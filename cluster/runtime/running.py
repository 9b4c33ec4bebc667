"""One running container: its ports, its emulated process, its end.

Plays containerd's task. Made by RuntimeService.revive, ended by the workload itself, a fault,
`terminate`, or a kill.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cluster.runtime.answers import HttpAnswer, HttpRequest, Identity
from cluster.runtime.commands import Interpreter
from cluster.runtime.coreutils import Process, sleep_seconds
from cluster.runtime.model import Container, ExecResult, RuntimeFailure, Sandbox
from cluster.runtime.network import NetworkError
from cluster.runtime.pipes import collect
from cluster.runtime.servers import Endpoint
from cluster.runtime.workloads import Listen, plan_workload

if TYPE_CHECKING:
    from cluster.runtime.service import RuntimeService


class Running:
    """State of a running container that is not worth remembering."""

    __slots__ = (
        "_container",
        "_handles",
        "_image",
        "_process",
        "_runtime",
        "_sandbox",
        "_sockets",
        "_task",
        "_waiters",
        "_workload",
        "endpoints",
    )

    def __init__(self, runtime: RuntimeService, sandbox: Sandbox, container: Container) -> None:
        self._runtime = runtime
        self._sandbox = sandbox
        self._container = container
        self._image = runtime.images.resolve(container.config.image)
        self._workload = plan_workload(self._image, container.config)
        self._sockets: list[socket.socket] = []
        self._handles: list[asyncio.TimerHandle | asyncio.Handle] = []
        self._task: asyncio.Task[None] | None = None
        self._process: Process | None = None
        self._waiters: list[asyncio.Future[None]] | None = None
        self.endpoints: list[Endpoint] = []

    @property
    def hostname(self) -> str:
        return self._sandbox.config.hostname or self._sandbox.config.name

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        workload = self._workload
        if workload.kind == "server":
            self._listen(workload.listens)
        elif workload.kind == "exit":
            if workload.output:
                self._say("stdout", workload.output.encode())
            self._handles.append(loop.call_soon(self._ended, workload.exit_code))
        else:
            self._start_process(loop)
        fault = self._container.config.fault
        if fault is not None and (fault.times == 0 or self._container.config.attempt < fault.times):
            elapsed = self._runtime.clock.now() - self._container.started_at
            delay = max(0.0, fault.after_seconds - elapsed)
            self._handles.append(loop.call_later(delay, self._fail, fault.exit_code, fault.reason))

    async def terminate(self, grace_seconds: float) -> None:
        """SIGTERM; SIGKILL after the grace period. Returns once the container ended."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        self._waiters = [*(self._waiters or ()), ended]
        patience = self._container.config.stop_seconds
        handler = (
            self._process.traps.get("TERM", self._process.traps.get("15"))
            if self._process
            else None
        )
        if grace_seconds <= 0:
            self._ended(137)
        elif patience >= grace_seconds:
            self._handles.append(loop.call_later(grace_seconds, self._ended, 137))
        elif handler is not None:
            self._handles.append(loop.call_later(grace_seconds, self._ended, 137))
            self._handles.append(loop.call_later(patience, self._trap, handler))
        elif patience > 0:
            self._handles.append(loop.call_later(patience, self._ended, self._workload.term_code))
        else:
            self._ended(self._workload.term_code)
        await ended

    def abandon(self) -> None:
        """Let go of sockets, timers and tasks. Idempotent."""
        for handle in self._handles:
            handle.cancel()
        self._handles.clear()
        for sock in self._sockets:
            self._runtime.ports.close(sock)
        self._sockets.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    async def emulate(self, argv: Sequence[str], env: Mapping[str, str]) -> ExecResult:
        """Run another command beside the workload, in the same files."""
        out: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        process = self._new_process(dict(env))
        code = await Interpreter(process, lambda stream, data: out[stream].append(data)).run(argv)
        return ExecResult(code, b"".join(out["stdout"]), b"".join(out["stderr"]))

    async def run_real(self, argv: Sequence[str], write: object) -> int:
        """A command that speaks on the network, run in the pod's namespaces."""
        assert callable(write)
        env = self._process.env if self._process is not None else self._container.config.env
        real_env = {k: v for k, v in env.items() if not k.startswith("\0")}
        try:
            process = await self._runtime.exec(self._container.id, argv, env=real_env)
            result = await collect(process)
        except (RuntimeFailure, NetworkError, OSError) as error:
            write("stderr", f"{argv[0]}: {error}\n".encode())
            return 127
        for stream, data in (("stdout", result.stdout), ("stderr", result.stderr)):
            if data:
                write(stream, data)
        return result.exit_code

    def _listen(self, listens: Sequence[Listen]) -> None:
        config = self._sandbox.config
        who = Identity(
            config.name, config.namespace, config.node_name, self._sandbox.ip, self.hostname,
            self._container.config.image, self._container.config.name,
        )  # fmt: skip
        for listen in listens:
            endpoint = Endpoint(
                listen.port, listen.kind, listen.speech, who, listen.http, listen.server
            )
            if listen.speech in ("http", "auto"):
                endpoint.observed = self._observe
            try:
                sock = self._runtime.network.listen(self._sandbox.network, listen.kind, listen.port)
            except NetworkError:
                self.endpoints.append(endpoint)
                continue
            except OSError as error:
                text = f"bind() to 0.0.0.0:{listen.port} failed ({error.errno}: {error.strerror})\n"
                self._say("stderr", text.encode())
                loop = asyncio.get_running_loop()
                self._handles.append(loop.call_soon(self._ended, 1))
                return
            self._sockets.append(sock)
            self._runtime.ports.open(sock, endpoint)
            self.endpoints.append(endpoint)

    def _start_process(self, loop: asyncio.AbstractEventLoop) -> None:
        argv = self._workload.argv
        if argv[0].rpartition("/")[2] == "sleep":
            seconds = sleep_seconds(argv[1:])
            if seconds is not None:
                # No task: a timer is enough, and after a restart only the rest is slept.
                rest = self._container.started_at + seconds - self._runtime.clock.now()
                if rest < 1e9:
                    self._handles.append(loop.call_later(max(0.0, rest), self._ended, 0))
                return
        self._process = self._new_process(dict(self._container.config.env))
        self._task = loop.create_task(self._run_process(argv))

    async def _run_process(self, argv: Sequence[str]) -> None:
        assert self._process is not None
        code = await Interpreter(self._process, self._say).run(argv)
        self._task = None
        self._ended(code)

    def _new_process(self, env: dict[str, str]) -> Process:
        files = self._runtime.files_of(self._container)
        env.setdefault("HOSTNAME", self.hostname)
        env.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        env.setdefault("HOME", "/root")
        return Process(
            self, files, env, self._runtime.clock, self._container.config.working_dir or "/"
        )

    def _trap(self, handler: str) -> None:
        assert self._process is not None
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._run_trap(handler))

    async def _run_trap(self, handler: str) -> None:
        assert self._process is not None
        code = await Interpreter(self._process, self._say).run_script(handler)
        self._task = None
        self._ended(code)

    def _say(self, stream: str, data: bytes) -> None:
        self._runtime.write_log(self._container.id, stream, data)

    def _observe(self, request: HttpRequest, answer: HttpAnswer) -> None:
        if self._image.behaviour in ("nginx", "httpd", "nginx8080"):
            from datetime import UTC, datetime

            when = datetime.fromtimestamp(self._runtime.clock.now(), UTC).strftime(
                "%d/%b/%Y:%H:%M:%S %z"
            )
            peer = request.peer.rpartition(":")[0] or "-"
            agent = request.headers.get("user-agent", "-")
            asked = f"{request.method} {request.target} HTTP/1.1"
            outcome = f"{answer.status} {len(answer.body)}"
            line = f'{peer} - - [{when}] "{asked}" {outcome} "-" "{agent}" "-"\n'
            self._say("stdout", line.encode())
        for name, value in answer.headers:
            if name == "X-Kubestage-Exit":
                code = int(value) if value.isdigit() else 1
                self._handles.append(asyncio.get_running_loop().call_later(0.01, self._ended, code))

    def _fail(self, code: int, reason: str) -> None:
        self._runtime.ended(self._container.id, code, reason)

    def _ended(self, code: int) -> None:
        self._runtime.ended(self._container.id, code)
