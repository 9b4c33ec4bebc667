"""`down` leaves nothing: after an orderly life, after kill -9 of everything, after a half `up`."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from actors import ledger, paths

from .conftest import Cluster, free_port, raise_cluster

pytestmark = [pytest.mark.root, pytest.mark.ray]


def links() -> set[str]:
    return {p.name for p in Path("/sys/class/net").iterdir()}


def routes() -> set[str]:
    return set(Path("/proc/net/route").read_text().splitlines())


def namespaces() -> set[str]:
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return {m.split()[1] for m in mounts if " nsfs " in m or "kubestage" in m}


def traces(name: str) -> list[str]:
    """What is left of a cluster on this machine."""
    found = [str(p) for p in (paths.run_dir(name), paths.data_root() / name) if p.exists()]
    found += [m for m in namespaces() if f"/{name}/" in m]
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes()
        except OSError:
            continue
        if f"{name}/kube".encode() in command or f"/{name}/".encode() in command:
            found.append(f"process {directory.name}: {command!r}")
    return found


def busy(cluster: Cluster) -> None:
    """Some pods, Services and rules to leave behind."""
    cluster.out("create deployment web --image=nginx --replicas=10")
    cluster.out("expose deployment web --type=NodePort --port=80")
    cluster.out("rollout status deployment/web --timeout=30s")


def test_down_after_an_orderly_life(tmp_path: Path) -> None:
    before = links(), routes(), namespaces()
    cluster = raise_cluster("gone1", tmp_path, "--nodes", "3")
    busy(cluster)
    cluster.kubestage("down")
    assert traces("gone1") == []
    assert not cluster.kubeconfig.exists()
    assert (links(), routes(), namespaces()) == before


def test_down_after_every_actor_was_killed(tmp_path: Path) -> None:
    before = links(), routes(), namespaces()
    cluster = raise_cluster("gone2", tmp_path, "--nodes", "3")
    busy(cluster)
    status = json.loads(cluster.kubestage("status", "-o", "json").stdout)
    for component in status["components"]:
        os.kill(component["pid"], signal.SIGKILL)
    cluster.kubestage("down")
    assert traces("gone2") == []
    assert (links(), routes(), namespaces()) == before


def test_down_after_a_half_up(tmp_path: Path) -> None:
    """The ledger is written before anything else, so there is always something to undo from."""
    from actors.addresses import host_networks, with_free_ranges
    from actors.configuration import ClusterConfiguration

    settings = ClusterConfiguration(
        name="half", port=free_port(), kubeconfig=str(tmp_path / "half.yaml")
    )
    ledger.begin(with_free_ranges(settings, host_networks()))
    assert traces("half")
    Cluster("half", tmp_path / "half.yaml", tmp_path).kubestage("down")
    assert traces("half") == []


def test_a_data_dir_of_ones_own_is_kept_and_taken_up_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    options = ("--nodes", "1", "--data-dir", str(data))
    cluster = raise_cluster("kept", tmp_path, *options)
    cluster.out("create configmap remember --from-literal=a=1")
    cluster.kubestage("down")
    assert data.exists()
    cluster = raise_cluster("kept", tmp_path, *options)
    assert cluster.get("configmap remember")["data"] == {"a": "1"}
    cluster.kubestage("down", "--purge")
    assert not data.exists()
