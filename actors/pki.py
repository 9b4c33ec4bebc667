"""Who is who: the cluster's certificates, handed to each actor as values (hosts share no files)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from actors.context import Credential
from actors.plan import ClusterPlan
from cluster.api.meta import SystemClock
from cluster.apiserver.certificates import (
    CertificateAuthority,
    KeyPair,
    Pki,
    PkiOptions,
    ensure_pki,
    write_kubeconfig,
)

CLIENT_OF = {
    "etcd": "admin",
    "kube-apiserver": "apiserver-kubelet-client",
    "kube-controller-manager": "kube-controller-manager",
    "kube-scheduler": "kube-scheduler",
    "kubelet": "kubelet-host",
    "kube-proxy": "kube-proxy",
    "coredns": "dns",
}
"""The client certificate of each component's actors."""


@dataclass(frozen=True, slots=True)
class Identities:
    """The certificates of one cluster, and the key that kubelets' node tokens are made with."""

    pki: Pki
    authority: CertificateAuthority
    serving_ips: tuple[str, ...]
    node_token_key: bytes

    def credentials(self, component: str) -> tuple[Credential, Credential]:
        """A component's client credential, and one to serve with (metrics, kubelet, etcd)."""
        client = _credential(self.pki, self.pki.clients[CLIENT_OF[component]])
        if component == "kube-apiserver":
            return client, _credential(self.pki, self.pki.apiserver)
        cert, key = self.authority.issue(
            f"system:{component}", server=True, client=True, dns=("localhost", component),
            ips=self.serving_ips,
        )  # fmt: skip
        return client, Credential(client.ca, cert, key)


def identities(plan: ClusterPlan, directory: Path, kubeconfig: str) -> Identities:
    """Make or find the certificates under `directory`; write the administrator's kubeconfig."""
    addresses = {"127.0.0.1", plan.kubernetes_service_ip, plan.advertise_address}
    underlay = {h.host.underlay_ip for h in plan.hosts}
    options = PkiOptions(
        ips=tuple(sorted(addresses | underlay)), cluster_domain=plan.configuration.cluster_domain
    )
    clock = SystemClock()
    pki = ensure_pki(directory, options, clock)
    admin = pki.clients["admin"]
    write_kubeconfig(
        Path(kubeconfig),
        server=f"https://127.0.0.1:{plan.configuration.port}",
        ca_pem=pki.ca_pem(),
        cert_pem=admin.cert.read_bytes(),
        key_pem=admin.key.read_bytes(),
        cluster=plan.name,
    )
    return Identities(
        pki,
        CertificateAuthority.load(directory, clock),
        tuple(sorted(underlay | {"127.0.0.1"})),
        pki.node_token_key.read_bytes(),
    )


def _credential(pki: Pki, pair: KeyPair) -> Credential:
    return Credential(pki.ca_pem().encode(), pair.cert.read_bytes(), pair.key.read_bytes())
