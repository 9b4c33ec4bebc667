"""Settings of a pool of kubelets and of each of its nodes (KubeletConfiguration, in part)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One emulated node. `ip` is its InternalIP, `kubelet_port` where its HTTPS server is reached
    (0: the pool's). `pod_cidr` '' means: wait for spec.podCIDR."""

    name: str
    ip: str
    pod_cidr: str = ""
    kubelet_port: int = 0
    cpu: str = "4"
    memory: str = "8Gi"
    pods: int = 110
    ephemeral_storage: str = "100Gi"
    extended_resources: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, Any]] = ()
    unschedulable: bool = False


@dataclass(frozen=True, slots=True)
class KubeletConfig:
    """`state_dir` holds pods' volumes and the like; None keeps everything in memory (tests).
    The three certificate paths switch the HTTPS server on."""

    kubernetes_version: str = "1.37.0"
    state_dir: Path | None = None
    cluster_dns: Sequence[str] = ("10.96.0.10",)
    cluster_domain: str = "cluster.local"
    host_name: str = ""
    lease_seconds: int = 40
    lease_renew_seconds: float = 10.0
    status_update_seconds: float = 10.0
    status_report_seconds: float = 300.0
    sync_seconds: float = 60.0
    crash_backoff_initial_seconds: float = 10.0
    crash_backoff_max_seconds: float = 300.0
    image_backoff_initial_seconds: float = 10.0
    image_backoff_max_seconds: float = 300.0
    slow_start_seconds: float = 1.0
    reserved_cpu: str = "0"
    reserved_memory: str = "0"
    tls_cert: str = ""
    tls_key: str = ""
    client_ca: str = ""
    server_host: str = ""
    server_port: int = 10250
    container_runtime_version: str = "kubestage://0.1.0"
    real_probes: bool = True

    @property
    def minor(self) -> int:
        """The Kubernetes minor version: 37 of 1.37.0."""
        return int(self.kubernetes_version.removeprefix("v").split(".")[1])
