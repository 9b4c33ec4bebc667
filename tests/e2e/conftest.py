"""A real cluster on Ray with real pod networks, raised by the command line as a user would."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BIN = Path(sys.executable).parent
WAIT_SECONDS = 30.0


@dataclass
class Cluster:
    """The command line against one cluster."""

    name: str
    kubeconfig: Path
    home: Path
    binary: str = field(default_factory=lambda: shutil.which("kubectl") or str(BIN / "kubectl"))

    def kubestage(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return _run([str(BIN / "kubestage"), *argv, "--name", self.name], self.environment, check)

    def kubectl(
        self, *argv: str, stdin: str = "", check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        command = [self.binary, *argv]
        return _run(command, self.environment, check, stdin=stdin, timeout=timeout)

    def out(self, line: str, **how: Any) -> str:
        """What `kubectl LINE` prints; words are split at blanks."""
        return self.kubectl(*line.split(), **how).stdout.strip()

    def get(self, line: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out(f"get {line} -o json"))
        return document

    def wait_for(self, line: str, wanted: str, seconds: float = WAIT_SECONDS) -> str:
        """Until `kubectl LINE` prints exactly `wanted`."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.out(line, check=False)
            if found == wanted:
                return found
            assert time.monotonic() < deadline, f"{line}: {found!r} instead of {wanted!r}"
            time.sleep(0.1)

    def run_ready(self, pod: str, image: str, *more: str, namespace: str = "") -> None:
        """`kubectl run`, and until the pod is Ready."""
        where = ["-n", namespace] if namespace else []
        self.kubectl("run", pod, f"--image={image}", *where, *more)
        self.kubectl("wait", "--for=condition=Ready", f"pod/{pod}", "--timeout=30s", *where)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.home / "cache"),
        }


def _run(
    command: list[str], environment: dict[str, str], check: bool, stdin: str = "",
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    done = subprocess.run(
        command, env=environment, input=stdin, text=True, capture_output=True, check=False,
        timeout=timeout,
    )  # fmt: skip
    if check:
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        return int(sock.getsockname()[1])


def raise_cluster(name: str, home: Path, *options: str) -> Cluster:
    cluster = Cluster(name, home / f"{name}.yaml", home)
    cluster.kubestage(
        "up", "--port", str(free_port()), "--kubeconfig", str(cluster.kubeconfig), *options
    )
    return cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Six nodes, embedded store, real networks; shared by the tests that leave it as it was."""
    home = tmp_path_factory.mktemp("e2e")
    raised = Cluster("e2e", home / "e2e.yaml", home)
    try:
        yield raise_cluster("e2e", home, "--nodes", "6")
    finally:
        raised.kubestage("down", check=False)


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, deleted afterwards."""
    name = "t-" + request.node.name.replace("_", "-").replace("[", "-").rstrip("]")[-40:].lower()
    name = "".join(c if c.isalnum() or c == "-" else "-" for c in name).strip("-")
    cluster.out(f"create namespace {name}")
    yield name
    cluster.out(f"delete namespace {name} --wait=false")
