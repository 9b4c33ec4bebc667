"""The nouns of the pod network, as values. No Kubernetes here: a pod is an id with a link, a node a
set of addresses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

GATEWAY = "169.254.1.1"
GATEWAY_MAC = b"\xee" * 6
"""Every pod's default gateway: the same address and MAC everywhere, known to each pod by a
permanent entry."""


class NetlabError(Exception):
    """The network could not do it; the message says what to do."""


class AddressesExhausted(NetlabError):
    """A range has no free address left."""


class ListenerError(NetlabError):
    """A namespace that a socket was wanted in does not exist."""


@dataclass(frozen=True, slots=True)
class FabricConfig:
    """One cluster's network on one host. `host_address` is this host's address out of `node_cidr`,
    the host end of the uplink; `underlay_ip` its address that other hosts reach ('' when there are
    none)."""

    cluster: str
    state_dir: Path
    pod_cidr: str
    service_cidr: str
    node_cidr: str
    host_address: str
    underlay_ip: str = ""
    vni: int = 1
    vxlan_port: int = 8472
    mtu: int = 1400

    @property
    def uplink(self) -> str:
        """The one link in the host's namespace, named after its cluster."""
        digest = hashlib.sha256(f"{self.cluster}\0{self.state_dir}".encode()).hexdigest()[:4]
        plain = "".join(c for c in self.cluster if c.isalnum() or c in "-_")[:7]
        return f"ks-{plain}-{digest}"

    @property
    def namespaces(self) -> Path:
        return self.state_dir / "netns"

    @property
    def fabric_path(self) -> Path:
        return self.namespaces / "fabric"


@dataclass(frozen=True, slots=True)
class HostPort:
    """`address:host_port` leads to the pod's `container_port`. The address '' is every node address
    of this host."""

    host_port: int
    container_port: int
    protocol: str = "TCP"
    address: str = ""


@dataclass(frozen=True, slots=True)
class PodLink:
    """A wanted pod: `cidr` is the range its address comes from; `ip` asks for a certain one.
    `netns`: the namespace is there already (a container runtime made it), and is not the fabric's
    to free."""

    id: str
    node: str
    cidr: str
    ip: str = ""
    host_ports: Sequence[HostPort] = ()
    netns: str = ""
    ifname: str = "eth0"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A pod that is attached: its namespace is the file `netns_path`, its link in the fabric
    `interface`."""

    id: str
    node: str
    cidr: str
    ip: str
    netns_path: str
    interface: str
    host_ports: Sequence[HostPort] = ()
    seconds: float = 0.0
    borrowed: bool = False
    """Somebody else made the namespace."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another host of the cluster: what lies behind it (`cidrs`, `node_addresses`) goes to
    `underlay_ip` by VXLAN, or by a plain route through it if `direct`."""

    underlay_ip: str
    host_address: str
    cidrs: tuple[str, ...] = ()
    node_addresses: tuple[str, ...] = ()
    direct: bool = False
