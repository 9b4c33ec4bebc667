"""The scheduler's picture of the cluster: nodes as numpy columns, and the pods on them.

Plays pkg/scheduler/backend/cache. A row is a node; `requested` is what the pods on it ask for,
assumed ones (bound in our mind, not yet seen bound) included. All methods are synchronous.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.api.meta import Object, object_key
from cluster.api.quantity import milli_value, value
from cluster.scheduler.matching import PodCounts, PodKind
from cluster.scheduler.shape import HostPort, Shape, Shapes, normalized_image

CPU, MEMORY, EPHEMERAL, PODS = 0, 1, 2, 3
MAX_CHANGES = 10_000
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(slots=True, eq=False)
class PodInfo:
    """A pod the scheduler knows. `node` is '' while it waits."""

    key: str
    uid: str
    obj: Object
    shape: Shape
    node: str = ""
    terminating: bool = False

    @property
    def priority(self) -> int:
        return self.shape.priority

    @property
    def namespace(self) -> str:
        return self.shape.namespace

    @property
    def name(self) -> str:
        return str(self.obj["metadata"]["name"])


@dataclass(slots=True, eq=False)
class NodeRow:
    """What is not a number about a node."""

    name: str
    obj: Object | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, Any], ...] = ()
    images: Mapping[str, int] = field(default_factory=dict)
    pods: dict[str, PodInfo] = field(default_factory=dict)
    ports: dict[HostPort, int] = field(default_factory=dict)


class NodeTable:
    """Rows 0..size; a row with `valid` False is free or has pods but no Node object (yet)."""

    def __init__(self) -> None:
        self.size = 0
        self.rows: list[NodeRow | None] = []
        self.resources: dict[str, int] = {
            "cpu": CPU, "memory": MEMORY, "ephemeral-storage": EPHEMERAL, "pods": PODS,
        }  # fmt: skip
        self.allocatable: Ints = np.zeros((4, 0), np.int64)
        self.requested: Ints = np.zeros((4, 0), np.int64)
        self.nonzero: Ints = np.zeros((2, 0), np.int64)
        self.valid: Bools = np.zeros(0, np.bool_)
        self.unschedulable: Bools = np.zeros(0, np.bool_)
        self.taint_set: Ints = np.zeros(0, np.int64)
        self.taint_sets: list[tuple[Mapping[str, Any], ...]] = [()]
        self.labels: dict[str, dict[str, set[int]]] = {}
        self.images: dict[str, dict[int, int]] = {}
        self.generation = 0
        """Counts changes of names, labels, taints and unschedulable: what static verdicts rest
        on."""
        self.epoch = 0
        """Counts changes that more than single rows' pods are about: nodes, allocatable, images."""
        self.changes: list[int] = []
        """Rows whose pods changed, in order, since the epoch began."""
        self.count = 0
        self.pod_counts = PodCounts()
        self.affine: dict[bytes, tuple[Shape, dict[int, int]]] = {}
        """Shapes with terms about other pods: how many pods of each on which rows."""
        self._domains: dict[str, tuple[int, Ints, int]] = {}
        self._row_of: dict[str, int] = {}
        self._free: list[int] = []
        self._taint_ids: dict[str, int] = {"()": 0}
        self._amounts: dict[bytes, tuple[tuple[int, int], ...]] = {}

    def row_of(self, name: str) -> int | None:
        """The row of a node that exists (has a Node object)."""
        row = self._row_of.get(name)
        return row if row is not None and self.valid[row] else None

    def at(self, row: int) -> NodeRow:
        found = self.rows[row]
        assert found is not None
        return found

    def name_of(self, row: int) -> str:
        return self.at(row).name

    def live_rows(self) -> list[int]:
        return [int(r) for r in np.flatnonzero(self.valid[: self.size])]

    def amounts(self, shape: Shape) -> tuple[tuple[int, int], ...]:
        """A shape's requests as (resource index, amount), the pod itself included."""
        found = self._amounts.get(shape.key)
        if found is None:
            found = tuple((self._resource(n), a) for n, a in shape.requests.items() if n != "pods")
            found = (*found, (PODS, 1))
            if len(self._amounts) > 4096:
                self._amounts.clear()
            self._amounts[shape.key] = found
        return found

    def domains(self, topology_key: str) -> tuple[Ints, int]:
        """(number of the domain each row is in, -1 for none; how many domains there are)."""
        kept = self._domains.get(topology_key)
        if kept is not None and kept[0] == self.generation and len(kept[1]) == self.size:
            return kept[1], kept[2]
        numbers = np.full(self.size, -1, np.int64)
        values = self.labels.get(topology_key, {})
        for number, rows in enumerate(values.values()):
            numbers[[*rows]] = number
        if len(self._domains) > 64:
            self._domains.clear()
        self._domains[topology_key] = (self.generation, numbers, len(values))
        return numbers, len(values)

    def matching(self, kind: PodKind) -> Ints:
        """How many pods of the kind are on each row."""
        before = self.pod_counts.forgotten
        counts = self.pod_counts.column(kind, self.valid.shape[0], self._walk())
        if self.pod_counts.forgotten != before:
            self.new_epoch()  # somebody may still look at the column that is no longer moved along
        return counts[: self.size]

    def _walk(self) -> Iterable[tuple[int, Shape, bool]]:
        for row, entry in enumerate(self.rows):
            if entry is not None:
                for pod in entry.pods.values():
                    yield row, pod.shape, pod.terminating

    def resource_names(self) -> list[str]:
        return [*self.resources]

    def set_node(self, node: Object) -> None:
        name = node["metadata"]["name"]
        row = self._ensure_row(name)
        entry = self.at(row)
        fresh = not self.valid[row]
        spec = node.get("spec") or {}
        labels = node["metadata"].get("labels") or {}
        taints = tuple(spec.get("taints") or ())
        if fresh or labels != entry.labels:
            self._set_labels(row, entry, labels)
        if fresh or taints != entry.taints:
            entry.taints = taints
            self.taint_set[row] = self._intern_taints(taints)
            self.generation += 1
            self.new_epoch()
        if fresh or bool(spec.get("unschedulable")) != bool(self.unschedulable[row]):
            self.unschedulable[row] = bool(spec.get("unschedulable"))
            self.generation += 1
            self.new_epoch()
        self._set_allocatable(row, (node.get("status") or {}).get("allocatable") or {}, entry)
        self._set_images(row, entry, (node.get("status") or {}).get("images") or ())
        if fresh:
            self.valid[row] = True
            self.count += 1
            self.generation += 1
            self.new_epoch()
        entry.obj = node

    def remove_node(self, name: str) -> None:
        row = self._row_of.get(name)
        if row is None or not self.valid[row]:
            return
        entry = self.at(row)
        self._set_labels(row, entry, {})
        self._set_images(row, entry, ())
        entry.obj = None
        entry.taints = ()
        self.valid[row] = False
        self.count -= 1
        self.generation += 1
        self.new_epoch()
        self._free_if_empty(row)

    def add_pod(self, pod: PodInfo, node: str) -> int:
        """Count `pod` on `node` (a node that is not known gets a row of its own). Returns the
        row."""
        row = self._ensure_row(node)
        entry = self.at(row)
        assert pod.key not in entry.pods, f"{pod.key} is on {node} already"
        entry.pods[pod.key] = pod
        pod.node = node
        self._count(row, entry, pod.shape, 1, terminating=pod.terminating)
        return row

    def remove_pod(self, pod: PodInfo) -> int:
        row = self._row_of[pod.node]
        entry = self.at(row)
        del entry.pods[pod.key]
        self._count(row, entry, pod.shape, -1, terminating=pod.terminating)
        self._free_if_empty(row)
        return row

    def reserve(self, row: int, shape: Shape) -> None:
        """Count a pod that is only nominated for `row`; `release` must follow."""
        self._count(row, self.at(row), shape, 1)

    def release(self, row: int, shape: Shape) -> None:
        self._count(row, self.at(row), shape, -1)

    def new_epoch(self) -> None:
        """Verdicts kept from before no longer hold."""
        self.epoch += 1
        self.changes.clear()

    def _count(
        self, row: int, entry: NodeRow, shape: Shape, sign: int, *, terminating: bool = False
    ) -> None:
        if len(self.changes) >= MAX_CHANGES:
            self.new_epoch()
        self.changes.append(row)
        for index, amount in self.amounts(shape):
            self.requested[index, row] += sign * amount
        self.nonzero[0, row] += sign * shape.nonzero_milli_cpu
        self.nonzero[1, row] += sign * shape.nonzero_memory_bytes
        self.pod_counts.count(row, shape, sign, terminating=terminating)
        if shape.affine:
            self._count_affine(row, shape, sign)
        for port in shape.host_ports:
            left = entry.ports.get(port, 0) + sign
            if left:
                entry.ports[port] = left
            else:
                del entry.ports[port]

    def _count_affine(self, row: int, shape: Shape, sign: int) -> None:
        _, rows = self.affine.setdefault(shape.key, (shape, {}))
        left = rows.get(row, 0) + sign
        if left:
            rows[row] = left
        else:
            del rows[row]
            if not rows:
                del self.affine[shape.key]
        self.new_epoch()

    def _ensure_row(self, name: str) -> int:
        row = self._row_of.get(name)
        if row is not None:
            return row
        if self._free:
            row = self._free.pop()
        else:
            row = self.size
            if row >= self.valid.shape[0]:
                self._grow(max(64, 2 * row))
            self.size += 1
            self.rows.append(None)
        self.rows[row] = NodeRow(name)
        self._row_of[name] = row
        self.new_epoch()
        return row

    def _free_if_empty(self, row: int) -> None:
        entry = self.at(row)
        if entry.obj is None and not entry.pods:
            del self._row_of[entry.name]
            self.rows[row] = None
            self.allocatable[:, row] = 0
            self.requested[:, row] = 0
            self.nonzero[:, row] = 0
            self.unschedulable[row] = False
            self.taint_set[row] = 0
            self._free.append(row)

    def _grow(self, capacity: int) -> None:
        more = capacity - self.valid.shape[0]
        self.pod_counts.forget()
        self.allocatable = np.pad(self.allocatable, ((0, 0), (0, more)))
        self.requested = np.pad(self.requested, ((0, 0), (0, more)))
        self.nonzero = np.pad(self.nonzero, ((0, 0), (0, more)))
        self.valid = np.pad(self.valid, (0, more))
        self.unschedulable = np.pad(self.unschedulable, (0, more))
        self.taint_set = np.pad(self.taint_set, (0, more))

    def _resource(self, name: str) -> int:
        index = self.resources.get(name)
        if index is None:
            index = self.resources[name] = len(self.resources)
            self.allocatable = np.pad(self.allocatable, ((0, 1), (0, 0)))
            self.requested = np.pad(self.requested, ((0, 1), (0, 0)))
        return index

    def _set_allocatable(self, row: int, allocatable: Mapping[str, Any], entry: NodeRow) -> None:
        before = ((entry.obj or {}).get("status") or {}).get("allocatable")
        if entry.obj is not None and before == allocatable:
            return
        found = {
            self._resource(name): milli_value(q) if name == "cpu" else value(q)
            for name, q in allocatable.items()
        }
        self.allocatable[:, row] = 0
        for index, amount in found.items():
            self.allocatable[index, row] = amount
        self.new_epoch()

    def _set_labels(self, row: int, entry: NodeRow, labels: Mapping[str, str]) -> None:
        for key, text in entry.labels.items():
            if labels.get(key) != text:
                values = self.labels[key]
                values[text].discard(row)
                if not values[text]:
                    del values[text]
        for key, text in labels.items():
            self.labels.setdefault(key, {}).setdefault(text, set()).add(row)
        entry.labels = labels
        self.generation += 1
        self.new_epoch()

    def _set_images(self, row: int, entry: NodeRow, images: Iterable[Mapping[str, Any]]) -> None:
        if entry.obj is not None and (entry.obj.get("status") or {}).get("images") == images:
            return
        fresh = {
            normalized_image(name): int(image.get("sizeBytes") or 0)
            for image in images
            for name in image.get("names") or ()
        }
        if fresh == entry.images:
            return
        for name in entry.images:
            if name not in fresh:
                holders = self.images[name]
                holders.pop(row, None)
                if not holders:
                    del self.images[name]
        for name, size in fresh.items():
            self.images.setdefault(name, {})[row] = size
        entry.images = fresh
        self.new_epoch()

    def _intern_taints(self, taints: tuple[Mapping[str, Any], ...]) -> int:
        text = repr(taints)
        found = self._taint_ids.get(text)
        if found is None:
            found = self._taint_ids[text] = len(self.taint_sets)
            self.taint_sets.append(taints)
        return found


