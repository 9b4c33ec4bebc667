"""The runtime's verbs: sandboxes, containers, their ports, their end, their memory."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cluster.api.meta import SystemClock
from cluster.runtime import (
    ContainerConfig,
    EmulatedPodNetwork,
    RuntimeConfig,
    RuntimeFailure,
    RuntimeService,
    SandboxConfig,
)
from cluster.runtime.answers import HttpRequest
from cluster.runtime.journal import Journal
from cluster.runtime.logs import LogOptions
from cluster.runtime.model import Container, Fault
from cluster.runtime.network import NetworkError, NetworkResult


class LoopbackNetwork(EmulatedPodNetwork):
    """Ports are opened on 127.0.0.1, whatever number is asked for: `opened` tells which."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: dict[int, int] = {}

    def listen(self, result: NetworkResult, kind: socket.SocketKind, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, kind)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen(64)
        self.opened[port] = sock.getsockname()[1]
        return sock


Scenario = Callable[[RuntimeService], Awaitable[None]]


def play(scenario: Scenario, state: Path | None, network: EmulatedPodNetwork | None = None) -> None:
    async def whole() -> None:
        runtime = RuntimeService(
            network or EmulatedPodNetwork(), SystemClock(), random.Random(1),
            config=RuntimeConfig(state),
        )  # fmt: skip
        await runtime.start()
        try:
            await scenario(runtime)
        finally:
            await runtime.stop()
            await asyncio.sleep(0)

    asyncio.run(whole())


def sandbox(uid: str = "u1", node: str = "n") -> SandboxConfig:
    return SandboxConfig(uid, "default", f"pod-{uid}", node, "10.244.0.0/29")


async def run(runtime: RuntimeService, config: ContainerConfig, uid: str = "u1") -> Container:
    box = await runtime.run_pod_sandbox(sandbox(uid))
    container = await runtime.create_container(box.id, config)
    return await runtime.start_container(container.id)


async def ended(runtime: RuntimeService, container: Container) -> Container:
    if container.state == "exited":
        return container
    done: asyncio.Future[Container] = asyncio.get_running_loop().create_future()

    def tell(one: Container) -> None:
        if not done.done():
            done.set_result(one)

    runtime.subscribe(tell)
    async with asyncio.timeout(5):
        return await done


def test_a_command_ends_with_its_code_and_leaves_its_log(tmp_path: Path) -> None:
    async def scenario(runtime: RuntimeService) -> None:
        script = ["sh", "-c", "echo out; echo err >&2; exit 4"]
        container = await run(runtime, ContainerConfig("c", "busybox", command=script))
        found = await ended(runtime, container)
        assert (found.exit_code, found.reason) == (4, "Error")
        log = runtime.log_of(container.id)
        assert log.read(LogOptions()) == [b"out\n", b"err\n"]
        assert log.read(LogOptions(tail_lines=1)) == [b"err\n"]
        assert [line.split(b" ")[1] for line in log.lines()] == [b"stdout", b"stderr"]

    play(scenario, tmp_path)


def test_sigterm_ends_a_server_and_sigkill_a_stubborn_one() -> None:
    async def scenario(runtime: RuntimeService) -> None:
        polite = await run(runtime, ContainerConfig("c", "nginx"))
        await runtime.stop_container(polite.id, 30)
        assert (polite.exit_code, polite.reason) == (0, "Completed")
        config = ContainerConfig("c", "nginx", stop_seconds=60)
        stubborn = await run(runtime, config, "u2")
        await runtime.stop_container(stubborn.id, 0.01)
        assert (stubborn.exit_code, stubborn.reason) == (137, "Error")

    play(scenario, None)


def test_a_trap_runs_on_sigterm() -> None:
    async def scenario(runtime: RuntimeService) -> None:
        script = ["sh", "-c", "trap 'echo bye; exit 9' TERM; sleep 100"]
        container = await run(runtime, ContainerConfig("c", "busybox", command=script))
        await asyncio.sleep(0)
        await runtime.stop_container(container.id, 30)
        assert container.exit_code == 9
        assert runtime.log_of(container.id).read(LogOptions()) == [b"bye\n"]

    play(scenario, None)


def test_a_fault_ends_a_container_by_itself() -> None:
    async def scenario(runtime: RuntimeService) -> None:
        fault = Fault(0.01, 137, "OOMKilled")
        container = await run(runtime, ContainerConfig("c", "nginx", fault=fault))
        found = await ended(runtime, container)
        assert (found.exit_code, found.reason) == (137, "OOMKilled")

    play(scenario, None)


