"""The pod network: real namespaces, links, routes and rules, made fast and removed without a trace.

Plays the parts that CNI plugins, flannel and kube-proxy's nftables backend have in a cluster, and
knows no Kubernetes: pods are ids with addresses, services are virtual servers. Everything of one
cluster on one host is inside one network namespace, the fabric (fabric.py says why). The only house
that speaks netlink, and the only one that enters namespaces.
"""

from netlab.fabric import Fabric, FabricStatistics
from netlab.sweep import sweep
from netlab.values import (
    AddressesExhausted,
    Attachment,
    FabricConfig,
    HostPort,
    ListenerError,
    NetlabError,
    Peer,
    PodLink,
)

__all__ = [
    "AddressesExhausted",
    "Attachment",
    "Fabric",
    "FabricConfig",
    "FabricStatistics",
    "HostPort",
    "ListenerError",
    "NetlabError",
    "Peer",
    "PodLink",
    "sweep",
]
