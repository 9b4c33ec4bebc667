"""The container runtime: emulated images, sandboxes, containers and workloads behind CRI v1's
verbs.

Plays containerd. What is real: the pod's network namespace and address (through PodNetwork), every
listening socket, the bytes of logs and volumes, commands of `kubectl exec`. What is emulated: the
image and the process it would run. Start at `RuntimeService` (service.py); behaviours are planned
in workloads.py and answer in answers.py.
"""

from cluster.runtime.emulated_network import EmulatedPodNetwork
from cluster.runtime.images import ImageConfig
from cluster.runtime.model import ContainerConfig, RuntimeFailure, SandboxConfig
from cluster.runtime.service import RuntimeConfig, RuntimeService

__all__ = [
    "ContainerConfig",
    "EmulatedPodNetwork",
    "ImageConfig",
    "RuntimeConfig",
    "RuntimeFailure",
    "RuntimeService",
    "SandboxConfig",
]
