"""What StatefulSet, DaemonSet and Job controllers share: their pods, adoption, revisions, creation
with Events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cluster.api.errors import AlreadyExists, NotFound, StatusError
from cluster.api.meta import CONTROLLERREVISIONS, GVR, PODS, Object
from cluster.api.selectors import LabelSelector
from cluster.client import WorkQueue
from cluster.controllers.context import ControllerContext
from cluster.controllers.controllerrevisions import History, plan_history, plan_truncation
from cluster.controllers.ownership import Kind, adoption_patch, owner_uid, release_patch
from cluster.controllers.podindex import PodChange


class OwnedPodsView:
    """The pods of one kind of owner: wakes the owner's key on events, lists and claims its pods."""

    def __init__(self, context: ControllerContext, gvr: GVR, kind: Kind, queue: WorkQueue) -> None:
        self._context = context
        self._gvr = gvr
        self._kind = kind
        self._queue = queue
        self._pods = context.informers.informer(PODS)
        self._owners = context.informers.informer(gvr)
        self._listeners: list[Callable[[PodChange, str], None]] = []
        context.pods.subscribe(self._handle)

    def subscribe(self, listener: Callable[[PodChange, str], None]) -> None:
        """`listener(change, owner key)` for each event of an owned pod, then it is queued."""
        self._listeners.append(listener)

    def of(self, owner: Object) -> list[Object]:
        """All pods that `owner` controls, ended and terminating ones too."""
        owned = self._context.pods.owned(owner["metadata"]["uid"])
        return [p for key in owned.facts if (p := self._pods.get(key)) is not None]

    async def claim(self, owner: Object, selector: LabelSelector) -> bool:
        """Adopt matching orphans, let go what no longer matches. True if there was any."""
        meta = owner["metadata"]
        if "deletionTimestamp" in meta:
            return False
        patches: list[tuple[str, Object]] = []
        for pod in self.of(owner):
            if not selector.matches(pod["metadata"].get("labels") or {}):
                patches.append((pod["metadata"]["name"], release_patch(owner, pod)))
        for labels, keys in self._context.pods.orphans(meta["namespace"]).items():
            if not selector.matches(dict(labels)):
                continue
            for key in keys:
                adopted = self._pods.get(key)
                if adopted is not None:
                    patches.append(
                        (adopted["metadata"]["name"], adoption_patch(owner, self._kind, adopted))
                    )
        if not patches:
            return False
        fresh = await self._context.client.get(self._gvr, meta["name"], meta["namespace"])
        if fresh["metadata"]["uid"] != meta["uid"] or "deletionTimestamp" in fresh["metadata"]:
            return False
        answers = await asyncio.gather(
            *(
                self._context.client.patch_nowait(
                    PODS, name, patch, meta["namespace"], patch_type="strategic", answer="none"
                )
                for name, patch in patches
            ),
            return_exceptions=True,
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, NotFound):
                raise answer
        return True

    def _handle(self, changes: list[PodChange]) -> None:
        kind = self._kind.kind
        orphans: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
        for change in changes:
            for facts in (change.before, change.after):
                if facts is not None and facts.owner_kind == kind:
                    key = f"{facts.namespace}/{facts.owner_name}"
                    for listener in self._listeners:
                        listener(change, key)
                    self._queue.add(key)
                    break
            after = change.after
            if (
                after is not None
                and not after.owner_uid
                and after.active
                and after != change.before
            ):
                orphans.add((after.namespace, after.labels))
        for namespace, labels in orphans:
            mapping = dict(labels)
            for owner in self._owners.list(namespace):
                selector = owner["spec"].get("selector")
                if selector and LabelSelector.from_dict(selector).matches(mapping):
                    self._queue.add(f"{namespace}/{owner['metadata']['name']}")


class RevisionHistory:
    """ControllerRevisions of one kind of owner."""

    def __init__(self, context: ControllerContext, kind: Kind) -> None:
        self._context = context
        self._kind = kind
        self._revisions = context.informers.informer(CONTROLLERREVISIONS)
        self._revisions.add_index("controller", lambda o: [owner_uid(o)])

    def of(self, owner: Object) -> list[Object]:
        return self._revisions.by_index("controller", owner["metadata"]["uid"])

    async def sync(self, owner: Object) -> History:
        """Make sure that the revision of `owner`'s template exists and is the newest."""
        history = plan_history(owner, self._kind, self.of(owner))
        client = self._context.client
        if history.create:
            try:
                created = await client.create(CONTROLLERREVISIONS, history.current)
            except AlreadyExists:  # only our cache is behind
                meta = history.current["metadata"]
                created = await client.get(CONTROLLERREVISIONS, meta["name"], meta["namespace"])
            return History(created, False, False, history.others)
        if history.renumber:
            updated = await client.update(CONTROLLERREVISIONS, history.current)
            return History(updated, False, False, history.others)
        return history

    async def truncate(self, owner: Object, history: History, live: set[str]) -> None:
        """Forget the oldest revisions that nothing uses."""
        limit = int(owner["spec"].get("revisionHistoryLimit", 10))
        for revision in plan_truncation(history, live, limit):
            meta = revision["metadata"]
            try:
                await self._context.client.delete(
                    CONTROLLERREVISIONS, meta["name"], meta["namespace"], uid=meta["uid"]
                )
            except NotFound:
                continue


def first_failure(answers: list[object]) -> StatusError | None:
    """The first refusal among gathered answers; anything that is no refusal is raised."""
    for answer in answers:
        if isinstance(answer, StatusError):
            return answer
        if isinstance(answer, BaseException):
            raise answer
    return None
