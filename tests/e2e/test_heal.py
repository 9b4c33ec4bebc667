"""kill -9 of any one actor: the cluster heals, running pods keep their addresses and answer."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from .conftest import Cluster

pytestmark = [pytest.mark.root, pytest.mark.ray]
ACTORS = [
    "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet-0", "kube-proxy-0",
    "coredns-0",
]  # fmt: skip
HEAL_SECONDS = 30.0


@pytest.fixture(scope="module")
def web(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Three pods behind a Service; their addresses by name."""
    cluster.out("create namespace heal")
    cluster.out("create deployment web --image=nginx --replicas=3 -n heal")
    cluster.out("expose deployment web --port=80 -n heal")
    cluster.out("rollout status deployment/web --timeout=30s -n heal")
    yield addresses(cluster)
    cluster.out("delete namespace heal --wait=false")


def addresses(cluster: Cluster) -> dict[str, str]:
    pods = cluster.get("pods -n heal -l app=web")["items"]
    return {p["metadata"]["name"]: p["status"].get("podIP", "") for p in pods}


def answers(ip: str) -> bool:
    done = subprocess.run(["curl", "-s", "--max-time", "1", f"http://{ip}"], capture_output=True,
                          text=True, check=False)  # fmt: skip
    return "nginx" in done.stdout


def eventually(what: str, check: Callable[[], bool], seconds: float = HEAL_SECONDS) -> float:
    """Seconds until `check()` is true."""
    began = time.monotonic()
    while not check():
        assert time.monotonic() - began < seconds, f"{what} within {seconds} s"
        time.sleep(0.1)
    return time.monotonic() - began


@pytest.mark.parametrize("actor", ACTORS)
def test_the_cluster_heals_from_kill_9(cluster: Cluster, web: dict[str, str], actor: str) -> None:
    before = restarts(cluster, actor)
    cluster.kubestage("chaos", "kill", actor)
    api = eventually(
        "the API answers", lambda: cluster.out("get --raw /readyz", check=False) == "ok"
    )
    eventually("the actor is back", lambda: restarts(cluster, actor) > before)
    name = "new-" + actor.replace("_", "-")
    cluster.out(f"run {name} --image=nginx -n heal")
    began = time.monotonic()
    cluster.out(f"wait --for=condition=Ready pod/{name} --timeout=30s -n heal")
    print(f"{actor}: API after {api:.1f} s, a new pod after {time.monotonic() - began:.1f} s")
    assert addresses(cluster) == web
    for pod, ip in web.items():
        eventually(f"{pod} answers", lambda ip=ip: answers(ip))
    service = cluster.get("service web -n heal")["spec"]["clusterIP"]
    eventually("the Service answers", lambda: answers(service))
    counts = cluster.out(
        "get pods -n heal -l app=web "
        "-o jsonpath={.items[*].status.containerStatuses[0].restartCount}"
    )
    assert counts == "0 0 0"
    nodes = cluster.get("nodes")["items"]
    ready = [c["status"] for n in nodes for c in n["status"]["conditions"] if c["type"] == "Ready"]
    assert ready == ["True"] * len(nodes)


def restarts(cluster: Cluster, actor: str) -> float:
    """How often the actor was restarted; -1 while it is not ready."""
    status = json.loads(cluster.kubestage("status", "-o", "json").stdout)
    rows = [c for c in status["components"] if c["component"] == actor and c.get("ready")]
    return float(rows[0]["restarts"]) if rows else -1.0
