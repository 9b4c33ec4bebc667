"""A machine with a fabric, and nothing left of it afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from netlab import Attachment, Fabric, PodLink
from tests.netlab.hosts import Machine, serving


@pytest.fixture
def state_dir() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="kubestage-test-", dir="/run"))
    yield path / "fabric"
    shutil.rmtree(path, ignore_errors=True)
    assert not path.exists(), "a mount was left behind"


@pytest.fixture
def machine(state_dir: Path) -> Iterator[Machine]:
    made = Machine(state_dir)
    yield made
    made.sweep()
    made.stop()


@pytest.fixture
def fabric(machine: Machine) -> Iterator[Fabric]:
    made = machine.fabric()
    made.set_node_addresses(["172.29.1.1", "172.29.1.2"])
    yield made
    made.close()


@pytest.fixture
def pods(fabric: Fabric) -> Iterator[list[Attachment]]:
    """Four pods that answer on port 80 with their id and their client's address."""
    import socket

    added = fabric.add_pods([PodLink(f"p{i}", f"n{i % 2}", "10.77.0.0/24") for i in range(4)])
    found = [a for a in added if isinstance(a, Attachment)]
    assert len(found) == 4, added
    with ExitStack() as stack:
        for pod in found:
            listener = fabric.socket_in(pod.netns_path, socket.SOCK_STREAM, "0.0.0.0", 80)
            stack.enter_context(serving(listener, pod.id))
        yield found
