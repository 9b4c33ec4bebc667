"""The same keys in both stores: one pod's three states, read from outside."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from actors import paths
from actors.etcd import CLIENT_PORT_OFFSET

from .conftest import BIN, Cluster, raise_cluster

pytestmark = [pytest.mark.root, pytest.mark.ray, pytest.mark.etcd, pytest.mark.timeout(300)]
KEY = "/registry/pods/default/nginx"


def three_states(versions: list[dict[str, Any]]) -> list[str]:
    """Which of stored, bound, running a pod's versions show, in order."""
    seen: list[str] = []
    for pod in versions:
        state = "stored"
        if pod.get("status", {}).get("phase") == "Running":
            state = "running"
        elif pod["spec"].get("nodeName"):
            state = "bound"
        if state not in seen:
            seen.append(state)
    return seen


def test_etcd_shows_the_pod_under_kubernetes_own_key(tmp_path: Path) -> None:
    cluster = raise_cluster("oneetcd", tmp_path, "--nodes", "2", "--store", "etcd")
    try:
        cluster.run_ready("nginx", "nginx")
        pki = paths.data_root() / "oneetcd" / "pki"
        port = int(str(cluster.kubeconfig.read_text().split("127.0.0.1:")[1]).split()[0])
        etcdctl = [
            str(BIN / "etcdctl"), "--endpoints", f"https://127.0.0.1:{port + CLIENT_PORT_OFFSET}",
            "--cacert", str(pki / "ca.crt"), "--cert", str(pki / "admin.crt"),
            "--key", str(pki / "admin.key"),
        ]  # fmt: skip
        environment = {**cluster.environment, "ETCDCTL_API": "3"}

        def read(*argv: str) -> str:
            done = subprocess.run([*etcdctl, *argv], env=environment, text=True,
                                  capture_output=True, check=True)  # fmt: skip
            return done.stdout

        key, value = read("get", "--prefix", "/registry/pods/default/").split("\n")[:2]
        pod = json.loads(value)
        assert key == KEY and pod["status"]["phase"] == "Running"
        header = json.loads(read("get", KEY, "-w", "json"))["kvs"][0]
        versions = []
        for revision in range(header["create_revision"], header["mod_revision"] + 1):
            lines = read("get", KEY, "--rev", str(revision)).splitlines()
            versions.append(json.loads(lines[1]))
        assert three_states(versions) == ["stored", "bound", "running"]
        cluster.kubestage("chaos", "kill", "etcd")
        probe = "annotate namespace default probe=1 --overwrite -o name"
        cluster.wait_for(probe, "namespace/default")
        assert cluster.get("pod nginx")["status"]["phase"] == "Running"
        cluster.run_ready("after", "nginx")
    finally:
        cluster.kubestage("down", check=False)


def test_the_embedded_store_has_the_same_keys(cluster: Cluster) -> None:
    cluster.run_ready("nginx", "nginx")
    path = paths.data_root() / cluster.name / "store" / "kubestage.sqlite"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        rows = connection.execute(
            "SELECT value FROM log WHERE key = ? AND deleted = 0 ORDER BY revision", (KEY,)
        ).fetchall()
    connection.close()
    assert three_states([json.loads(value) for (value,) in rows]) == ["stored", "bound", "running"]
    cluster.out("delete pod nginx")
