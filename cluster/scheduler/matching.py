"""How many pods of a kind are on each node: a column for each selector that somebody asks for.

What upstream's PreFilter of InterPodAffinity and PodTopologySpread finds by walking all pods each
time is kept here and moved along with each pod that comes or goes. Limit: 256 selectors, the
longest unused forgotten and counted anew when asked for again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.api.selectors import LabelSelector
from cluster.scheduler.shape import Shape

MAX_COLUMNS = 256
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Term:
    """One (anti-)affinity term, resolved. `namespaces` None: all."""

    namespaces: frozenset[str] | None
    selector: LabelSelector
    topology_key: str = ""
    weight: int = 0

    def matches(self, shape: Shape) -> bool:
        if self.namespaces is not None and shape.namespace not in self.namespaces:
            return False
        return self.selector.matches(shape.labels)


@dataclass(frozen=True, slots=True)
class PodKind:
    """Pods that match all the terms, those that are being deleted left out if `living`."""

    terms: tuple[Term, ...]
    living: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        return (self.living, *((t.namespaces, str(t.selector)) for t in self.terms))

    def covers(self, shape: Shape) -> bool:
        return all(term.matches(shape) for term in self.terms)


@dataclass(slots=True)
class _Column:
    kind: PodKind
    counts: Ints
    verdicts: dict[bytes, bool] = field(default_factory=dict)

    def covers(self, shape: Shape) -> bool:
        verdict = self.verdicts.get(shape.key)
        if verdict is None:
            if len(self.verdicts) > 4096:
                self.verdicts.clear()
            verdict = self.verdicts[shape.key] = self.kind.covers(shape)
        return verdict


class PodCounts:
    """The columns."""

    def __init__(self) -> None:
        self._columns: OrderedDict[tuple[object, ...], _Column] = OrderedDict()
        self.forgotten = 0

    def count(self, row: int, shape: Shape, sign: int, *, terminating: bool) -> None:
        """A pod came to (1) or left (-1) a row."""
        for column in self._columns.values():
            if terminating and column.kind.living:
                continue
            if column.covers(shape):
                column.counts[row] += sign

    def column(self, kind: PodKind, capacity: int, pods: Iterable[tuple[int, Shape, bool]]) -> Ints:
        """Pods of the kind on each row. `pods` (row, shape, terminating) is walked the first
        time."""
        key = kind.key
        found = self._columns.get(key)
        if found is None:
            found = _Column(kind, np.zeros(capacity, np.int64))
            for row, shape, terminating in pods:
                if not (terminating and kind.living) and found.covers(shape):
                    found.counts[row] += 1
            self._columns[key] = found
            if len(self._columns) > MAX_COLUMNS:
                self._columns.popitem(last=False)
                self.forgotten += 1
        else:
            self._columns.move_to_end(key)
        return found.counts

    def forget(self) -> None:
        """The rows were laid out anew."""
        self._columns.clear()


def label_selector(
    selector: Mapping[str, Any] | None, shape: Shape, match_label_keys: Iterable[str] = ()
) -> LabelSelector:
    """A term's selector, narrowed to the incoming pod's own values of matchLabelKeys."""
    keys = [k for k in match_label_keys if k in shape.labels]
    if not keys:
        return LabelSelector.from_dict(selector)
    expressions = [*((selector or {}).get("matchExpressions") or ())]
    stated = {str(e.get("key")) for e in expressions}
    for key in keys:
        if key not in stated:
            expressions.append({"key": key, "operator": "In", "values": [shape.labels[key]]})
    return LabelSelector.from_dict({**(selector or {}), "matchExpressions": expressions})
