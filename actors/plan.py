"""What a cluster will be, before anything is started: which node on which host, which address
for whom, which actors. Pure: hosts and configuration in, a plan out.

The address plan (ARCHITECTURE.md, stage 6): node CIDR x.y.0.0/16 gives every host the
address x.y.0.(1+h) (the host's end of the uplink; the API server is reached there from pods),
every host's DNS server x.y.0.(129+h), and every node x.y.1.0 + i.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass

from actors.configuration import ClusterConfiguration
from actors.errors import UserError

MAX_HOSTS = 120
KUBELET_PORT = 10250
"""Port of a host's first kubelet actor inside the fabric; the next ones follow."""


@dataclass(frozen=True, slots=True)
class Host:
    """A machine of the Ray cluster, as Ray tells it."""

    ray_node_id: str
    underlay_ip: str
    cores: int


@dataclass(frozen=True, slots=True)
class NodePlan:
    """An emulated Kubernetes node."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class HostPlan:
    """One host's share of the cluster."""

    index: int
    host: Host
    address: str
    dns_address: str
    nodes: tuple[NodePlan, ...]


@dataclass(frozen=True, slots=True)
class KubeletPlan:
    """One kubelet actor: the nodes that it plays, and its HTTPS port (0: any)."""

    index: int
    host_index: int
    port: int
    nodes: tuple[NodePlan, ...]


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """See the module."""

    configuration: ClusterConfiguration
    hosts: tuple[HostPlan, ...]
    kubelets: tuple[KubeletPlan, ...]
    kubernetes_service_ip: str
    dns_service_ip: str
    node_cidr_mask: int
    vni: int

    @property
    def name(self) -> str:
        return self.configuration.name

    @property
    def head(self) -> HostPlan:
        """The host with the API server."""
        return self.hosts[0]

    @property
    def advertise_address(self) -> str:
        """Where pods (network veth) reach the API server."""
        if self.configuration.network == "veth":
            return self.head.address
        return self.head.host.underlay_ip

    @property
    def server_url(self) -> str:
        """Where components reach the API server."""
        return f"https://{self.head.host.underlay_ip}:{self.configuration.port}"


def plan_cluster(configuration: ClusterConfiguration, hosts: list[Host]) -> ClusterPlan:
    """`hosts[0]` carries the control plane; nodes are dealt out in turn. Raises UserError."""
    if len(hosts) > MAX_HOSTS:
        raise UserError(f"{len(hosts)} Ray hosts; {MAX_HOSTS} are supported")
    node_net = ipaddress.IPv4Network(configuration.node_cidr)
    service_net = ipaddress.IPv4Network(configuration.service_cidr)
    if configuration.nodes + 256 > node_net.num_addresses - 2:
        raise UserError(f"node-cidr {node_net} is too small for {configuration.nodes} nodes")
    nodes = [NodePlan(f"node-{i}", str(node_net[256 + i])) for i in range(configuration.nodes)]
    host_plans = tuple(
        HostPlan(
            h, host, str(node_net[1 + h]), str(node_net[129 + h]), tuple(nodes[h :: len(hosts)])
        )
        for h, host in enumerate(hosts)
    )
    return ClusterPlan(
        configuration=configuration,
        hosts=host_plans,
        kubelets=_kubelets(configuration, host_plans),
        kubernetes_service_ip=str(service_net[1]),
        dns_service_ip=str(service_net[10]),
        node_cidr_mask=node_cidr_mask(configuration),
        vni=_vni(configuration.name),
    )


def node_cidr_mask(configuration: ClusterConfiguration) -> int:
    """The prefix length of a node's podCIDR: room for its pods twice over, if the cluster CIDR
    has that for all nodes (with a quarter more nodes to come); never below a node's pods."""
    cluster_bits = 32 - ipaddress.IPv4Network(configuration.pod_cidr).prefixlen
    needed = math.ceil(math.log2(configuration.node_pods + 3))
    wanted = needed + 1
    node_bits = math.ceil(math.log2(max(configuration.nodes * 5 // 4, 1)))
    bits = min(wanted, cluster_bits - node_bits)
    if bits < needed:
        raise UserError(
            f"pod-cidr {configuration.pod_cidr} is too small for {configuration.nodes} nodes "
            f"of {configuration.node_pods} pods: use a /{32 - needed - node_bits} or wider"
        )
    return 32 - bits


def _kubelets(
    configuration: ClusterConfiguration, hosts: tuple[HostPlan, ...]
) -> tuple[KubeletPlan, ...]:
    plans: list[KubeletPlan] = []
    for host in hosts:
        size = configuration.kubelets_per_actor or _kubelets_per_actor(host)
        for n, start in enumerate(range(0, len(host.nodes), size)):
            port = KUBELET_PORT + n if configuration.network == "veth" else 0
            chunk = host.nodes[start : start + size]
            plans.append(KubeletPlan(len(plans), host.index, port, chunk))
    return tuple(plans)


def _kubelets_per_actor(host: HostPlan) -> int:
    """One actor up to 100 nodes, then one a core: an actor is a process of 94 MB."""
    actors = 1 if len(host.nodes) <= 100 else max(1, min(host.host.cores, len(host.nodes) // 100))
    return max(1, math.ceil(len(host.nodes) / actors))


def _vni(name: str) -> int:
    """A VXLAN network identifier of the cluster's own."""
    import zlib

    return 1 + zlib.crc32(name.encode()) % 0xFFFFFE
