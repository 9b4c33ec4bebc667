"""The small plugins: NodeName, NodeUnschedulable, NodePorts, ImageLocality, SchedulingGates,
PrioritySort, DefaultBinder. Each plays the package of its name under
pkg/scheduler/framework/plugins."""

from __future__ import annotations

import asyncio

import numpy as np

from cluster.api.meta import PODS as POD_RESOURCE
from cluster.api.meta import Object
from cluster.client import Client
from cluster.scheduler.cache import NodeTable, PodInfo
from cluster.scheduler.events import ClusterEvent
from cluster.scheduler.framework import (
    MAX_NODE_SCORE,
    Code,
    Mask,
    Reach,
    Scores,
    State,
    Status,
    unresolvable,
    unschedulable,
)
from cluster.scheduler.plugins.tainttoleration import tolerates
from cluster.scheduler.shape import HostPort, Shape

MEGABYTE = 1024 * 1024
MIN_THRESHOLD = 23 * MEGABYTE
MAX_CONTAINER_THRESHOLD = 1000 * MEGABYTE
UNSCHEDULABLE_TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


class NodeName:
    """A pod that names its node goes there. The API never gives us one (it is bound already): the
    plugin is here for its place in the order and for configurations that name it."""

    name = "NodeName"
    filter_reach = Reach.NOTHING

    def filter(self, shape: Shape, nodes: NodeTable, state: State) -> Mask | None:
        return None

    def filter_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> bool:
        return True

    def explain(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> Status:
        return unresolvable("node(s) didn't match the requested node name")

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        return event.resource == "Node" and event.action == "Add"


class NodeUnschedulable:
    """Cordoned nodes take only pods that tolerate it."""

    name = "NodeUnschedulable"
    filter_reach = Reach.NOTHING

    def filter(self, shape: Shape, nodes: NodeTable, state: State) -> Mask | None:
        cordoned = nodes.unschedulable[: nodes.size]
        if not cordoned.any() or tolerates(shape.tolerations, UNSCHEDULABLE_TAINT):
            return None
        return ~cordoned

    def filter_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> bool:
        return not nodes.unschedulable[row] or tolerates(shape.tolerations, UNSCHEDULABLE_TAINT)

    def explain(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> Status:
        return unresolvable("node(s) were unschedulable")

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        if event.resource != "Node" or event.new is None:
            return False
        if event.action not in ("Add", "TaintChange"):
            return False
        return not (event.new.get("spec") or {}).get("unschedulable")


class NodePorts:
    """Two pods cannot have the same port of a node's address."""

    name = "NodePorts"
    filter_reach = Reach.ROW

    def filter(self, shape: Shape, nodes: NodeTable, state: State) -> Mask | None:
        if not shape.host_ports:
            return None
        mask = np.ones(nodes.size, np.bool_)
        for row, entry in enumerate(nodes.rows):
            if entry is not None and entry.ports:
                mask[row] = _ports_fit(shape, entry.ports)
        return mask

    def filter_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> bool:
        return not shape.host_ports or _ports_fit(shape, nodes.at(row).ports)

    def explain(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> Status:
        return unschedulable("node(s) didn't have free ports for the requested pod ports")

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        if event.resource == "Node":
            return event.action == "Add"
        if event.resource != "AssignedPod" or event.action != "Delete" or event.old is None:
            return False
        from cluster.scheduler.shape import host_ports

        freed = [*host_ports(event.old["spec"].get("containers") or ())]
        return any(_ports_conflict(ours, theirs) for ours in shape.host_ports for theirs in freed)


class ImageLocality:
    """Prefers nodes that have the images, the bigger and the more widely spread the better."""

    name = "ImageLocality"
    score_reach = Reach.NOTHING

    def pre_score(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> bool:
        return any(image in nodes.images for image in shape.images)

    def score(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> Scores:
        total = np.zeros(nodes.size, np.int64)
        for image in shape.images:
            holders = nodes.images.get(image)
            if holders:
                spread = len(holders) / max(1, nodes.count)
                for row, size in holders.items():
                    total[row] += int(size * spread)
        most = MAX_CONTAINER_THRESHOLD * max(1, shape.container_count)
        total = np.clip(total, MIN_THRESHOLD, most)
        found: Scores = MAX_NODE_SCORE * (total - MIN_THRESHOLD) // (most - MIN_THRESHOLD)
        return found

    def score_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> int:
        raise AssertionError("a placement moves no image")

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        return False


class SchedulingGates:
    """Pods with gates are held out of the active queue."""

    name = "SchedulingGates"

    def pre_enqueue(self, pod: PodInfo) -> Status | None:
        gates = pod.obj["spec"].get("schedulingGates")
        if not gates:
            return None
        names = " ".join(str(gate.get("name")) for gate in gates)
        return Status(
            Code.UNSCHEDULABLE_AND_UNRESOLVABLE, (f"waiting for scheduling gates: [{names}]",)
        )

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        return event.resource == "Pod"


class PrioritySort:
    """Higher priority first, then who came to the queue first."""

    name = "PrioritySort"

    def sort_key(self, pod: PodInfo, timestamp: float) -> tuple[float, ...]:
        return (-pod.shape.priority, timestamp)

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        return False


class DefaultBinder:
    """POST pods/NAME/binding, in the client's batches."""

    name = "DefaultBinder"

    def __init__(self, client: Client) -> None:
        self._client = client

    def bind(self, pod: PodInfo, node: str) -> asyncio.Future[Object]:
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"kind": "Node", "name": node},
        }
        return self._client.create_nowait(
            POD_RESOURCE, binding, pod.namespace, subresource="binding", name=pod.name,
            answer="none",
        )  # fmt: skip

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        return False


def _ports_fit(shape: Shape, used: dict[HostPort, int]) -> bool:
    return not any(_ports_conflict(ours, theirs) for ours in shape.host_ports for theirs in used)


def _ports_conflict(one: HostPort, other: HostPort) -> bool:
    """Same protocol and port, and the addresses overlap (0.0.0.0 is all of them)."""
    if one[1:] != other[1:]:
        return False
    return one[0] == other[0] or "0.0.0.0" in (one[0], other[0])
