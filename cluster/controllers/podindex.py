"""What controllers ask about pods, kept up to date by each pod's event instead of by scanning all
pods.

Plays the pod listers and indexers of pkg/controller. Upstream's controllers list every pod of a
namespace on each sync; here each event moves a few counters, so that a rollout of n pods costs n
and not n squared. Every pod event is reduced once to `PodFacts`; subscribers get (key, old, new,
old facts, new facts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from cluster.api.meta import Object

LabelsKey = tuple[tuple[str, str], ...]


class PodFacts(NamedTuple):
    """The few things about a pod that decide what controllers do. A tuple: comparing two is one
    call."""

    uid: str
    namespace: str
    owner_uid: str
    owner_kind: str
    owner_name: str
    labels: LabelsKey
    active: bool
    terminating: bool
    ready: bool
    phase: str
    node: str


class PodChange(NamedTuple):
    """One event of one pod; `old`/`new` are None for a pod that came or went."""

    key: str
    old: Object | None
    new: Object | None
    before: PodFacts | None
    after: PodFacts | None


def is_ready(pod: Object) -> bool:
    """podutil.IsPodReady: condition Ready is True."""
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready":
            return bool(condition.get("status") == "True")
    return False


def labels_key(labels: dict[str, str] | None) -> LabelsKey:
    """Labels as something hashable."""
    return tuple(sorted(labels.items())) if labels else ()


def pod_facts(pod: Object) -> PodFacts:
    """Reduce a pod."""
    meta = pod["metadata"]
    status = pod.get("status") or {}
    phase = status.get("phase") or "Pending"
    terminal = phase == "Succeeded" or phase == "Failed"
    deleting = "deletionTimestamp" in meta
    owner_uid = owner_kind = owner_name = ""
    for ref in meta.get("ownerReferences") or ():
        if ref.get("controller"):
            owner_uid, owner_kind, owner_name = ref["uid"], ref["kind"], ref["name"]
            break
    return PodFacts(
        meta.get("uid", ""),
        meta.get("namespace", ""),
        owner_uid,
        owner_kind,
        owner_name,
        labels_key(meta.get("labels")),
        not terminal and not deleting,
        deleting and not terminal,
        is_ready(pod),
        phase,
        (pod.get("spec") or {}).get("nodeName") or "",
    )


@dataclass(slots=True)
class OwnedPods:
    """Pods of one controller: their facts, and sums over them."""

    facts: dict[str, PodFacts] = field(default_factory=dict)
    active: int = 0
    ready: int = 0  # active and ready
    terminating: int = 0
    active_by_labels: dict[LabelsKey, int] = field(default_factory=dict)

    def count(self, facts: PodFacts, sign: int) -> None:
        """Add (1) or take away (-1) one pod's part of the sums."""
        if facts.active:
            self.active += sign
            if facts.ready:
                self.ready += sign
            left = self.active_by_labels.get(facts.labels, 0) + sign
            if left:
                self.active_by_labels[facts.labels] = left
            else:
                del self.active_by_labels[facts.labels]
        elif facts.terminating:
            self.terminating += sign

    def without(self, uids: frozenset[str]) -> OwnedPods:
        """The same without some pods."""
        if not uids:
            return self
        left = OwnedPods()
        for key, facts in self.facts.items():
            if facts.uid not in uids:
                left.facts[key] = facts
                left.count(facts, 1)
        return left

    def active_keys(self) -> Iterator[str]:
        return (key for key, facts in self.facts.items() if facts.active)


_NONE = OwnedPods()


