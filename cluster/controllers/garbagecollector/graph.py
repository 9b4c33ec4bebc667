"""Who owns whom. Events in, verdicts out; nothing here talks to the API.

Plays graph_builder.go and the deciding half of garbagecollector.go. A node is an object seen, or
(virtual) an owner that some object names and nobody has seen yet: whether that one exists must be
asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from cluster.api.meta import GVR, Object

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Owner(NamedTuple):
    """One owner reference."""

    uid: str
    api_version: str
    kind: str
    name: str
    blocks: bool


@dataclass(slots=True)
class Node:
    """One object of the graph. `gvr` is None while it is virtual."""

    uid: str
    gvr: GVR | None
    namespace: str
    name: str
    owners: tuple[Owner, ...] = ()
    finalizers: tuple[str, ...] = ()
    deleting: bool = False
    dependents: dict[str, None] = field(default_factory=dict)

    @property
    def waits_for_dependents(self) -> bool:
        """Deleted in the foreground: it stays until its blocking dependents are gone."""
        return self.deleting and FOREGROUND in self.finalizers

    @property
    def leaves_orphans(self) -> bool:
        """Deleted with the Orphan policy: its dependents must be let go first."""
        return self.deleting and ORPHAN in self.finalizers


@dataclass(frozen=True, slots=True)
class Keep:
    """Leave it be."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete it with this propagation policy."""

    policy: str


@dataclass(frozen=True, slots=True)
class DropOwners:
    """It has an owner left: only take these references off it."""

    uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unblock:
    """Stop it blocking its owner (a circle of foreground deletions), then delete it."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Its blocking dependents are gone: remove the foregroundDeletion finalizer."""


@dataclass(frozen=True, slots=True)
class ReleaseDependents:
    """Take its reference off all dependents, then remove the orphan finalizer."""

    dependents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verify:
    """Ask the API whether these owners exist before deciding."""

    owners: tuple[Owner, ...]


Verdict = Keep | Delete | DropOwners | Unblock | Finish | ReleaseDependents | Verify


