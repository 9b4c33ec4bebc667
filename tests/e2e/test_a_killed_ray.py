"""`down` after Ray itself was killed. First by its name: no other cluster may use this Ray."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from actors import paths, rayhost

from .conftest import raise_cluster
from .test_down import busy, links, namespaces, routes, traces

pytestmark = [pytest.mark.root, pytest.mark.ray]


def test_down_after_ray_itself_was_killed(tmp_path: Path) -> None:
    """Only where this test's Ray is its own: a Ray that others use is left alone."""
    if paths.clusters_here():
        pytest.skip("another cluster uses this machine's Ray")
    before = links(), routes(), namespaces()
    cluster = raise_cluster("gone3", tmp_path, "--nodes", "3")
    busy(cluster)
    marker = (paths.read_json(paths.ray_ledger_path()) or {})["marker"]
    for pid in rayhost.marked_processes(marker):
        os.kill(pid, signal.SIGKILL)
    cluster.kubestage("down")
    assert traces("gone3") == []
    assert rayhost.marked_processes(marker) == []
    assert not paths.run_root().exists()
    assert (links(), routes(), namespaces()) == before