def test_servers_answer_on_their_sockets() -> None:
    network = LoopbackNetwork()

    async def scenario(runtime: RuntimeService) -> None:
        container = await run(runtime, ContainerConfig("c", "nginx"))
        reader, writer = await asyncio.open_connection("127.0.0.1", network.opened[80])
        for path, status in (("/", b"200"), ("/none", b"404")):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: web\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.split(b" ")[1] == status
            length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            assert (b"pod-u1" in body) is (status == b"200")
        writer.close()
        await runtime.stop_container(container.id, 1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", network.opened[80])

    play(scenario, None, network)


def test_redis_keeps_what_it_is_told() -> None:
    network = LoopbackNetwork()

    async def scenario(runtime: RuntimeService) -> None:
        await run(runtime, ContainerConfig("c", "redis"))
        reader, writer = await asyncio.open_connection("127.0.0.1", network.opened[6379])
        writer.write(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvv\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        writer.write(b"PING\r\n")
        assert await reader.readexactly(5 + 8 + 7) == b"+OK\r\n$2\r\nvv\r\n+PONG\r\n"
        writer.close()

    play(scenario, None, network)


def test_netexec_answers_datagrams() -> None:
    network = LoopbackNetwork()

    async def scenario(runtime: RuntimeService) -> None:
        image = "registry.k8s.io/e2e-test-images/agnhost"
        await run(runtime, ContainerConfig("c", image, args=["netexec"]))
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            await loop.sock_sendto(sock, b"hostname", ("127.0.0.1", network.opened[8081]))
            data, _ = await loop.sock_recvfrom(sock, 100)
        assert data == b"pod-u1"

    play(scenario, None, network)


def test_without_a_kernel_network_the_workload_is_asked_in_memory(tmp_path: Path) -> None:
    async def scenario(runtime: RuntimeService) -> None:
        container = await run(runtime, ContainerConfig("c", "nginx"))
        answer = runtime.local_http(container.sandbox_id, 80, HttpRequest("GET", "/", {}))
        assert answer.status == 200
        with pytest.raises(ConnectionRefusedError):
            runtime.local_endpoint(container.sandbox_id, 81)
        with pytest.raises(RuntimeFailure, match="network none"):
            await runtime.exec(container.id, ["ls"])

    play(scenario, tmp_path)


def test_addresses_run_out_with_an_error() -> None:
    async def scenario(runtime: RuntimeService) -> None:
        ips = [(await runtime.run_pod_sandbox(sandbox(str(i)))).ip for i in range(5)]
        assert len(set(ips)) == 5
        with pytest.raises(RuntimeFailure, match=r"no address left in 10.244.0.0/29"):
            await runtime.run_pod_sandbox(sandbox("more"))

    play(scenario, None)


def test_a_new_process_finds_everything_again(tmp_path: Path) -> None:
    ids: dict[str, str] = {}
    times: dict[str, float] = {}

    async def before(runtime: RuntimeService) -> None:
        server = await run(runtime, ContainerConfig("c", "nginx", attempt=2))
        over = await run(runtime, ContainerConfig("c", "busybox"), "u2")
        await ended(runtime, over)
        gone = await run(runtime, ContainerConfig("c", "nginx"), "u3")
        await runtime.remove_pod_sandbox(gone.sandbox_id)
        ids.update(server=server.id, over=over.id, box=server.sandbox_id)
        times["started"] = server.started_at
        assert runtime.journal is not None
        runtime.journal.flush()  # what the loop does at the end of each turn; then kill -9

    async def after(runtime: RuntimeService) -> None:
        assert {c.id for c in runtime.list_containers()} == {ids["server"], ids["over"]}
        server = runtime.container_status(ids["server"])
        assert (server.state, server.config.attempt) == ("running", 2)
        assert server.started_at == times["started"]
        assert runtime.container_status(ids["over"]).state == "exited"
        assert runtime.local_endpoint(ids["box"], 80).port == 80
        fresh = await runtime.run_pod_sandbox(sandbox("u9"))
        taken = {s.ip for s in runtime.list_pod_sandboxes() if s.id != fresh.id}
        assert fresh.ip not in taken

    play(before, tmp_path)
    play(after, tmp_path)


def test_a_torn_last_line_of_the_journal_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b'{"o":"a","id":"1"}\n{"o":"b","id":"2"}\n{"o":"c","i')
    assert [r["o"] for r in Journal(path, lambda: []).replay()] == ["a", "b"]


def test_a_failing_network_names_its_reason() -> None:
    class Broken(EmulatedPodNetwork):
        async def add(self, request: object) -> NetworkResult:
            raise NetworkError("the kernel refused")

    async def scenario(runtime: RuntimeService) -> None:
        with pytest.raises(RuntimeFailure, match="failed to setup network for sandbox"):
            await runtime.run_pod_sandbox(sandbox())

    play(scenario, None, Broken())


def test_followers_get_lines_and_the_end() -> None:
    async def scenario(runtime: RuntimeService) -> None:
        script = ["sh", "-c", "sleep 0.01; echo line"]
        container = await run(runtime, ContainerConfig("c", "busybox", command=script))
        got: list[bytes | None] = []
        runtime.log_of(container.id).follow(got.append)
        await ended(runtime, container)
        assert got[0] is not None and got[0].endswith(b" stdout F line\n")
        assert got[-1] is None

    play(scenario, None)
