"""kubectl logs, exec, attach and port-forward through a real API server to a kubelet."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from cluster.runtime import EmulatedPodNetwork
from cluster.runtime.network import (
    ExecProcess,
    ExecSpec,
    NetworkRequest,
    NetworkResult,
)
from netlab import sandbox
from tests.kubelet.conftest import Scenario
from tests.kubelet.harness import Stage, pod, shell
from tests.kubelet.test_pod_life import ready

Play = Callable[[Scenario], None]
KUBECTL = shutil.which("kubectl") or ""
pytestmark = [
    pytest.mark.skipif(not KUBECTL, reason="no kubectl"),
    pytest.mark.root,
]


class SandboxNetwork(EmulatedPodNetwork):
    """Emulated addresses, but real sandboxed commands (in this process's own network)."""

    async def add(self, request: NetworkRequest) -> NetworkResult:
        return await super().add(request)

    async def run(self, spec: ExecSpec) -> ExecProcess:
        return await sandbox.run(
            sandbox.Command(
                argv=tuple(spec.argv), netns_path="/proc/self/ns/net", root_dir=spec.root_dir,
                hostname=spec.hostname, env=dict(spec.env), working_dir=spec.working_dir,
                binds=dict(spec.binds), tty=spec.tty, uid=spec.uid, gid=spec.gid,
            )
        )  # fmt: skip


async def kubectl(
    s: Stage, *args: str, stdin: bytes = b"", websockets: bool = True
) -> tuple[int, str, str]:
    env = {
        **os.environ,
        "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": str(websockets).lower(),
        "KUBECTL_PORT_FORWARD_WEBSOCKETS": str(websockets).lower(),
    }
    process = await asyncio.create_subprocess_exec(
        KUBECTL, "--server", s.url, "--token", "admin", "--kubeconfig", "/dev/null",
        "--certificate-authority", s.certificates["client_ca"], *args,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env=env,
    )  # fmt: skip
    async with asyncio.timeout(20):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def raise_ready(s: Stage, **spec: Any) -> None:
    await s.raise_pool(network=SandboxNetwork())
    await s.create(pod(**spec))
    await s.until("web", ready)


def test_logs_show_lines_tails_and_times(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await raise_ready(s, containers=shell("echo one; echo two; echo three; sleep 100"))
        assert await kubectl(s, "logs", "web") == (0, "one\ntwo\nthree\n", "")
        assert (await kubectl(s, "logs", "web", "--tail=1"))[1] == "three\n"
        _, out, _ = await kubectl(s, "logs", "web", "--timestamps", "--tail=1")
        assert out.split(" ")[0].startswith("20") and out.endswith(" three\n")
        code, _, err = await kubectl(s, "logs", "web", "--previous")
        assert code == 1
        assert 'previous terminated container "c" in pod "web" not found' in err

    play(scenario)


def test_logs_follow_until_the_container_ends(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        script = "echo one; sleep 1; echo two; exit 0"
        await s.raise_pool(network=SandboxNetwork())
        await s.create(pod(containers=shell(script), restartPolicy="Never"))
        await s.until("web", lambda p: p["status"]["phase"] != "Pending")
        assert (await kubectl(s, "logs", "-f", "web"))[1] == "one\ntwo\n"

    play(scenario)


@pytest.mark.parametrize("websockets", [True, False])
def test_exec_runs_a_command_and_gives_its_code(play: Play, websockets: bool) -> None:
    async def scenario(s: Stage) -> None:
        env = [{"name": "COLOUR", "value": "red"}]
        await raise_ready(s, containers=[{"name": "c", "image": "nginx:1.29", "env": env}])
        script = "echo $COLOUR; hostname; cat; echo oops >&2; exit 3"
        code, out, err = await kubectl(
            s, "exec", "-i", "web", "--", "sh", "-c", script, stdin=b"input\n",
            websockets=websockets,
        )  # fmt: skip
        assert (code, out) == (3, "red\nweb\ninput\n")
        assert "oops" in err
        assert "command terminated with exit code 3" in err

    play(scenario)


def test_exec_sees_volumes_and_what_the_container_wrote(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        volumes = [
            {"name": "scratch", "emptyDir": {}},
            {"name": "info", "downwardAPI": {"items": [
                {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ]  # fmt: skip
        mounts = [
            {"name": "scratch", "mountPath": "/scratch"},
            {"name": "info", "mountPath": "/etc/info"},
        ]
        script = "echo hi > /scratch/file; echo there > /tmp/own; sleep 100"
        await raise_ready(s, volumes=volumes, containers=shell(script, volumeMounts=mounts))
        command = "cat /scratch/file /tmp/own /etc/info/name; grep -c nameserver /etc/resolv.conf"
        code, out, err = await kubectl(s, "exec", "web", "--", "sh", "-c", command)
        assert (code, out, err) == (0, "hi\nthere\nweb1\n", "")

    play(scenario)


def test_exec_of_a_missing_program_says_so(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await raise_ready(s)
        code, _, err = await kubectl(s, "exec", "web", "--", "no-such-program")
        assert code != 0
        assert "no-such-program" in err

    play(scenario)


@pytest.mark.parametrize("websockets", [True, False])
def test_port_forward_reaches_the_pod(play: Play, websockets: bool) -> None:
    async def scenario(s: Stage) -> None:
        await raise_ready(s)
        env = {**os.environ, "KUBECTL_PORT_FORWARD_WEBSOCKETS": str(websockets).lower()}
        process = await asyncio.create_subprocess_exec(
            KUBECTL, "--server", s.url, "--token", "admin", "--kubeconfig", "/dev/null",
            "--certificate-authority", s.certificates["client_ca"],
            "port-forward", "pod/web", ":80", stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env=env,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            async with asyncio.timeout(15):
                line = (await process.stdout.readline()).decode()
                port = int(line.split(" -> ")[0].rpartition(":")[2])
                for _ in range(2):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(b"GET / HTTP/1.0\r\n\r\n")
                    answer = await reader.read(-1)
                    writer.close()
                    assert b"Pod: web" in answer
        finally:
            process.terminate()
            await process.communicate()

    play(scenario)


def test_kubectl_run_with_a_terminal_gives_a_shell(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await s.raise_pool(network=SandboxNetwork())
        overrides = '{"spec":{"nodeName":"node-0","automountServiceAccountToken":false}}'
        code, out, _ = await kubectl(
            s, "run", "web", "-i", "--rm", "--restart=Never", "--image=busybox",
            f"--overrides={overrides}", "--", "sh", stdin=b"echo I am $(hostname); exit 0\n",
        )  # fmt: skip
        assert code == 0
        assert "I am web" in out
        await s.until_gone("web")

    play(scenario)


def test_without_a_network_known_commands_are_emulated(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await s.raise_pool()
        await s.create(pod())
        await s.until("web", ready)
        code, out, _ = await kubectl(s, "exec", "web", "--", "sh", "-c", "hostname; exit 5")
        assert (code, out) == (5, "web\n")
        code, _, err = await kubectl(s, "exec", "web", "--", "java")
        assert code == 1 and "network none" in err

    play(scenario)