class Cache:
    """Pods and nodes as the informers tell them, plus what we assume."""

    def __init__(self, shapes: Shapes, *, assumed_seconds: float = 0.0) -> None:
        """`assumed_seconds`: how long an assumption lives after its binding was acknowledged
        without being seen by the informer; 0 for ever, as upstream."""
        self.nodes = NodeTable()
        self.shapes = shapes
        self._assumed_seconds = assumed_seconds
        self._pods: dict[str, PodInfo] = {}
        self._assumed: dict[str, float | None] = {}

    @property
    def pods(self) -> Mapping[str, PodInfo]:
        """Every pod that is on a node, assumed ones included, by key."""
        return self._pods

    @property
    def assumed(self) -> Iterable[str]:
        return self._assumed.keys()

    def is_assumed(self, key: str) -> bool:
        return key in self._assumed

    def info(self, pod: Object) -> PodInfo:
        metadata = pod["metadata"]
        return PodInfo(
            object_key(pod),
            metadata.get("uid", ""),
            pod,
            self.shapes.of(pod),
            terminating=bool(metadata.get("deletionTimestamp")),
        )

    def assume(self, pod: PodInfo, node: str) -> int:
        """Count a pod on the node chosen for it. Returns the row."""
        assert pod.key not in self._pods, f"{pod.key} is placed already"
        self._pods[pod.key] = pod
        self._assumed[pod.key] = None
        return self.nodes.add_pod(pod, node)

    def finish_binding(self, key: str, now: float) -> None:
        """The API server took the binding: from now on the assumption may expire."""
        if key in self._assumed and self._assumed_seconds > 0:
            self._assumed[key] = now + self._assumed_seconds

    def forget(self, key: str) -> PodInfo | None:
        """The binding failed."""
        if key not in self._assumed:
            return None
        del self._assumed[key]
        pod = self._pods.pop(key)
        self.nodes.remove_pod(pod)
        pod.node = ""
        return pod

    def expire(self, now: float) -> list[PodInfo]:
        """Assumptions that were never confirmed in time are dropped."""
        gone = [k for k, until in self._assumed.items() if until is not None and until <= now]
        return [pod for pod in map(self.forget, gone) if pod is not None]

    def set_pod(self, obj: Object) -> PodInfo:
        """A pod seen on a node: confirms an assumption, or adds, or replaces it."""
        key = object_key(obj)
        node = obj["spec"]["nodeName"]
        known = self._pods.get(key)
        if known is not None:
            self._assumed.pop(key, None)
            shape = self.shapes.of(obj)
            same = known.uid == obj["metadata"].get("uid", "") and known.node == node
            ending = bool(obj["metadata"].get("deletionTimestamp"))
            if same and shape is known.shape and ending == known.terminating:
                known.obj = obj
                return known
            self.nodes.remove_pod(known)
        info = self.info(obj)
        self._pods[key] = info
        self.nodes.add_pod(info, node)
        return info

    def touch_pod(self, obj: Object) -> None:
        """A pod on a node changed nothing but its status."""
        known = self._pods.get(object_key(obj))
        if known is not None:
            known.obj = obj

    def remove_pod(self, key: str) -> PodInfo | None:
        self._assumed.pop(key, None)
        known = self._pods.pop(key, None)
        if known is not None:
            self.nodes.remove_pod(known)
        return known
