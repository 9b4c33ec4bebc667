"""Whether a node takes a pod that was bound to it.

Plays pkg/kubelet/lifecycle/predicate.go: what the scheduler checked is checked again, because it
may have raced. Pure; a refusal fails the pod with upstream's reason and message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.api.meta import Object
from cluster.kubelet.qos import pod_requests


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a node does not take a pod: status.reason and status.message."""

    reason: str
    message: str


class Allocations:
    """What the admitted pods of one node hold. cpu in milli, the rest in whole units."""

    __slots__ = ("allocatable", "pods", "used")

    def __init__(self, allocatable: Mapping[str, int]) -> None:
        self.allocatable = dict(allocatable)
        self.used: dict[str, int] = {}
        self.pods: dict[str, dict[str, int]] = {}

    def admit(self, uid: str, pod: Object, node: Object) -> Refusal | None:
        """Take the pod in, or say why not."""
        if uid in self.pods:
            return None
        requests = pod_requests(pod)
        refusal = self.selector(pod, node) or self._fits(requests)
        if refusal is None:
            self.restore(uid, requests)
        return refusal

    def restore(self, uid: str, requests: dict[str, int]) -> None:
        """Count a pod that was admitted before."""
        if uid not in self.pods:
            self.pods[uid] = requests
            for name, amount in requests.items():
                self.used[name] = self.used.get(name, 0) + amount

    def release(self, uid: str) -> None:
        for name, amount in self.pods.pop(uid, {}).items():
            self.used[name] -= amount

    def _fits(self, requests: Mapping[str, int]) -> Refusal | None:
        limit = self.allocatable.get("pods", 110)
        if len(self.pods) + 1 > limit:
            return _out_of("pods", 1, len(self.pods), limit)
        for name in sorted(requests):
            wanted = requests[name]
            capacity = self.allocatable.get(name, 0)
            used = self.used.get(name, 0)
            if wanted and wanted > capacity - used:
                return _out_of(name, wanted, used, capacity)
        return None

    def selector(self, pod: Object, node: Object) -> Refusal | None:
        selector = pod["spec"].get("nodeSelector")
        if not selector:
            return None
        labels = node["metadata"].get("labels") or {}
        if all(labels.get(k) == v for k, v in selector.items()):
            return None
        return Refusal(
            "NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: "
            "node(s) didn't match Pod's node affinity/selector",
        )  # fmt: skip


def _out_of(name: str, wanted: int, used: int, capacity: int) -> Refusal:
    text = f"requested: {wanted}, used: {used}, capacity: {capacity}"
    return Refusal(
        f"OutOf{name}", f"Pod was rejected: Node didn't have enough resource: {name}, {text}"
    )
