"""VolumeBinding: a pod's claims and where their volumes can be.

Plays pkg/scheduler/framework/plugins/volumebinding. Claims that wait for their first consumer are
decided here: a fitting PersistentVolume is claimed for them, or their class's provisioner is told
the node. The binding itself is the persistent-volume controller's; `pre_bind` waits for it.
Leaves out: CSIStorageCapacity, the score by capacity (off by default upstream), in-tree migration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.api.meta import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, Object
from cluster.api.quantity import value
from cluster.api.selectors import LabelSelector
from cluster.client import Client, Informer
from cluster.scheduler.cache import NodeTable, PodInfo
from cluster.scheduler.events import ClusterEvent
from cluster.scheduler.framework import Mask, Reach, State, Status, unresolvable, unschedulable
from cluster.scheduler.plugins.nodeaffinity import match_terms
from cluster.scheduler.shape import Shape

NODE_CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
BIND_CONFLICT = "node(s) didn't find available persistent volumes to bind"
NO_VOLUME = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
UNBOUND_IMMEDIATE = "pod has unbound immediate PersistentVolumeClaims"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
BIND_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Storage:
    """The informers that this plugin reads."""

    claims: Informer
    volumes: Informer
    classes: Informer


@dataclass(frozen=True, slots=True)
class Decision:
    """One claim: bound to `volume`, or provisioned for the node ('')."""

    claim: Object
    volume: str


class VolumeBinding:
    name = "VolumeBinding"
    filter_reach = Reach.ALL

    def __init__(self, client: Client, storage: Storage, seconds: float = BIND_SECONDS) -> None:
        self._client = client
        self._storage = storage
        self._seconds = seconds
        self._decided: dict[str, Sequence[Decision]] = {}
        self._taken: dict[str, str] = {}
        self._changed = asyncio.Event()
        storage.claims.add_handler_batch(lambda changes: self._changed.set())

    def wants(self, shape: Shape) -> bool:
        """Whether `pre_bind` has anything to do for such a pod."""
        return bool(shape.claims)

    def pre_filter(
        self, shape: Shape, nodes: NodeTable, state: State
    ) -> Status | frozenset[str] | None:
        delayed: list[Object] = []
        bound: list[Object] = []
        for name in shape.claims:
            claim = self._storage.claims.get(f"{shape.namespace}/{name}")
            problem = self._problem(claim, name)
            if claim is None or problem:
                return unresolvable(problem)
            if _is_bound(claim):
                bound.append(claim)
            elif self._delays(claim):
                delayed.append(claim)
            else:
                return unresolvable(UNBOUND_IMMEDIATE)
        state["bound"], state["delayed"] = bound, delayed
        return None

    def filter(self, shape: Shape, nodes: NodeTable, state: State) -> Mask | None:
        if not shape.claims:
            return None
        mask = np.ones(nodes.size, np.bool_)
        for claim in state["bound"]:
            volume = self._storage.volumes.get(claim["spec"]["volumeName"])
            if volume is None:
                return np.zeros(nodes.size, np.bool_)
            mask &= _reachable(volume, nodes)
        if state["delayed"]:
            plans = self._plans(shape, nodes, state["delayed"])
            for row in np.flatnonzero(mask):
                mask[row] = plans(int(row)) is not None
        return mask

    def filter_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> bool:
        mask = self.filter(shape, nodes, state)
        return mask is None or bool(mask[row])

    def explain(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> Status:
        for claim in state["bound"]:
            volume = self._storage.volumes.get(claim["spec"]["volumeName"])
            if volume is None:
                return unresolvable(NO_VOLUME)
            if not _reachable(volume, nodes)[row]:
                return unresolvable(NODE_CONFLICT)
        return unresolvable(BIND_CONFLICT)

    def reserve(self, pod: PodInfo, node: str, state: State, nodes: NodeTable) -> Status | None:
        """Take the volumes chosen for this node out of what others may choose from."""
        if not pod.shape.claims:
            return None
        kept: State = {}
        problem = self.pre_filter(pod.shape, nodes, kept)
        if isinstance(problem, Status):
            return problem
        row = nodes.row_of(node)
        plan = None if row is None else self._plans(pod.shape, nodes, kept["delayed"])(row)
        if plan is None:
            return unresolvable(BIND_CONFLICT)
        self._decided[pod.key] = plan
        for decision in plan:
            if decision.volume:
                self._taken[decision.volume] = pod.key
        return None

    def unreserve(self, pod: PodInfo, node: str, state: State) -> None:
        for decision in self._decided.pop(pod.key, ()):
            self._taken.pop(decision.volume, None)

    async def pre_bind(self, pod: PodInfo, node: str, state: State) -> Status | None:
        """Tell what was decided, wait until every claim is bound."""
        decisions = self._decided.get(pod.key, ())
        await asyncio.gather(*(self._tell(decision, node) for decision in decisions))
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    self._changed.clear()
                    problem = self._unfinished(pod, node, decisions)
                    if problem is None:
                        break
                    if isinstance(problem, Status):
                        return problem
                    await self._changed.wait()
        except TimeoutError:
            return unresolvable("binding volumes: context deadline exceeded")
        self.unreserve(pod, node, state)
        return None

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        if event.resource == "PersistentVolumeClaim" and event.new is not None:
            metadata = event.new["metadata"]
            return metadata.get("namespace") == shape.namespace and metadata["name"] in shape.claims
        if event.resource == "Node":
            return event.action in ("Add", "LabelChange")
        return event.resource in ("PersistentVolume", "StorageClass") and event.new is not None

    def _problem(self, claim: Object | None, name: str) -> str:
        if claim is None:
            return f'persistentvolumeclaim "{name}" not found'
        if (claim.get("status") or {}).get("phase") == "Lost":
            volume = claim["spec"].get("volumeName", "")
            return (
                f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"'
            )
        if claim["metadata"].get("deletionTimestamp"):
            return f'persistentvolumeclaim "{name}" is being deleted'
        return ""

    def _class_of(self, claim: Object) -> Object | None:
        name = claim["spec"].get("storageClassName")
        return self._storage.classes.get(name) if name else None

    def _delays(self, claim: Object) -> bool:
        found = self._class_of(claim)
        return found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"

    def _plans(
        self, shape: Shape, nodes: NodeTable, delayed: Sequence[Object]
    ) -> Callable[[int], Sequence[Decision] | None]:
        """For a row: what to do about each claim, None if there is no way. Small volumes first."""
        free = sorted(
            (v for v in self._storage.volumes.list() if self._is_free(v)),
            key=lambda v: value((v["spec"].get("capacity") or {}).get("storage", "0")),
        )
        reach = {v["metadata"]["name"]: _reachable(v, nodes) for v in free}
        topology = [self._provisionable(claim, nodes) for claim in delayed]

        def plan(row: int) -> Sequence[Decision] | None:
            used: set[str] = set()
            decisions = []
            for claim, can_provision in zip(delayed, topology, strict=True):
                chosen = ""
                for volume in free:
                    name = volume["metadata"]["name"]
                    if name not in used and reach[name][row] and _suits(volume, claim):
                        chosen = name
                        break
                if not chosen and not can_provision[row]:
                    return None
                used.add(chosen)
                decisions.append(Decision(claim, chosen))
            return decisions

        return plan

    def _is_free(self, volume: Object) -> bool:
        if volume["metadata"]["name"] in self._taken or volume["metadata"].get("deletionTimestamp"):
            return False
        return not volume["spec"].get("claimRef") and (
            (volume.get("status") or {}).get("phase") in (None, "Available", "Pending")
        )

    def _provisionable(self, claim: Object, nodes: NodeTable) -> Mask:
        found = self._class_of(claim)
        if found is None or found.get("provisioner", NO_PROVISIONER) == NO_PROVISIONER:
            return np.zeros(nodes.size, np.bool_)
        topologies = found.get("allowedTopologies") or ()
        if not topologies:
            return np.ones(nodes.size, np.bool_)
        return match_terms((_topology_term(t) for t in topologies), nodes)

    async def _tell(self, decision: Decision, node: str) -> None:
        metadata = decision.claim["metadata"]
        if not decision.volume:
            await self._client.patch(
                PERSISTENTVOLUMECLAIMS, metadata["name"],
                {"metadata": {"annotations": {SELECTED_NODE: node}}}, metadata["namespace"],
                answer="none",
            )  # fmt: skip
            return
        reference = {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata.get("uid", ""),
            "resourceVersion": metadata.get("resourceVersion", ""),
        }
        bound_by = {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}
        await self._client.patch(
            PERSISTENTVOLUMES, decision.volume,
            {"metadata": bound_by, "spec": {"claimRef": reference}}, answer="none",
        )  # fmt: skip

    def _unfinished(
        self, pod: PodInfo, node: str, decisions: Sequence[Decision]
    ) -> Status | bool | None:
        """None: all bound. True: not yet. A Status: it will not be."""
        provisioned = {d.claim["metadata"]["name"] for d in decisions if not d.volume}
        waiting = False
        for name in pod.shape.claims:
            claim = self._storage.claims.get(f"{pod.namespace}/{name}")
            if claim is None:
                return unresolvable(f'persistentvolumeclaim "{name}" not found')
            if _is_bound(claim):
                continue
            waiting = True
            told = (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE)
            if name in provisioned and told is not None and told != node:
                return unresolvable(f'selectedNode annotation value "{told}" not set to "{node}"')
        return True if waiting else None


class VolumeRestrictions:
    """A ReadWriteOncePod claim is for one pod at a time."""

    name = "VolumeRestrictions"
    filter_reach = Reach.ALL
    reason = (
        "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod "
        "access mode"
    )

    def __init__(self, claims: Informer, pods: Callable[[], Iterable[PodInfo]]) -> None:
        self._claims = claims
        self._pods = pods

    def filter(self, shape: Shape, nodes: NodeTable, state: State) -> Mask | None:
        exclusive = {name for name in shape.claims if self._is_exclusive(shape.namespace, name)}
        if not exclusive:
            return None
        taken = any(
            pod.namespace == shape.namespace and exclusive.intersection(pod.shape.claims)
            for pod in self._pods()
        )
        return np.full(nodes.size, not taken)

    def filter_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> bool:
        mask = self.filter(shape, nodes, state)
        return mask is None or bool(mask[row])

    def explain(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> Status:
        return unschedulable(self.reason)

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        if event.resource == "PersistentVolumeClaim":
            return event.new is not None
        return event.resource == "AssignedPod" and event.action == "Delete"

    def _is_exclusive(self, namespace: str, name: str) -> bool:
        claim = self._claims.get(f"{namespace}/{name}")
        return claim is not None and "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ())


def _is_bound(claim: Object) -> bool:
    annotations = claim["metadata"].get("annotations") or {}
    return bool(claim["spec"].get("volumeName")) and (
        BIND_COMPLETED in annotations or (claim.get("status") or {}).get("phase") == "Bound"
    )


def _reachable(volume: Object, nodes: NodeTable) -> Mask:
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    if not required:
        return np.ones(nodes.size, np.bool_)
    return match_terms(required.get("nodeSelectorTerms") or (), nodes)


def _suits(volume: Object, claim: Object) -> bool:
    """Class, size, access modes, volume mode and selector."""
    offered, wanted = volume["spec"], claim["spec"]
    if (offered.get("storageClassName") or "") != (wanted.get("storageClassName") or ""):
        return False
    if (offered.get("volumeMode") or "Filesystem") != (wanted.get("volumeMode") or "Filesystem"):
        return False
    if not set(wanted.get("accessModes") or ()) <= set(offered.get("accessModes") or ()):
        return False
    size = ((wanted.get("resources") or {}).get("requests") or {}).get("storage", "0")
    if value((offered.get("capacity") or {}).get("storage", "0")) < value(size):
        return False
    selector = wanted.get("selector")
    labels = volume["metadata"].get("labels")
    return not selector or LabelSelector.from_dict(selector).matches(labels)


def _topology_term(topology: Mapping[str, Any]) -> Mapping[str, Any]:
    expressions = [
        {"key": e.get("key"), "operator": "In", "values": e.get("values")}
        for e in topology.get("matchLabelExpressions") or ()
    ]
    return {"matchExpressions": expressions}
