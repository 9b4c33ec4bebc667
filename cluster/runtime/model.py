"""What the runtime's verbs take and give: CRI v1's messages as values.

Plays k8s.io/cri-api/pkg/apis/runtime/v1 (PodSandboxConfig, ContainerConfig, ContainerStatus), cut
to what is emulated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cluster.runtime.network import NetworkResult, PortMapping

ContainerState = Literal["created", "running", "exited"]


class RuntimeFailure(Exception):
    """The runtime could not do it; the message is for the pod's status and Event."""


class ImageNotFound(RuntimeFailure):
    """The registry does not have it, or does not let us read it."""


class InvalidImageName(RuntimeFailure):
    """The reference cannot be parsed."""


class NoSuchContainer(RuntimeFailure):
    """No container or sandbox of that id."""


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """One pod's sandbox. `node_name` says which emulated node of this process it is on."""

    uid: str
    namespace: str
    name: str
    node_name: str
    pod_cidr: str
    node_ip: str = ""
    hostname: str = ""
    attempt: int = 0
    host_network: bool = False
    port_mappings: Sequence[PortMapping] = ()


@dataclass(frozen=True, slots=True)
class Port:
    """A declared container port."""

    number: int
    protocol: str = "TCP"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """A host path seen in the container."""

    container_path: str
    host_path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """How a container is to fail by itself (annotation kubestage.io/exit...): after so many
    seconds, with this code and reason, so many times in all (0: always)."""

    after_seconds: float
    exit_code: int = 1
    reason: str = ""
    times: int = 0


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """One container. `env` is given for commands; a server's is computed when somebody asks."""

    name: str
    image: str
    attempt: int = 0
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = ""
    ports: Sequence[Port] = ()
    mounts: Sequence[Mount] = ()
    stdin: bool = False
    tty: bool = False
    log_path: str = ""
    fault: Fault | None = None
    stop_seconds: float = 0.0
    uid: int = 0
    gid: int = 0


@dataclass(slots=True, weakref_slot=True)
class Sandbox:
    """State of one sandbox; only RuntimeService changes it."""

    id: str
    config: SandboxConfig
    created_at: float
    network: NetworkResult
    ready: bool = True

    @property
    def ip(self) -> str:
        return self.network.ip


@dataclass(slots=True, weakref_slot=True)
class Container:
    """State of one container; only RuntimeService changes it. Times in seconds since the epoch, 0 =
    not yet."""

    id: str
    sandbox_id: str
    config: ContainerConfig
    image_ref: str
    image_id: str
    created_at: float
    state: ContainerState = "created"
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command run to its end gave."""

    exit_code: int
    stdout: bytes
    stderr: bytes
