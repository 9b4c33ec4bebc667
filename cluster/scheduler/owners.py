"""Which pods belong together: those of a Service or of one controller. Plays
helper.DefaultSelector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.api.meta import (
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    SERVICES,
    STATEFULSETS,
    Object,
)
from cluster.client import Change, InformerFactory
from cluster.scheduler.cache import NodeTable
from cluster.scheduler.shape import Shape


class Owners:
    """Follows Services and controllers."""

    def __init__(self, informers: InformerFactory, nodes: NodeTable) -> None:
        self._nodes = nodes
        self._services = informers.informer(SERVICES)
        self._services.add_index("namespace", _namespace)
        self.replicasets = informers.informer(REPLICASETS)
        self._controllers = {
            "ReplicaSet": self.replicasets,
            "ReplicationController": informers.informer(REPLICATIONCONTROLLERS),
            "StatefulSet": informers.informer(STATEFULSETS),
        }
        for informer in (self._services, *self._controllers.values()):
            informer.add_handler_batch(self.handle_changes)

    def handle_changes(self, changes: Sequence[Change]) -> None:
        """What was found for a shape may no longer hold; a mere status is no reason."""
        if any(
            old is None or new is None or _selector(old) != _selector(new) for old, new in changes
        ):
            self._nodes.new_epoch()

    def selector_of(self, shape: Shape) -> Mapping[str, Any] | None:
        """The pods that one of this shape is spread among; None: it belongs to nobody."""
        labels: dict[str, str] = {}
        for service in self._services.by_index("namespace", shape.namespace):
            wanted = service["spec"].get("selector") or {}
            if wanted and all(shape.labels.get(k) == v for k, v in wanted.items()):
                labels.update(wanted)
        kind, name = shape.owner
        informer = self._controllers.get(kind)
        owner = informer.get(f"{shape.namespace}/{name}") if informer is not None else None
        selector = _selector(owner) if owner is not None else {}
        if kind == "ReplicationController":
            selector = {"matchLabels": selector}
        labels.update(selector.get("matchLabels") or {})
        expressions = selector.get("matchExpressions") or []
        if not labels and not expressions:
            return None
        return {"matchLabels": labels, "matchExpressions": expressions}


def _selector(obj: Object) -> Mapping[str, Any]:
    return dict(obj["spec"].get("selector") or {})


def _namespace(obj: Object) -> Sequence[str]:
    return (obj["metadata"].get("namespace", ""),)
