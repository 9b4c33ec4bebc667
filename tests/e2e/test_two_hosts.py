"""Two raylets in two network namespaces are two hosts: pods on one reach Services on the other."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import rayhost

from .conftest import BIN, Cluster

pytestmark = [pytest.mark.root, pytest.mark.ray, pytest.mark.timeout(300)]
HEAD, WORKER = "10.99.77.1", "10.99.77.2"
RAY_PORT = 6399


def ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True)


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Two namespaces with a link between them and a raylet in each."""
    tag = secrets.token_hex(2)
    names = [f"ks{tag}a", f"ks{tag}b"]
    marker = secrets.token_hex(8)
    token = tmp_path_factory.mktemp("ray") / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    environment = {
        **os.environ, rayhost.MARKER: marker, "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    temp = Path(f"/tmp/ks{tag}")
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0",
           "netns", names[1])  # fmt: skip
        for name, address in zip(names, (HEAD, WORKER), strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats",
                 "--object-store-memory", "100000000"]  # fmt: skip
        head = ["--head", "--node-ip-address", HEAD, "--port", str(RAY_PORT),
                "--temp-dir", str(temp)]  # fmt: skip
        worker = ["--address", f"{HEAD}:{RAY_PORT}", "--node-ip-address", WORKER]
        for name, more in zip(names, (head, worker), strict=True):
            done = subprocess.run(
                ["nsenter", f"--net=/run/netns/{name}", *start, *more], env=environment,
                capture_output=True, text=True, timeout=90, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
        yield {"head": names[0], "worker": names[1], "token": str(token)}
    finally:
        rayhost.end_processes(lambda: rayhost.marked_processes(marker), 3.0)
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        subprocess.run(["rm", "-rf", str(temp)], check=False)


class HostedCluster(Cluster):
    """Commands run on the first host."""

    host = ""
    token = ""

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": self.token,
        }  # fmt: skip

    def kubestage(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        from .conftest import _run

        enter = ["nsenter", f"--net=/run/netns/{self.host}"]
        command = [*enter, str(BIN / "kubestage"), *argv, "--name", self.name]
        return _run(command, self.environment, check)


def test_a_pod_on_one_host_reads_a_service_whose_pods_are_on_the_other(
    two_hosts: dict[str, str], tmp_path: Path
) -> None:
    cluster = HostedCluster("twohosts", tmp_path / "kubeconfig", tmp_path)
    cluster.host, cluster.token = two_hosts["head"], two_hosts["token"]
    wrapper = tmp_path / "kubectl"
    wrapper.write_text(
        f'#!/bin/sh\nexec nsenter --net=/run/netns/{two_hosts["head"]} {cluster.binary} "$@"\n'
    )
    wrapper.chmod(0o755)
    cluster.binary = str(wrapper)
    try:
        cluster.kubestage(
            "up", "--nodes", "4", "--ray-address", f"{HEAD}:{RAY_PORT}",
            "--kubeconfig", str(cluster.kubeconfig),
        )  # fmt: skip
        status = json.loads(cluster.kubestage("status", "-o", "json").stdout)
        hosts = {c["host"] for c in status["components"] if c["component"].startswith("kubelet")}
        assert hosts == {HEAD, WORKER}
        cluster.run_ready("client", "curlimages/curl", "--overrides", on("node-0"),
                          "--command", "--", "sleep", "3600")  # fmt: skip
        for node in ("node-1", "node-3"):
            cluster.run_ready(f"web-{node}", "nginx", "--labels=app=web", "--overrides", on(node))
        cluster.out("create service clusterip web --tcp=80:80")
        print(cluster.out("get pods -o wide"))
        curl = "curl -s --max-time 3 --retry 10 --retry-all-errors --retry-delay 1"
        answer = cluster.out(f"exec client -- {curl} http://web.default.svc.cluster.local")
        assert "web-node-" in answer
        direct = cluster.get("pod web-node-3")["status"]["podIP"]
        assert "web-node-3" in cluster.out(f"exec client -- {curl} http://{direct}")
        # And back: a pod of the second host reaches the API server and a pod of the first.
        assert "web-node-1" in cluster.out(
            f"exec web-node-3 -- {curl} http://{cluster.get('pod web-node-1')['status']['podIP']}"
        )
        version = cluster.out(f"exec web-node-3 -- {curl} -k https://kubernetes.default/version")
        assert json.loads(version)["major"] == "1"
    finally:
        cluster.kubestage("down", check=False)


def on(node: str) -> str:
    return json.dumps({"spec": {"nodeName": node}})
