"""What is not emulated is refused by name: the pod waits and its event says why."""

from __future__ import annotations

from collections.abc import Callable

from cluster.scheduler.cache import NodeTable
from cluster.scheduler.events import ClusterEvent
from cluster.scheduler.framework import State, Status, unresolvable
from cluster.scheduler.shape import Shape


class Refusal:
    """Stands in for the upstream plugin `name`. `uses` tells whether a pod needs it."""

    def __init__(self, name: str, what: str, uses: Callable[[Shape], bool]) -> None:
        self.name = name
        self._what = what
        self._uses = uses

    def pre_filter(
        self, shape: Shape, nodes: NodeTable, state: State
    ) -> Status | frozenset[str] | None:
        if self._uses(shape):
            return unresolvable(f"kubestage does not emulate {self._what} yet")
        return None

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        return False
