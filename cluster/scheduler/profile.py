"""One profile's plugins in their order, and a `Run`: many pods of one shape placed one after
another.

Plays pkg/scheduler/framework/runtime and the algorithm of schedule_one.go. Pods are placed strictly
one by one, each seeing the ones before it, as upstream does; what they share is only the work.
Unlike Kubernetes: all nodes are scored, whatever percentageOfNodesToScore says: here it costs less
than choosing which to look at.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from cluster.scheduler.cache import NodeTable
from cluster.scheduler.framework import (
    BindPlugin,
    Code,
    Diagnosis,
    FilterPlugin,
    LiveScorePlugin,
    Mask,
    PermitPlugin,
    Plugin,
    PostFilterPlugin,
    PreBindPlugin,
    PreEnqueuePlugin,
    PreFilterPlugin,
    QueueSortPlugin,
    Reach,
    ReservePlugin,
    ScorePlugin,
    Scores,
    State,
    Status,
    unresolvable,
)
from cluster.scheduler.shape import Shape

MAX_STATIC_MASKS = 256
MAX_ROWS = 40
"""More changed rows than this and looking at all nodes anew is cheaper."""


@dataclass(slots=True)
class Profile:
    """The plugins of one scheduler name, by extension point, in order. Weights are by plugin
    name."""

    name: str
    pre_enqueue: Sequence[PreEnqueuePlugin] = ()
    queue_sort: QueueSortPlugin | None = None
    pre_filter: Sequence[PreFilterPlugin] = ()
    filter: Sequence[FilterPlugin] = ()
    post_filter: Sequence[PostFilterPlugin] = ()
    score: Sequence[ScorePlugin] = ()
    weights: dict[str, int] = field(default_factory=dict)
    reserve: Sequence[ReservePlugin] = ()
    permit: Sequence[PermitPlugin] = ()
    pre_bind: Sequence[PreBindPlugin] = ()
    bind: BindPlugin | None = None
    plugins: dict[str, Plugin] = field(default_factory=dict)
    static_masks: OrderedDict[tuple[bytes, int, int], Mask] = field(default_factory=OrderedDict)


class Run:
    """Placing pods of one shape. Ask `pick`, count the pod on that row, `catch_up`; again. A run
    can be kept and go on later with more pods of its shape, as long as it is `current`."""

    def __init__(
        self, profile: Profile, shape: Shape, nodes: NodeTable, rng: random.Random
    ) -> None:
        self.profile = profile
        self.shape = shape
        self.nodes = nodes
        self._rng = rng
        self.states: dict[str, State] = {}
        self.rejection: Status | None = None
        self.restricted: frozenset[str] | None = None
        self._restricted_by: list[str] = []
        self._row_filters = [p for p in profile.filter if p.filter_reach is Reach.ROW]
        self._pre_filter()
        self.mask: Mask = np.zeros(nodes.size, np.bool_)
        self._total: Scores = np.zeros(0, np.int64)
        self._fixed: Scores = np.zeros(0, np.int64)
        self._row_scorers: list[tuple[ScorePlugin, int, State]] = []
        self._live: list[tuple[LiveScorePlugin, int, State]] = []
        self._base: Scores = np.zeros(0, np.int64)
        self._static: Mask = self.mask
        self._redo_all = False
        self._normalized = False
        self._diagnosis: tuple[tuple[int, int], Diagnosis] | None = None
        self._epoch = nodes.epoch
        self._seen = len(nodes.changes)
        if self.rejection is None:
            self.compute()

    def state(self, plugin: str) -> State:
        found = self.states.get(plugin)
        if found is None:
            found = self.states[plugin] = {}
        return found

    def pick(self, preferred: int | None = None) -> int | None:
        """The best row for the next pod, ties by chance; None: no node fits. `preferred` (the node
        nominated for it) is taken if it fits."""
        if preferred is not None and preferred < len(self.mask) and self.mask[preferred]:
            return preferred
        if not len(self._total):
            return None
        best = int(self._total.max())
        if best < 0:
            return None
        candidates = np.flatnonzero(self._total == best)
        if len(candidates) == 1:
            return int(candidates[0])
        return int(candidates[int(self._rng.random() * len(candidates))])

    @property
    def current(self) -> bool:
        """Whether `catch_up` can still bring this run up to date; if not, start a new one."""
        return self._epoch == self.nodes.epoch

    def catch_up(self) -> None:
        """Take in what was placed or removed since the last look."""
        changes = self.nodes.changes
        assert self._epoch == self.nodes.epoch, "a new epoch needs a new run"
        rows = changes[self._seen :]
        if not rows or self.rejection is not None:
            return
        self._seen = len(changes)
        if self._redo_all or len(rows) > MAX_ROWS:
            self.compute()
            return
        for row in rows:
            self._refresh(row)
        if self._live:
            self._sum_up()

    def _sum_up(self) -> None:
        """The total where some plugin's scores move everywhere at once."""
        total = self._base
        for plugin, weight, state in self._live:
            total = total + weight * plugin.live_score(self.nodes, self.mask, state)
        self._total = np.where(self.mask, total, -1)

    def _refresh(self, row: int) -> None:
        for live, _, state in self._live:
            live.refresh_score(self.shape, self.nodes, state, row)
        fits = bool(self._static[row]) and all(
            plugin.filter_row(self.shape, self.nodes, self.state(plugin.name), row)
            for plugin in self._row_filters
        )
        if fits != self.mask[row]:
            self.mask[row] = fits
            if self._normalized or self._live:
                self._compute_scores()
                return
        if not fits:
            self._total[row] = -1
            return
        score = int(self._fixed[row])
        for scorer, weight, state in self._row_scorers:
            score += weight * scorer.score_row(self.shape, self.nodes, state, row)
        self._base[row] = self._total[row] = score

    def compute(self) -> None:
        """Filter and score all nodes."""
        self.mask = self._filter()
        self._compute_scores()

    def diagnose(self) -> Diagnosis:
        """Why each node refuses: the first plugin of the order that does, with its reasons. The
        same object as last time if no pod came or went meanwhile."""
        now = (self.nodes.epoch, len(self.nodes.changes))
        if self._diagnosis is None or self._diagnosis[0] != now:
            self._diagnosis = (now, self._diagnose())
        return self._diagnosis[1]

    def _diagnose(self) -> Diagnosis:
        nodes = self.nodes
        if self.rejection is not None:
            return Diagnosis(
                nodes.count, absent=self.rejection, pre_filter_message=self.rejection.message,
                plugins=frozenset({self.rejection.plugin}),
            )  # fmt: skip
        diagnosis = Diagnosis(nodes.count)
        plugins: set[str] = set(self._restricted_by)
        open_rows = nodes.valid[: nodes.size].copy()
        if self.restricted is not None:
            open_rows &= self._named(self.restricted)
            names = " ".join(sorted(self._restricted_by))
            diagnosis.absent = unresolvable(f"node(s) didn't satisfy plugin(s) [{names}]")
        for plugin in self.profile.filter:
            state = self.state(plugin.name)
            mask = plugin.filter(self.shape, nodes, state)
            if mask is None:
                continue
            failed = np.flatnonzero(open_rows & ~mask)
            open_rows &= mask
            if len(failed):
                plugins.add(plugin.name)
            for row in failed:
                status = plugin.explain(self.shape, nodes, state, int(row))
                diagnosis.statuses[int(row)] = status
        diagnosis.plugins = frozenset(plugins)
        return diagnosis

    def fits_row(self, row: int) -> FilterPlugin | None:
        """The first plugin that refuses `row` as the table stands now; None if it fits."""
        for plugin in self.profile.filter:
            state = self.state(plugin.name)
            if plugin.filter_reach is Reach.ALL:
                mask = plugin.filter(self.shape, self.nodes, state)
                if mask is not None and not mask[row]:
                    return plugin
            elif not plugin.filter_row(self.shape, self.nodes, state, row):
                return plugin
        return None

    def _pre_filter(self) -> None:
        for plugin in self.profile.pre_filter:
            found = plugin.pre_filter(self.shape, self.nodes, self.state(plugin.name))
            if isinstance(found, Status):
                self.rejection = Status(found.code, found.reasons, plugin.name)
                return
            if found is None:
                continue
            self._restricted_by.append(plugin.name)
            both = found if self.restricted is None else self.restricted & found
            self.restricted = both
            if not both:
                names = " ".join(sorted(self._restricted_by))
                message = f"node(s) didn't satisfy plugin(s) [{names}] simultaneously"
                if len(self._restricted_by) == 1:
                    message = f"node(s) didn't satisfy plugin {plugin.name}"
                self.rejection = Status(
                    Code.UNSCHEDULABLE_AND_UNRESOLVABLE, (message,), plugin.name
                )
                return

    def _filter(self) -> Mask:
        self._static = self._static_mask()
        mask = self._static.copy()
        self._redo_all = False
        for plugin in self.profile.filter:
            if plugin.filter_reach is Reach.NOTHING:
                continue
            found = plugin.filter(self.shape, self.nodes, self.state(plugin.name))
            if found is not None:
                mask &= found
                self._redo_all = self._redo_all or plugin.filter_reach is Reach.ALL
        return mask

    def _static_mask(self) -> Mask:
        """What no placement changes: kept until a node changes its labels, taints or existence."""
        kept = self.profile.static_masks
        key = (self.shape.key, self.nodes.generation, self.nodes.size)
        mask = kept.get(key)
        if mask is not None:
            return mask
        mask = self.nodes.valid[: self.nodes.size].copy()
        if self.restricted is not None:
            mask &= self._named(self.restricted)
        for plugin in self.profile.filter:
            if plugin.filter_reach is Reach.NOTHING:
                found = plugin.filter(self.shape, self.nodes, self.state(plugin.name))
                if found is not None:
                    mask &= found
        kept[key] = mask
        if len(kept) > MAX_STATIC_MASKS:
            kept.popitem(last=False)
        return mask

    def _compute_scores(self) -> None:
        size = self.nodes.size
        fixed = np.zeros(size, np.int64)
        rows = np.zeros(size, np.int64)
        self._row_scorers = []
        self._live = []
        self._normalized = False
        for plugin in self.profile.score:
            state = self.state(plugin.name)
            if not plugin.pre_score(self.shape, self.nodes, self.mask, state):
                continue
            weight = self.profile.weights.get(plugin.name, 1)
            scores = plugin.score(self.shape, self.nodes, self.mask, state)
            if hasattr(plugin, "refresh_score"):
                self._live.append((cast(LiveScorePlugin, plugin), weight, state))
                continue
            normalize = getattr(plugin, "normalize", None)
            if normalize is not None:
                scores = normalize(scores, self.mask)
                self._normalized = True
            if plugin.score_reach is Reach.ROW:
                rows += weight * scores
                self._row_scorers.append((plugin, weight, state))
            else:
                fixed += weight * scores
                self._redo_all = self._redo_all or plugin.score_reach is Reach.ALL
        self._fixed = fixed
        self._base = fixed + rows
        self._sum_up()

    def _named(self, names: frozenset[str]) -> Mask:
        mask = np.zeros(self.nodes.size, np.bool_)
        for name in names:
            row = self.nodes.row_of(name)
            if row is not None:
                mask[row] = True
        return mask
