"""The scheduling framework: extension points, verdicts, and the words for why a pod does not fit.

Plays k8s.io/kubernetes/pkg/scheduler/framework. Names of extension points and codes are upstream's.
Unlike Kubernetes: Filter and Score look at all nodes at once (a numpy column in, a column out) and
at one *shape* of pod; pods of one shape share the work. Each plugin says how far one placement
reaches (`Reach`), so that a batch redoes only what the pod placed before it has changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cluster.scheduler.cache import NodeTable, PodInfo
from cluster.scheduler.events import ClusterEvent
from cluster.scheduler.shape import Shape

Mask = NDArray[np.bool_]
Scores = NDArray[np.int64]
State = dict[str, Any]
"""CycleState: what a plugin keeps between its extension points, under its own name."""

MAX_NODE_SCORE = 100


class Code(IntEnum):
    """fwk.Code."""

    SUCCESS = 0
    ERROR = 1
    UNSCHEDULABLE = 2
    UNSCHEDULABLE_AND_UNRESOLVABLE = 3
    WAIT = 4
    SKIP = 5
    PENDING = 6


@dataclass(frozen=True, slots=True)
class Status:
    """A plugin's verdict and its reasons."""

    code: Code
    reasons: tuple[str, ...] = ()
    plugin: str = ""

    @property
    def message(self) -> str:
        return ", ".join(self.reasons)


def unschedulable(*reasons: str) -> Status:
    return Status(Code.UNSCHEDULABLE, reasons)


def unresolvable(*reasons: str) -> Status:
    """No removal of pods would help."""
    return Status(Code.UNSCHEDULABLE_AND_UNRESOLVABLE, reasons)


class Reach(Enum):
    """What a pod that was just placed can change in a plugin's answer for the next pod of its
    shape."""

    NOTHING = "nothing"
    ROW = "row"
    ALL = "all"


class Plugin(Protocol):
    """What every plugin has."""

    name: str

    def helped_by(self, event: ClusterEvent, shape: Shape) -> bool:
        """QueueingHint: might `event` make a pod schedulable that this plugin refused?"""


class PreEnqueuePlugin(Plugin, Protocol):
    def pre_enqueue(self, pod: PodInfo) -> Status | None:
        """None lets the pod into the active queue; a Status gates it."""


class QueueSortPlugin(Plugin, Protocol):
    def sort_key(self, pod: PodInfo, timestamp: float) -> tuple[float, ...]:
        """Smaller is scheduled sooner."""


class PreFilterPlugin(Plugin, Protocol):
    def pre_filter(
        self, shape: Shape, nodes: NodeTable, state: State
    ) -> Status | frozenset[str] | None:
        """A Status rejects the pod everywhere, names restrict the nodes, None goes on."""


