"""A node's object as its kubelet writes it: labels, capacity, conditions, addresses, nodeInfo.

Plays pkg/kubelet/nodestatus and the registering half of pkg/kubelet/kubelet_node_status.go. Pure.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable

from cluster.api.meta import Object, rfc3339
from cluster.api.quantity import milli_value, value
from cluster.kubelet.config import KubeletConfig, NodeSpec
from cluster.kubelet.qos import amount_of
from cluster.runtime.images import Image

MAX_IMAGES = 50
_CONDITIONS = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory",
     "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)  # fmt: skip


def new_node(spec: NodeSpec, config: KubeletConfig, port: int, now: float) -> Object:
    """The node to register. `port` is where the pool's server listens."""
    labels = {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": spec.name,
        "kubernetes.io/os": "linux",
        **spec.labels,
    }
    annotations = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
    annotations.update(spec.annotations)
    node_spec: Object = {}
    if spec.unschedulable:
        node_spec["unschedulable"] = True
    if spec.taints:
        node_spec["taints"] = [dict(t) for t in spec.taints]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": spec.name, "labels": labels, "annotations": annotations},
        "spec": node_spec,
        "status": node_status(spec, config, None, (), port, now),
    }


def node_status(
    spec: NodeSpec,
    config: KubeletConfig,
    old: Object | None,
    images: Iterable[Image],
    port: int,
    now: float,
) -> Object:
    """The status to report; transition times are kept from `old` where nothing changed."""
    capacity = node_capacity(spec)
    status: Object = {
        "capacity": capacity,
        "allocatable": _allocatable(capacity, config),
        "conditions": _conditions((old or {}).get("conditions") or (), now),
        "addresses": [
            {"type": "InternalIP", "address": spec.ip},
            {"type": "Hostname", "address": spec.name},
        ],
        "daemonEndpoints": {
            "kubeletEndpoint": {"Port": spec.kubelet_port or port or config.server_port}
        },
        "nodeInfo": _node_info(spec, config),
        "runtimeHandlers": [{"name": "", "features": {"recursiveReadOnlyMounts": False}}],
    }
    shown = sorted(images, key=lambda i: -i.size_bytes)[:MAX_IMAGES]
    status["images"] = [
        {"names": [i.image_id, i.reference.canonical], "sizeBytes": i.size_bytes} for i in shown
    ]
    if config.minor < 32:
        del status["runtimeHandlers"]
    return status


def node_capacity(spec: NodeSpec) -> dict[str, str]:
    capacity = {
        "cpu": spec.cpu,
        "ephemeral-storage": spec.ephemeral_storage,
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        "memory": spec.memory,
        "pods": str(spec.pods),
    }
    capacity.update(spec.extended_resources)
    return capacity


def allocatable_amounts(spec: NodeSpec, config: KubeletConfig) -> dict[str, int]:
    """Allocatable as integers, see qos.amount_of."""
    amounts = _allocatable(node_capacity(spec), config)
    return {name: amount_of(name, quantity) for name, quantity in amounts.items()}


def lease(spec: NodeSpec, config: KubeletConfig, node: Object, now_micro: str) -> Object:
    """The node's heartbeat in kube-node-lease."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": spec.name,
            "namespace": "kube-node-lease",
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "name": spec.name,
                    "uid": node["metadata"]["uid"],
                }
            ],
        },
        "spec": {
            "holderIdentity": spec.name,
            "leaseDurationSeconds": config.lease_seconds,
            "renewTime": now_micro,
        },
    }


def _allocatable(capacity: dict[str, str], config: KubeletConfig) -> dict[str, str]:
    allocatable = dict(capacity)
    cpu = milli_value(config.reserved_cpu)
    memory = value(config.reserved_memory)
    if cpu:
        allocatable["cpu"] = f"{milli_value(capacity['cpu']) - cpu}m"
    if memory:
        allocatable["memory"] = str(value(capacity["memory"]) - memory)
    return allocatable


def _conditions(old: Iterable[Object], now: float) -> list[Object]:
    stamp = rfc3339(now)
    before = {c["type"]: c for c in old}
    result = []
    for type_, status, reason, message in _CONDITIONS:
        was = before.pop(type_, None)
        same = was is not None and was["status"] == status
        since = was["lastTransitionTime"] if same and was is not None else stamp
        result.append(
            {
                "type": type_, "status": status, "lastHeartbeatTime": stamp,
                "lastTransitionTime": since, "reason": reason, "message": message,
            }
        )  # fmt: skip
    return [*before.values(), *result]


def _node_info(spec: NodeSpec, config: KubeletConfig) -> Object:
    digest = hashlib.md5(spec.name.encode(), usedforsecurity=False).hexdigest()
    version = "v" + config.kubernetes_version.removeprefix("v")
    info = {
        "architecture": "amd64",
        "bootID": str(uuid.uuid5(uuid.NAMESPACE_DNS, "boot." + spec.name)),
        "containerRuntimeVersion": config.container_runtime_version,
        "kernelVersion": "6.1.0-kubestage",
        "kubeProxyVersion": version,
        "kubeletVersion": version,
        "machineID": digest,
        "operatingSystem": "linux",
        "osImage": "Kubestage",
        "swap": {"capacity": 0},
        "systemUUID": str(uuid.UUID(digest)),
    }
    if config.minor >= 33:
        # Deprecated and emptied upstream; kept "" because clients require the key.
        info["kubeProxyVersion"] = ""
    if config.minor < 34:
        del info["swap"]
    return info
