"""What an actor is told when it is made. Ray makes a dead actor anew from the same value, so it
holds everything that is needed to start over, and nothing that grows old.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from actors import paths
from actors.plan import ClusterPlan, HostPlan


@dataclass(frozen=True, slots=True)
class Credential:
    """A client or serving certificate with its key and the cluster's CA, PEM. Never logged."""

    ca: bytes
    cert: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Credential(...)"


@dataclass(frozen=True, slots=True)
class Context:
    """See the module. `component` is Kubernetes' name of the binary, `index` counts its actors."""

    plan: ClusterPlan
    component: str
    index: int
    host_index: int
    client: Credential
    serving: Credential
    data_dir: str
    node_token_key: bytes = b""

    @property
    def cluster(self) -> str:
        return self.plan.name

    @property
    def host(self) -> HostPlan:
        return self.plan.hosts[self.host_index]

    @property
    def actor_name(self) -> str:
        """The actor's name in Ray, e.g. `kubestage/kubelet-0`."""
        return f"{self.cluster}/{self.instance}"

    @property
    def instance(self) -> str:
        """`kube-apiserver`, `kubelet-0`: the component, numbered where there can be several."""
        if self.component in ("kubelet", "kube-proxy", "coredns"):
            return f"{self.component}-{self.index}"
        return self.component

    @property
    def run_dir(self) -> Path:
        """This host's part of the cluster's run directory."""
        return paths.host_run_dir(self.cluster, self.host.host.underlay_ip)

    @property
    def state_dir(self) -> Path:
        """Files of this actor alone; they outlive it and end with the cluster."""
        return self.run_dir / self.instance

    @property
    def log_file(self) -> Path:
        return self.run_dir / "logs" / f"{self.instance}.log"