class FilterPlugin(Plugin, Protocol):
    filter_reach: Reach

    def filter(self, shape: Shape, nodes: NodeTable, state: State) -> Mask | None:
        """True where the pod fits, for all rows; None: everywhere."""

    def filter_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> bool:
        """The same for one row; only asked if `filter_reach` is ROW."""

    def explain(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> Status:
        """Why `row` was refused."""


class PostFilterPlugin(Plugin, Protocol):
    def post_filter(self, pod: PodInfo, nodes: NodeTable, diagnosis: Diagnosis) -> PostFilterResult:
        """Called when no node fits."""


class ScorePlugin(Plugin, Protocol):
    score_reach: Reach

    def pre_score(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> bool:
        """False: skip, every node gets the same."""

    def score(self, shape: Shape, nodes: NodeTable, feasible: Mask, state: State) -> Scores:
        """Raw scores of all rows."""

    def score_row(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> int:
        """The same for one row; only asked if `score_reach` is ROW."""


class LiveScorePlugin(ScorePlugin, Protocol):
    """A plugin of reach ALL that can follow single rows: it keeps what it needs in `state`."""

    def refresh_score(self, shape: Shape, nodes: NodeTable, state: State, row: int) -> None:
        """The pods on `row` changed."""

    def live_score(self, nodes: NodeTable, feasible: Mask, state: State) -> Scores:
        """Normalized scores of all rows as they stand."""


class NormalizeScorePlugin(ScorePlugin, Protocol):
    def normalize(self, scores: Scores, feasible: Mask) -> Scores:
        """Bring raw scores to 0..100 over the feasible rows."""


class ReservePlugin(Plugin, Protocol):
    def reserve(self, pod: PodInfo, node: str, state: State, nodes: NodeTable) -> Status | None: ...

    def unreserve(self, pod: PodInfo, node: str, state: State) -> None: ...


class PermitPlugin(Plugin, Protocol):
    def permit(self, pod: PodInfo, node: str, state: State) -> tuple[Status | None, float]:
        """(verdict, seconds to wait if it is WAIT)."""


class PreBindPlugin(Plugin, Protocol):
    def wants(self, shape: Shape) -> bool:
        """False: nothing to do for such pods; spares them a task of their own."""

    async def pre_bind(self, pod: PodInfo, node: str, state: State) -> Status | None: ...


class BindPlugin(Plugin, Protocol):
    def bind(self, pod: PodInfo, node: str) -> Any:
        """A future of the API server's answer; StatusError when it refuses."""


class PostBindPlugin(Plugin, Protocol):
    def post_bind(self, pod: PodInfo, node: str) -> None: ...


@dataclass(slots=True)
class Diagnosis:
    """Why no node fits: a verdict a node, or one for all (`pre_filter_message`)."""

    node_count: int
    statuses: dict[int, Status] = field(default_factory=dict)
    absent: Status | None = None
    pre_filter_message: str = ""
    plugins: frozenset[str] = frozenset()
    post_filtered: PostFilterResult | None = None
    """What PostFilter said last; holds for the next pod too unless it found victims."""
    _text: str = ""

    def status_of(self, row: int) -> Status | None:
        return self.statuses.get(row, self.absent)

    def histogram(self) -> Counter[str]:
        """How many nodes gave each reason."""
        reasons: Counter[str] = Counter()
        for status in self.statuses.values():
            reasons.update(status.reasons)
        missing = self.node_count - len(self.statuses)
        if self.absent is not None and missing > 0:
            for reason in self.absent.reasons:
                reasons[reason] += missing
        return reasons

    def message(self) -> str:
        """FitError's text."""
        if not self._text:
            self._text = self._compose()
        after = self.post_filtered.message if self.post_filtered is not None else ""
        return f"{self._text} {after}" if after else self._text

    def _compose(self) -> str:
        text = f"0/{self.node_count} nodes are available:"
        if self.pre_filter_message:
            text += f" {self.pre_filter_message}."
        else:
            lines = sorted(f"{count} {reason}" for reason, count in self.histogram().items())
            if lines:
                text += f" {', '.join(lines)}."
        return text


@dataclass(frozen=True, slots=True)
class PostFilterResult:
    """`nominated_node` None: leave the pod's nomination as it is; '' clears it."""

    message: str = ""
    nominated_node: str | None = None
    victims: Sequence[PodInfo] = ()


NO_NODES = "no nodes available to schedule pods"


def default_normalize(scores: Scores, feasible: Mask, *, reverse: bool) -> Scores:
    """helper.DefaultNormalizeScore: scale by the largest to 0..100, upside down if `reverse`."""
    highest = int(scores[feasible].max()) if feasible.any() else 0
    if highest == 0:
        return np.full_like(scores, MAX_NODE_SCORE) if reverse else scores
    scaled: Scores = scores * MAX_NODE_SCORE // highest
    return MAX_NODE_SCORE - scaled if reverse else scaled


class FrameworkError(Exception):
    """A plugin failed for a reason of its own: the pod is retried with back-off."""


Weights = Mapping[str, int]
