"""The container runtime: CRI v1's verbs over emulated containers in real pod networks.

Plays containerd (RuntimeService and ImageService of k8s.io/cri-api). One instance serves all
emulated nodes of a process: a sandbox says which node it is on. Promises: ids are stable, exits are
told to subscribers exactly once, and after a kill -9 `start` finds every sandbox and container
again under the same id, start time and attempt, with its ports served. Leaves out: container file
systems (a private directory stands for one), resource limits, checkpoints.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluster.api.meta import Clock
from cluster.metrics.kubelet import RuntimeMetrics
from cluster.runtime import commands, restore
from cluster.runtime.answers import HttpAnswer, HttpRequest
from cluster.runtime.coreutils import FileView
from cluster.runtime.images import Image, ImageConfig, ImageStore, PullResult
from cluster.runtime.journal import Journal, Record
from cluster.runtime.logs import ContainerLog, LogStore
from cluster.runtime.model import (
    Container,
    ContainerConfig,
    ExecResult,
    NoSuchContainer,
    RuntimeFailure,
    Sandbox,
    SandboxConfig,
)
from cluster.runtime.network import (
    ExecProcess,
    ExecSpec,
    NetworkError,
    NetworkRequest,
    NetworkResult,
    PodNetwork,
)
from cluster.runtime.pipes import collect
from cluster.runtime.running import Running
from cluster.runtime.servers import Endpoint, PortServer
from cluster.runtime.workloads import interactive_shell, plan_workload

ExitHandler = Callable[[Container], None]


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """`state_dir` None: everything in memory (tests)."""

    state_dir: Path | None = None
    images: ImageConfig = field(default_factory=ImageConfig)
    version: str = "0.1.0"


class RuntimeService:
    """Call `start` once, inside the event loop."""

    def __init__(
        self,
        network: PodNetwork,
        clock: Clock,
        rng: random.Random,
        *,
        config: RuntimeConfig | None = None,
        metrics: RuntimeMetrics | None = None,
    ) -> None:
        self.config = config or RuntimeConfig()
        self.network = network
        self.clock = clock
        self.metrics = metrics or RuntimeMetrics()
        self.images = ImageStore(self.config.images, clock)
        self.ports = PortServer()
        state = self.config.state_dir
        self.logs = LogStore(state / "logs" if state else None, clock)
        self.journal = Journal(state / "runtime.journal", self._live_records) if state else None
        self._rng = rng
        self._sandboxes: dict[str, Sandbox] = {}
        self._containers: dict[str, Container] = {}
        self._of_sandbox: dict[str, list[str]] = {}
        self._logs: dict[str, ContainerLog] = {}
        self._running: dict[str, Running] = {}
        self._subscribers: list[ExitHandler] = []

    # -- life ----------

    async def start(self) -> None:
        """Find again what ran before; call before any other verb."""
        if self.journal is not None:
            await restore.restore(self, self.journal.replay())
            self.journal.compact()

    async def stop(self) -> None:
        """Let go of sockets, tasks and files; containers go on existing in the journal."""
        for running in list(self._running.values()):
            running.abandon()
        self._running.clear()
        self.ports.shut_down()
        self.logs.flush()
        if self.journal is not None:
            self.journal.close()

    def subscribe(self, handler: ExitHandler) -> None:
        """Be told of every container that ends."""
        self._subscribers.append(handler)

    def version(self) -> dict[str, str]:
        return {
            "runtimeName": "kubestage",
            "runtimeVersion": self.config.version,
            "runtimeApiVersion": "v1",
        }

    # -- sandboxes ----------

    async def run_pod_sandbox(self, config: SandboxConfig) -> Sandbox:
        """A network for the pod. Raises RuntimeFailure in the words of upstream's Event."""
        sandbox_id = self._new_id()
        request = network_request(sandbox_id, config)
        started = self.clock.monotonic()
        try:
            result = await self.network.add(request)
        except NetworkError as error:
            self.metrics.count("run_podsandbox", self.clock.monotonic() - started, failed=True)
            where = f'plugin type="kubestage" name="kubestage" failed (add): {error}'
            raise RuntimeFailure(
                "rpc error: code = Unknown desc = failed to setup network for sandbox "
                f'"{sandbox_id}": {where}'
            ) from error
        self.metrics.count("run_podsandbox", self.clock.monotonic() - started)
        sandbox = Sandbox(sandbox_id, config, self.clock.now(), result)
        self.adopt_sandbox(sandbox)
        self._write(restore.sandbox_record(sandbox))
        return sandbox

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        """Kill what still runs in it and take its network away. Idempotent."""
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None or not sandbox.ready:
            return
        for container_id in list(self._of_sandbox.get(sandbox_id, ())):
            if self._containers[container_id].state == "running":
                self._end(container_id, 137, "Error")
        started = self.clock.monotonic()
        sandbox.ready = False
        self._write({"o": "S", "id": sandbox_id})
        await self.network.delete(sandbox_id)
        self.metrics.count("stop_podsandbox", self.clock.monotonic() - started)

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        """Forget it and its containers. Idempotent."""
        await self.stop_pod_sandbox(sandbox_id)
        for container_id in list(self._of_sandbox.get(sandbox_id, ())):
            await self.remove_container(container_id)
        if self._sandboxes.pop(sandbox_id, None) is not None:
            self._of_sandbox.pop(sandbox_id, None)
            self._write({"o": "R", "id": sandbox_id})

    def list_pod_sandboxes(self) -> list[Sandbox]:
        return list(self._sandboxes.values())

    def pod_sandbox_status(self, sandbox_id: str) -> Sandbox:
        try:
            return self._sandboxes[sandbox_id]
        except KeyError:
            raise NoSuchContainer(f'sandbox "{sandbox_id}" not found') from None

    # -- containers ----------

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> Container:
        """The image must be on the node already."""
        sandbox = self.pod_sandbox_status(sandbox_id)
        image = self.images.resolve(config.image)
        container = Container(
            self._new_id(),
            sandbox_id,
            config,
            image.reference.canonical,
            image.image_id,
            self.clock.now(),
        )
        self.adopt_container(sandbox, container)
        self._write(restore.container_record(container))
        return container

    async def start_container(self, container_id: str) -> Container:
        """Bring the workload to life. A port that is taken ends it as the program would, with code
        1."""
        container = self.container_status(container_id)
        if container.state != "created":
            raise RuntimeFailure(f"container {container_id} is in state {container.state}")
        container.state = "running"
        container.started_at = self.clock.now()
        self._write({"o": "r", "id": container_id, "t": container.started_at})
        self.metrics.count("start_container", 0.0)
        self.revive(container)
        return container

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL after the grace period; returns once it ended."""
        running = self._running.get(container_id)
        if running is None:
            return
        started = self.clock.monotonic()
        await running.terminate(grace_seconds)
        self.metrics.count("stop_container", self.clock.monotonic() - started)

    def kill_container(
        self, container_id: str, exit_code: int = 137, reason: str = "Error"
    ) -> None:
        """End it now (SIGKILL, or a fault's choice of code and reason)."""
        if container_id in self._running:
            self._end(container_id, exit_code, reason)

    async def remove_container(self, container_id: str) -> None:
        """Forget it, its log and its files. Idempotent."""
        container = self._containers.pop(container_id, None)
        if container is None:
            return
        running = self._running.pop(container_id, None)
        if running is not None:
            running.abandon()
        log = self._logs.pop(container_id, None)
        if log is not None:
            log.close()
            log.remove()
        siblings = self._of_sandbox.get(container.sandbox_id)
        if siblings is not None and container_id in siblings:
            siblings.remove(container_id)
        restore.remove_files(self.root_dir(container_id))
        self._write({"o": "d", "id": container_id})

    def container_status(self, container_id: str) -> Container:
        try:
            return self._containers[container_id]
        except KeyError:
            raise NoSuchContainer(f'container "{container_id}" not found') from None

    def list_containers(self, sandbox_id: str = "") -> list[Container]:
        """In the order of creation."""
        if sandbox_id:
            return [self._containers[c] for c in self._of_sandbox.get(sandbox_id, ())]
        return list(self._containers.values())

    def log_of(self, container_id: str) -> ContainerLog:
        self.container_status(container_id)
        return self._log(container_id)

    # -- commands in containers ----------

    async def exec(
        self,
        container_id: str,
        argv: Sequence[str],
        *,
        tty: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> ExecProcess:
        """Run a real command in the pod's namespaces. Raises RuntimeFailure."""
        container = self._must_run(container_id)
        try:
            return await self.network.run(self._exec_spec(container, argv, tty, env))
        except NetworkError as error:
            raise RuntimeFailure(str(error)) from error

    async def exec_sync(
        self,
        container_id: str,
        argv: Sequence[str],
        timeout_seconds: float = 0.0,
        *,
        env: Mapping[str, str] | None = None,
    ) -> ExecResult:
        """Run a command to its end: emulated if the emulated shell knows it, else for real. Raises
        TimeoutError."""
        container = self._must_run(container_id)
        async with asyncio.timeout(timeout_seconds or None):
            if commands.runnable(argv) and argv[0].rpartition("/")[2] not in commands.REAL:
                return await self._running[container_id].emulate(argv, env or container.config.env)
            process = await self.exec(container_id, argv, env=env)
            return await collect(process)

    def root_dir(self, container_id: str) -> Path | None:
        """The container's private writable directory."""
        state = self.config.state_dir
        return state / "containers" / container_id if state is not None else None

    def interactive(self, container: Container) -> tuple[str, ...]:
        """The shell that a container waits with for somebody to attach, else ()."""
        config = container.config
        image = self.images.resolve(config.image)
        return interactive_shell(image, config) if config.stdin else ()

    def files_of(self, container: Container) -> FileView:
        """The container's paths on the host, where a sandboxed command sees the same files."""
        root = self.root_dir(container.id)
        inside = root / "rootfs" if root is not None else Path("/nonexistent/kubestage")
        return FileView(inside, container.config.mounts)

    def needs_files(self, config: ContainerConfig) -> bool:
        """Whether its volumes must be on disk before it starts (a command may read them)."""
        return plan_workload(self.images.resolve(config.image), config).kind == "process"

    # -- images ----------

    async def pull_image(self, node: str, image: str) -> PullResult:
        """Raises ImageNotFound, InvalidImageName."""
        started = self.clock.monotonic()
        try:
            result = await self.images.pull(node, image)
        except RuntimeFailure:
            self.metrics.count("pull_image", self.clock.monotonic() - started, failed=True)
            raise
        self.metrics.count("pull_image", self.clock.monotonic() - started)
        return result

    def image_status(self, node: str, image: str) -> Image | None:
        """The image if the node has it. Raises InvalidImageName."""
        return self.images.present(node, image)

    def list_images(self, node: str) -> list[Image]:
        return self.images.list(node)

    # -- a port of a pod without a kernel network ----------

    def local_endpoint(self, sandbox_id: str, port: int) -> Endpoint:
        """Who would answer on a port. Raises ConnectionRefusedError."""
        for container_id in self._of_sandbox.get(sandbox_id, ()):
            running = self._running.get(container_id)
            if running is not None:
                for endpoint in running.endpoints:
                    if endpoint.port == port:
                        return endpoint
        raise ConnectionRefusedError("connect: connection refused")

    def local_http(self, sandbox_id: str, port: int, request: HttpRequest) -> HttpAnswer:
        return self.local_endpoint(sandbox_id, port).answer(request)

    # -- inside ----------

    def adopt_sandbox(self, sandbox: Sandbox) -> None:
        """Take a sandbox in (new, or out of the journal)."""
        self._sandboxes[sandbox.id] = sandbox
        self._of_sandbox[sandbox.id] = []

    def adopt_container(self, sandbox: Sandbox, container: Container) -> None:
        self._containers[container.id] = container
        self._of_sandbox[sandbox.id].append(container.id)

    def revive(self, container: Container) -> None:
        """Open the ports or start the command of a running container."""
        sandbox = self._sandboxes[container.sandbox_id]
        running = Running(self, sandbox, container)
        self._running[container.id] = running
        running.start()

    def ended(self, container_id: str, exit_code: int, reason: str = "", message: str = "") -> None:
        """A workload came to its end (Running calls this)."""
        self._end(container_id, exit_code, reason, message)

    def write_log(self, container_id: str, stream: str, text: bytes) -> None:
        if container_id in self._containers:
            self.logs.write(self._log(container_id), stream, text)

    def _end(self, container_id: str, exit_code: int, reason: str = "", message: str = "") -> None:
        container = self._containers.get(container_id)
        running = self._running.pop(container_id, None)
        if running is not None:
            running.abandon()
        if container is None or container.state != "running":
            return
        container.state = "exited"
        container.finished_at = max(self.clock.now(), container.started_at)
        container.exit_code = exit_code
        container.reason = reason or ("Completed" if exit_code == 0 else "Error")
        container.message = message
        self._write(restore.exit_record(container))
        log = self._logs.get(container_id)
        if log is not None:
            log.close()
        for handler in self._subscribers:
            handler(container)

    def _log(self, container_id: str) -> ContainerLog:
        log = self._logs.get(container_id)
        if log is None:
            container = self._containers[container_id]
            log = self._logs[container_id] = self.logs.open(
                container.config.log_path or container_id + ".log"
            )
            log.closed = container.state == "exited"
        return log

    def _must_run(self, container_id: str) -> Container:
        container = self.container_status(container_id)
        if container.state != "running" or container_id not in self._running:
            raise RuntimeFailure(f"container {container_id} is not running")
        return container

    def _exec_spec(
        self, container: Container, argv: Sequence[str], tty: bool, env: Mapping[str, str] | None
    ) -> ExecSpec:
        sandbox = self._sandboxes[container.sandbox_id]
        root = self.root_dir(container.id)
        if root is None:
            raise RuntimeFailure("commands need a state directory")
        root.mkdir(parents=True, exist_ok=True)
        binds = {
            m.container_path: (m.host_path, m.read_only)
            for m in container.config.mounts
            if Path(m.host_path).exists()
        }
        config = container.config
        path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        return ExecSpec(
            argv=argv,
            netns_path=sandbox.network.netns_path,
            root_dir=str(root),
            hostname=sandbox.config.hostname or sandbox.config.name,
            env={
                **path,
                "HOSTNAME": sandbox.config.hostname or sandbox.config.name,
                **(env or config.env),
            },
            working_dir=config.working_dir or "/",
            binds=binds,
            tty=tty,
            uid=config.uid,
            gid=config.gid,
        )

    def _write(self, record: Record) -> None:
        if self.journal is not None:
            self.journal.append(record)

    def _live_records(self) -> list[Record]:
        return restore.live_records(self._sandboxes.values(), self._containers.values())

    def _new_id(self) -> str:
        return self._rng.randbytes(32).hex()


def network_request(sandbox_id: str, config: SandboxConfig) -> NetworkRequest:
    return NetworkRequest(
        sandbox_id, config.namespace, config.name, config.uid, config.node_name, config.pod_cidr,
        config.node_ip, config.host_network, config.port_mappings,
    )  # fmt: skip


__all__ = ["NetworkResult", "RuntimeConfig", "RuntimeService", "network_request"]