class PodIndex:
    """Pods by owner, by labels, and by node. Fed by `handle_batch`; it keeps no pod objects."""

    def __init__(self) -> None:
        self._facts: dict[str, PodFacts] = {}
        self._owned: dict[str, OwnedPods] = {}
        self._by_labels: dict[str, dict[LabelsKey, dict[str, None]]] = {}
        self._orphans: dict[str, dict[LabelsKey, dict[str, None]]] = {}
        self._by_node: dict[str, dict[str, None]] = {}
        self._subscribers: list[Callable[[list[PodChange]], None]] = []

    def subscribe(self, handler: Callable[[list[PodChange]], None]) -> None:
        """Call `handler` after every batch of pod events, with the index already up to date."""
        self._subscribers.append(handler)

    def handle_batch(self, events: Iterable[tuple[Object | None, Object | None]]) -> None:
        """Take the informer's events."""
        changes: list[PodChange] = []
        for old, new in events:
            meta = (new or old or {})["metadata"]
            key = f"{meta['namespace']}/{meta['name']}"
            before = self._facts.get(key)
            after = pod_facts(new) if new is not None else None
            if before != after:
                self._move(key, before, after)
            changes.append(PodChange(key, old, new, before, after))
        for subscriber in self._subscribers:
            subscriber(changes)

    def facts(self, key: str) -> PodFacts | None:
        return self._facts.get(key)

    def owned(self, uid: str) -> OwnedPods:
        """Pods whose controller reference has this UID. Read only."""
        return self._owned.get(uid, _NONE)

    def on_node(self, node: str) -> tuple[str, ...]:
        """Keys of the pods bound to a node."""
        return tuple(self._by_node.get(node, ()))

    def nodes_with_pods(self) -> Iterable[str]:
        return tuple(self._by_node)

    def label_sets(self, namespace: str) -> dict[LabelsKey, dict[str, None]]:
        """Every distinct label set of a namespace's pods, with the keys of the pods that carry it.
        Read only."""
        return self._by_labels.get(namespace, {})

    def orphans(self, namespace: str) -> dict[LabelsKey, dict[str, None]]:
        """As `label_sets`, of active pods that no controller owns. Read only."""
        return self._orphans.get(namespace, {})

    def _move(self, key: str, before: PodFacts | None, after: PodFacts | None) -> None:
        if before is not None:
            self._leave(key, before, after)
        if after is not None:
            self._enter(key, before, after)

    def _leave(self, key: str, before: PodFacts, after: PodFacts | None) -> None:
        if before.owner_uid:
            owned = self._owned[before.owner_uid]
            owned.count(before, -1)
            if after is None or after.owner_uid != before.owner_uid:
                del owned.facts[key]
                if not owned.facts:
                    del self._owned[before.owner_uid]
        elif before.active:
            _discard(self._orphans, before.namespace, before.labels, key)
        if after is None or after.labels != before.labels:
            _discard(self._by_labels, before.namespace, before.labels, key)
        if before.node and (after is None or after.node != before.node):
            on_node = self._by_node[before.node]
            del on_node[key]
            if not on_node:
                del self._by_node[before.node]
        if after is None:
            del self._facts[key]

    def _enter(self, key: str, before: PodFacts | None, after: PodFacts) -> None:
        self._facts[key] = after
        if after.owner_uid:
            owned = self._owned.get(after.owner_uid)
            if owned is None:
                owned = self._owned[after.owner_uid] = OwnedPods()
            owned.facts[key] = after
            owned.count(after, 1)
        elif after.active:
            _insert(self._orphans, after.namespace, after.labels, key)
        if before is None or before.labels != after.labels:
            _insert(self._by_labels, after.namespace, after.labels, key)
        if after.node and (before is None or before.node != after.node):
            self._by_node.setdefault(after.node, {})[key] = None


def _insert(
    index: dict[str, dict[LabelsKey, dict[str, None]]], namespace: str, labels: LabelsKey, key: str
) -> None:
    index.setdefault(namespace, {}).setdefault(labels, {})[key] = None


def _discard(
    index: dict[str, dict[LabelsKey, dict[str, None]]], namespace: str, labels: LabelsKey, key: str
) -> None:
    groups = index[namespace]
    keys = groups[labels]
    del keys[key]
    if not keys:
        del groups[labels]
        if not groups:
            del index[namespace]
