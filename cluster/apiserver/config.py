"""Settings of one API server; named as kube-apiserver's flags where it has them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network


@dataclass(frozen=True, slots=True)
class ApiServerConfig:
    """What the composition root decides. Paths are PEM files; '' leaves a feature out."""

    cluster_name: str = "kubestage"
    kubernetes_version: str = "1.37"
    bind_host: str = "127.0.0.1"
    port: int = 0
    advertise_address: str = "127.0.0.1"
    tls_cert: str = ""
    tls_key: str = ""
    client_ca: str = ""
    kubelet_client_cert: str = ""
    kubelet_client_key: str = ""
    kubelet_ca: str = ""
    service_account_key: str = ""
    service_account_issuer: str = "https://kubernetes.default.svc.cluster.local"
    api_audiences: tuple[str, ...] = ("https://kubernetes.default.svc.cluster.local",)
    token_file: str = ""
    node_token_key: bytes = b""
    anonymous: bool = True
    authorization_mode: tuple[str, ...] = ("Node", "RBAC")
    disabled_admission_plugins: tuple[str, ...] = ()
    service_cidr: str = "10.96.0.0/16"
    nodeport_range: tuple[int, int] = (30000, 32767)
    max_mutating_in_flight: int = 1_000
    max_in_flight: int = 2_000
    min_request_timeout_seconds: float = 1800.0
    managed_fields: bool = True
    cluster_domain: str = "cluster.local"

    @property
    def service_ip(self) -> str:
        """The address of the `kubernetes` Service: the first of the range."""
        return str(ip_network(self.service_cidr)[1])
