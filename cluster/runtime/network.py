"""What the container runtime needs of a pod network: CNI's verbs as an interface.

The real network is netlab's; `actors/` hands it in. `cluster/` never touches the kernel by itself.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A hostPort of a container."""

    host_port: int
    container_port: int
    protocol: str = "TCP"
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """CNI ADD for one sandbox. `pod_cidr` is the node's spec.podCIDR, `node_ip` its InternalIP."""

    sandbox_id: str
    namespace: str
    name: str
    uid: str
    node_name: str
    pod_cidr: str
    node_ip: str = ""
    host_network: bool = False
    port_mappings: Sequence[PortMapping] = ()


@dataclass(frozen=True, slots=True)
class NetworkResult:
    """What ADD gave. `netns_path` is '' when there is no kernel namespace (network none, host
    network)."""

    sandbox_id: str
    ip: str
    netns_path: str = ""
    interface: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """A command to run for real inside a pod. `binds` maps a path in the pod to one on the host;
    the last item of each value says read-only. `root_dir` is the pod's private writable directory
    on the host."""

    argv: Sequence[str]
    netns_path: str
    root_dir: str
    hostname: str
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = "/"
    binds: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    tty: bool = False
    uid: int = 0
    gid: int = 0


class ExecProcess(Protocol):
    """A running command. File descriptors are non-blocking, -1 where there is none; with a tty
    stdin and stdout are the terminal's one descriptor and there is no stderr."""

    stdin_fd: int
    stdout_fd: int
    stderr_fd: int

    async def wait(self) -> int:
        """The exit code; 128+N if signal N ended it."""

    def resize(self, width: int, height: int) -> None: ...

    def kill(self) -> None: ...


class PodNetwork(Protocol):
    """CNI's verbs for many sandboxes. Calls that arrive together are done in one batch."""

    async def add(self, request: NetworkRequest) -> NetworkResult:
        """Idempotent by sandbox_id. Raises NetworkError (no address left, kernel refused)."""

    async def delete(self, sandbox_id: str) -> None:
        """Idempotent."""

    def attachments(self) -> Mapping[str, NetworkResult]:
        """Every sandbox that has a network on this host, as the ledger says (after a restart)."""

    def listen(self, result: NetworkResult, kind: socket.SocketKind, port: int) -> socket.socket:
        """A bound, non-blocking socket inside the pod's namespace (0.0.0.0:port; listening if a
        stream). Raises OSError. Raises NetworkError where there is no namespace."""

    async def run(self, spec: ExecSpec) -> ExecProcess:
        """Run a command in the pod's namespaces. Raises NetworkError where that cannot be done."""


class NetworkError(Exception):
    """The network could not do it; the message is for the pod's Event."""
