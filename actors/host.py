"""What is done on one host outside of any component: as a Ray task, or directly by `down`.

The fabric (netlab) is one network namespace a cluster and host; every actor of the host that needs
it calls `open_fabric`, whoever comes first makes it.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import netlab
from actors import paths
from actors.plan import ClusterPlan, HostPlan
from netlab import Fabric, FabricConfig


def fabric_config(plan: ClusterPlan, host: HostPlan) -> FabricConfig:
    """netlab's view of one host of the plan."""
    settings = plan.configuration
    return FabricConfig(
        cluster=plan.name,
        state_dir=paths.host_run_dir(plan.name, host.host.underlay_ip),
        pod_cidr=settings.pod_cidr,
        service_cidr=settings.service_cidr,
        node_cidr=settings.node_cidr,
        host_address=host.address,
        underlay_ip=host.host.underlay_ip,
        vni=plan.vni,
    )


def open_fabric(plan: ClusterPlan, host: HostPlan, owner: str) -> Fabric:
    """The host's fabric, made if need be, with the addresses of its nodes and its DNS server.
    `owner` names the ledger of whoever opens it."""
    fabric = Fabric.ensure(fabric_config(plan, host), owner)
    fabric.set_node_addresses([host.dns_address, *(node.address for node in host.nodes)])
    return fabric


def sweep(cluster: str, underlay_ip: str) -> list[str]:
    """Remove all that a cluster made on this host, after its actors are gone. Idempotent.

    Answers with what could not be removed.
    """
    directory = paths.host_run_dir(cluster, underlay_ip)
    left: list[str] = []
    if directory.is_dir():
        netlab.sweep(directory)
        shutil.rmtree(directory, ignore_errors=True)
        if directory.exists():
            left.append(str(directory))
    return left


def end_actor_processes(pids: list[int]) -> None:
    """SIGKILL processes that the caller has made sure are ours."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def state_directories(cluster: str) -> list[Path]:
    """This host's run directories of a cluster (several where raylets share a file system)."""
    root = paths.run_dir(cluster) / "hosts"
    return sorted(root.iterdir()) if root.is_dir() else []
