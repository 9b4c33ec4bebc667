"""Kubelets over the real pod network: addresses answer, probes connect, commands run inside."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from actors.podnetwork import FabricPodNetwork
from cluster.api.meta import PODS
from cluster.metrics.cni import CniMetrics
from netlab import Fabric
from tests.kubelet.harness import Stage, pod, shell, stage
from tests.kubelet.test_pod_life import container, events, ready
from tests.kubelet.test_streaming import KUBECTL, kubectl
from tests.netlab.hosts import Machine

pytestmark = [pytest.mark.root, pytest.mark.skipif(not KUBECTL, reason="no kubectl")]
PROBE = {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1}


@pytest.fixture
def machine() -> Iterator[Machine]:
    path = Path(tempfile.mkdtemp(prefix="kubestage-test-", dir="/run"))
    made = Machine(path / "fabric")
    yield made
    made.sweep()
    made.stop()
    shutil.rmtree(path, ignore_errors=True)
    assert not path.exists(), "a mount was left behind"


def network(fabric: Fabric) -> FabricPodNetwork:
    return FabricPodNetwork(fabric, CniMetrics(CollectorRegistry()), ())


async def get(ip: str) -> bytes:
    reader, writer = await asyncio.open_connection(ip, 80)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    try:
        return await reader.read(-1)
    finally:
        writer.close()


def test_pods_answer_each_other_and_survive_a_restart(machine: Machine, tmp_path: Path) -> None:
    async def scenario(s: Stage) -> None:
        fabric = Fabric.ensure(machine.config, "main")
        fabric.set_node_addresses(["172.29.1.1"])
        await s.raise_pool(network=network(fabric), cidr="10.77.{}.0/24")
        web = [{"name": "c", "image": "nginx:1.29", "readinessProbe": PROBE}]
        await s.create(pod(containers=web))
        found = await s.until("web", ready)
        ip = found["status"]["podIP"]
        assert ip.startswith("10.77.0.")
        assert b"Pod: web" in await get(ip)
        await s.create(pod("client", containers=shell("sleep 1000")))
        await s.until("client", ready)
        code, out, err = await kubectl(s, "exec", "client", "--", "curl", "-s", f"http://{ip}")
        assert (code, err) == (0, "") and "Pod: web" in out
        assert "GET / HTTP/1.1" in (await kubectl(s, "logs", "web"))[1]

        await s.lower_pool()
        fabric.close()
        fabric = Fabric.ensure(machine.config, "main")
        await s.raise_pool(network=network(fabric), cidr="10.77.{}.0/24")
        await s.until("web", lambda p: s.pool.worker_of("default", "web") is not None)
        assert b"Pod: web" in await get(ip)
        after = await s.client.get(PODS, "web", "default")
        assert after["status"]["podIP"] == ip
        assert container(after)["containerID"] == container(found)["containerID"]
        assert container(after)["restartCount"] == 0
        for name in ("web", "client"):
            await s.client.delete(PODS, name, "default")
            await s.until_gone(name)
        assert not fabric.attachments()
        fabric.close()

    async def whole() -> None:
        async with stage(tmp_path) as held:
            await scenario(held)

    machine.run(asyncio.run, whole())


def test_a_port_taken_twice_ends_the_second_container(machine: Machine, tmp_path: Path) -> None:
    async def scenario(s: Stage) -> None:
        fabric = Fabric.ensure(machine.config, "main")
        await s.raise_pool(network=network(fabric), cidr="10.77.{}.0/24")
        both = [{"name": "c", "image": "nginx:1.29"}, {"name": "d", "image": "nginx:1.29"}]
        await s.create(pod(containers=both, restartPolicy="Never"))
        found = await s.until(
            "web", lambda p: (container(p, -1).get("state") or {}).get("terminated")
        )
        assert container(found, -1)["state"]["terminated"]["exitCode"] == 1
        code, out, _ = await kubectl(s, "logs", "web", "-c", "d")
        assert code == 0 and "Address already in use" in out
        fabric.close()

    async def whole() -> None:
        async with stage(tmp_path) as held:
            await scenario(held)

    machine.run(asyncio.run, whole())


def test_a_failing_probe_names_the_refused_connection(machine: Machine, tmp_path: Path) -> None:
    async def scenario(s: Stage) -> None:
        fabric = Fabric.ensure(machine.config, "main")
        await s.raise_pool(network=network(fabric), cidr="10.77.{}.0/24")
        probe = {"tcpSocket": {"port": 81}, "periodSeconds": 1}
        await s.create(
            pod(containers=[{"name": "c", "image": "nginx:1.29", "readinessProbe": probe}])
        )
        found = await s.until("web", lambda p: p["status"].get("podIP"))
        text = f"dial tcp {found['status']['podIP']}:81: connect: connection refused"
        wanted = ("Unhealthy", f"Readiness probe failed: {text}")
        async with asyncio.timeout(10):
            while wanted not in await events(s):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        fabric.close()

    async def whole() -> None:
        async with stage(tmp_path) as held:
            await scenario(held)

    machine.run(asyncio.run, whole())