class Graph:
    """All objects by UID. `handle` returns the UIDs that must be decided about."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self._absent: dict[str, None] = {}  # owners known to be gone, oldest first

    def handle(self, gvr: GVR, obj: Object | None, old: Object | None) -> list[str]:
        """Take in one object's event: added, changed (`obj`), deleted (obj None, `old` its last
        state)."""
        if obj is None:
            return self._remove(old["metadata"]["uid"]) if old is not None else []
        work: list[str] = []
        if old is not None and old["metadata"]["uid"] != obj["metadata"]["uid"]:
            work += self._remove(old["metadata"]["uid"])
        return work + self._put(gvr, obj["metadata"])

    def mark_absent(self, uid: str) -> list[str]:
        """An owner was looked for and does not exist: its dependents must be decided about."""
        return self._remove(uid)

    def is_absent(self, uid: str) -> bool:
        return uid in self._absent

    def decide(self, uid: str) -> Verdict:
        """What should become of an object now."""
        node = self.nodes.get(uid)
        if node is None or node.gvr is None:
            return Keep()
        if node.leaves_orphans:
            return ReleaseDependents(tuple(node.dependents))
        if node.waits_for_dependents:
            return Keep() if self._blockers(node) else Finish()
        if node.deleting or not node.owners:
            return Keep()
        return self._decide_by_owners(node)

    def _decide_by_owners(self, node: Node) -> Verdict:
        solid: list[Owner] = []
        dangling: list[Owner] = []
        waiting: list[Owner] = []
        unknown: list[Owner] = []
        for owner in node.owners:
            held = self.nodes.get(owner.uid)
            if held is not None and held.gvr is not None and _may_own(held, node):
                (waiting if held.waits_for_dependents else solid).append(owner)
            elif owner.uid in self._absent or (held is not None and held.gvr is not None):
                dangling.append(owner)
            else:
                unknown.append(owner)
        if unknown:
            return Verify(tuple(unknown))
        if solid:
            gone = tuple(o.uid for o in [*dangling, *waiting])
            return DropOwners(gone) if gone else Keep()
        if waiting and node.dependents:
            circle = any(
                (d := self.nodes.get(u)) is not None and d.waits_for_dependents
                for u in node.dependents
            )
            return Unblock() if circle else Delete("Foreground")
        if ORPHAN in node.finalizers:
            return Delete("Orphan")
        return Delete("Foreground" if FOREGROUND in node.finalizers else "Background")

    def _blockers(self, node: Node) -> list[str]:
        return [
            uid
            for uid in node.dependents
            if (d := self.nodes.get(uid)) is not None
            and any(o.uid == node.uid and o.blocks for o in d.owners)
        ]

    def _put(self, gvr: GVR, meta: Object) -> list[str]:
        uid = meta["uid"]
        owners = _owners(meta.get("ownerReferences"))
        finalizers = tuple(meta.get("finalizers") or ())
        deleting = "deletionTimestamp" in meta
        node = self.nodes.get(uid)
        if node is None or node.gvr is None:
            dependents = node.dependents if node is not None else {}
            node = Node(
                uid,
                gvr,
                meta.get("namespace", ""),
                meta["name"],
                owners,
                finalizers,
                deleting,
                dependents,
            )
            self.nodes[uid] = node
            self._absent.pop(uid, None)
            work = self._link(node, owners)
            work += list(dependents)
            return work + self._started(node) if deleting else work
        if node.owners == owners and node.finalizers == finalizers and node.deleting == deleting:
            return []
        work = []
        if node.owners != owners:
            left = {o.uid for o in node.owners} - {o.uid for o in owners}
            work += self._unlink(node, left)
            unblocked = [o.uid for o in node.owners if o.blocks and o.uid not in left]
            node.owners = owners
            work += [*self._link(node, owners), *unblocked, uid]
        node.finalizers, node.deleting = finalizers, deleting
        return work + self._started(node)

    def _started(self, node: Node) -> list[str]:
        """Work that a deletion with a policy brings."""
        if node.leaves_orphans:
            return [node.uid]
        if node.waits_for_dependents:
            return [*node.dependents, node.uid]
        return []

    def _link(self, node: Node, owners: tuple[Owner, ...]) -> list[str]:
        """Make `node` a dependent of its owners; to be decided about if one is missing or waits."""
        decide = False
        for owner in owners:
            held = self.nodes.get(owner.uid)
            if held is None:
                held = Node(owner.uid, None, node.namespace, owner.name)
                self.nodes[owner.uid] = held
                decide = True
            elif held.gvr is None or held.waits_for_dependents or not _may_own(held, node):
                decide = True
            held.dependents[node.uid] = None
        return [node.uid] if decide else []

    def _unlink(self, node: Node, owners: set[str]) -> list[str]:
        """`node` no longer depends on these; a waiting one may be finished now."""
        work: list[str] = []
        for uid in owners:
            held = self.nodes.get(uid)
            if held is None:
                continue
            held.dependents.pop(node.uid, None)
            if held.gvr is None and not held.dependents:
                del self.nodes[uid]
            elif held.waits_for_dependents:
                work.append(uid)
        return work

    def _remove(self, uid: str) -> list[str]:
        node = self.nodes.pop(uid, None)
        self._absent[uid] = None
        if len(self._absent) > 10_000:
            del self._absent[next(iter(self._absent))]
        if node is None:
            return []
        work = self._unlink(node, {o.uid for o in node.owners})
        return [*work, *node.dependents]


def _owners(references: list[Object] | None) -> tuple[Owner, ...]:
    if not references:
        return ()
    return tuple(
        Owner(r["uid"], r["apiVersion"], r["kind"], r["name"], bool(r.get("blockOwnerDeletion")))
        for r in references
    )


def _may_own(owner: Node, dependent: Node) -> bool:
    """An owner lives in its dependent's namespace, or in none."""
    return not owner.namespace or owner.namespace == dependent.namespace
