"""When `up` may return: the API answers, every node is Ready, and a pod could resolve names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from actors.errors import UserError
from actors.plan import ClusterPlan
from cluster.api.errors import NotFound, StatusError
from cluster.api.meta import ENDPOINTSLICES, NODES, SERVICES, Object
from cluster.client import Client, ClientConfig

POLL_SECONDS = 0.1


async def wait_cluster_ready(
    plan: ClusterPlan, kubeconfig: str, note: Callable[[str], None]
) -> None:
    """Raises UserError after the configuration's ready_timeout_seconds."""
    timeout = plan.configuration.ready_timeout_seconds
    client = ClientConfig.from_kubeconfig(kubeconfig).connect(batches=False)
    try:
        async with asyncio.timeout(timeout):
            if plan.configuration.network == "veth":
                await ensure_cluster_dns(client, plan)
            await _wait_nodes(client, plan.configuration.nodes, note)
    except TimeoutError:
        raise UserError(
            f"the nodes were not Ready within {timeout:.0f} s: see `kubestage status` and "
            "`kubestage logs kubelet-0`"
        ) from None
    except StatusError as error:
        raise UserError(f"the API server answered: {error.message}") from error
    finally:
        await client.close()


async def _wait_nodes(client: Client, wanted: int, note: Callable[[str], None]) -> None:
    began, told = time.monotonic(), -1
    while True:
        nodes = await client.list(NODES)
        ready = sum(is_ready(node) for node in nodes.items)
        if ready != told:
            note(f"{ready} of {wanted} nodes Ready")
            told = ready
        if ready >= wanted:
            return
        await asyncio.sleep(POLL_SECONDS if time.monotonic() - began < 10 else 1.0)


def is_ready(obj: Object) -> bool:
    """Whether an object's Ready condition is True."""
    conditions = obj.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def ensure_cluster_dns(client: Client, plan: ClusterPlan) -> None:
    """The Service kube-system/kube-dns and its EndpointSlice: the hosts' DNS servers.

    # Unlike Kubernetes: DNS servers are actors, not pods, so no selector finds them.
    """
    for gvr, obj in ((SERVICES, _dns_service(plan)), (ENDPOINTSLICES, _dns_endpoints(plan))):
        name = obj["metadata"]["name"]
        try:
            await client.get(gvr, name, "kube-system")
        except NotFound:
            await client.create(gvr, obj, "kube-system")
            continue
        if gvr is ENDPOINTSLICES:
            await client.patch(gvr, name, {"endpoints": obj["endpoints"]}, "kube-system")


def _dns_service(plan: ClusterPlan) -> Object:
    ports = [("dns", 53, "UDP"), ("dns-tcp", 53, "TCP")]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
        },
        "spec": {
            "clusterIP": plan.dns_service_ip,
            "ports": [
                {"name": name, "port": port, "protocol": protocol, "targetPort": port}
                for name, port, protocol in ports
            ],
        },
    }


def _dns_endpoints(plan: ClusterPlan) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns-hosts",
            "namespace": "kube-system",
            "labels": {
                "kubernetes.io/service-name": "kube-dns",
                "endpointslice.kubernetes.io/managed-by": "coredns.kubestage.io",
            },
        },
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": [host.dns_address], "conditions": {"ready": True}} for host in plan.hosts
        ],
        "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        ],
    }
