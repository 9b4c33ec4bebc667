"""The shell of the garbage collector: watches all types, carries out what `graph` decides, in
batches.

Unlike Kubernetes: decisions rest on the graph alone, guarded by UID preconditions, instead of
reading every object again before its deletion; and all that is due at one time is sent together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from cluster.api.errors import Conflict, NotFound, StatusError
from cluster.api.meta import GVR, Object
from cluster.client import Unreachable
from cluster.controllers.context import ControllerContext
from cluster.controllers.discovery import ApiResource, DiscoveryFailed, discover
from cluster.controllers.garbagecollector.graph import (
    FOREGROUND,
    ORPHAN,
    Delete,
    DropOwners,
    Finish,
    Graph,
    Node,
    Owner,
    ReleaseDependents,
    Unblock,
    Verdict,
    Verify,
)

log = logging.getLogger("kubestage.controllers.garbagecollector")

IGNORED = frozenset((("", "events"), ("events.k8s.io", "events")))
NEEDED_VERBS = frozenset(("delete", "list", "watch"))
BATCH = 500
RETRY_SECONDS = (0.1, 30.0)
SYNC_TIMEOUT_SECONDS = 30.0


class GarbageCollector:
    """Deletes objects whose owners are gone, and finishes Foreground and Orphan deletions."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._recorder = context.recorder("garbage-collector-controller")
        self.graph = Graph()
        self._resources: dict[GVR, ApiResource] = {}
        self._by_kind: dict[tuple[str, str], ApiResource] = {}  # (group, kind)
        self._work: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._retries: dict[str, int] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._synced = False

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await self._refresh()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._rediscover())
                group.create_task(self._collect())
        finally:
            for timer in self._timers:
                timer.cancel()

    # -- what there is to watch

    async def _rediscover(self) -> None:
        while True:
            await asyncio.sleep(self._context.config.discovery_period)
            await self._refresh()

    async def _refresh(self) -> None:
        """Follow types that are new. Nothing is deleted until all of them are listed."""
        while True:
            try:
                found = await discover(self._client)
                break
            except (DiscoveryFailed, StatusError, Unreachable) as error:
                log.warning("garbage collector: discovery failed, trying again: %s", error)
                await asyncio.sleep(1.0)
        self._by_kind = {(r.gvr[0], r.kind): r for r in found}
        fresh = [
            r
            for r in found
            if r.verbs >= NEEDED_VERBS
            and (r.gvr[0], r.gvr.plural) not in IGNORED
            and r.gvr not in self._resources
        ]
        for resource in fresh:
            self._resources[resource.gvr] = resource
            informer = self._context.informers.informer(resource.gvr)
            informer.add_handler_batch(self._handler(resource.gvr))
        try:
            async with asyncio.timeout(SYNC_TIMEOUT_SECONDS):
                await self._context.wait_synced(*(r.gvr for r in fresh))
        except TimeoutError:
            log.warning(
                "garbage collector: some types could not be listed yet; going on without them"
            )
        self._synced = True
        self._wake.set()

    def _handler(self, gvr: GVR) -> Callable[[Sequence[tuple[Object | None, Object | None]]], None]:
        def handle(changes: Sequence[tuple[Object | None, Object | None]]) -> None:
            for old, new in changes:
                if old is not None and new is not None and _same(old["metadata"], new["metadata"]):
                    continue
                self._add(self.graph.handle(gvr, new, old))
            self._context.metrics.gc_graph_objects.set(len(self.graph.nodes))

        return handle

    def _add(self, uids: Sequence[str]) -> None:
        if uids:
            self._work.update(dict.fromkeys(uids))
            self._wake.set()

    # -- work

    async def _collect(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._work and self._synced:
                uids = list(self._work)[:BATCH]
                for uid in uids:
                    del self._work[uid]
                await self.collect(uids)

    async def collect(self, uids: Sequence[str]) -> None:
        """Decide about these objects and do it, all at once."""
        verdicts = {uid: self.graph.decide(uid) for uid in uids}
        unknown = {
            o.uid: (uid, o)
            for uid, v in verdicts.items()
            if isinstance(v, Verify)
            for o in v.owners
        }
        if unknown:
            await asyncio.gather(*(self._verify(uid, owner) for uid, owner in unknown.values()))
            verdicts = {uid: self.graph.decide(uid) for uid in uids}
        await asyncio.gather(*(self._carry_out(uid, v) for uid, v in verdicts.items()))

    async def _verify(self, dependent: str, owner: Owner) -> None:
        """Does an owner that nobody has seen exist? If not, say so to the graph."""
        node = self.graph.nodes.get(dependent)
        resource = self._resource_of(owner)
        if node is None or resource is None:
            return  # an unknown type: upstream waits for it to be served, too
        namespace = node.namespace if resource.namespaced else ""
        if resource.namespaced and not namespace:
            return  # a cluster-scoped object cannot have a namespaced owner: never collected
        try:
            found = await self._client.get(resource.gvr, owner.name, namespace)
        except NotFound:
            found = None
        except (StatusError, Unreachable):
            self._retry(dependent)
            return
        if found is None or found["metadata"]["uid"] != owner.uid:
            self._add(self.graph.mark_absent(owner.uid))
        else:
            self._add(self.graph.handle(resource.gvr, found, None))

    def _resource_of(self, owner: Owner) -> ApiResource | None:
        group = owner.api_version.rpartition("/")[0]
        return self._by_kind.get((group, owner.kind))

    async def _carry_out(self, uid: str, verdict: Verdict) -> None:
        node = self.graph.nodes.get(uid)
        if node is None or node.gvr is None:
            return
        try:
            match verdict:
                case Delete(policy):
                    await self._delete(node, node.gvr, policy)
                case DropOwners(uids):
                    await self._drop_owners(node, node.gvr, uids)
                case Unblock():
                    await self._unblock(node, node.gvr)
                    await self._delete(node, node.gvr, "Foreground")
                case Finish():
                    await self._remove_finalizer(node, node.gvr, FOREGROUND)
                case ReleaseDependents(dependents):
                    await self._release(node, dependents)
                    await self._remove_finalizer(node, node.gvr, ORPHAN)
                case _:
                    pass
        except NotFound:
            self._retries.pop(uid, None)
        except (StatusError, Unreachable) as error:
            log.info(
                "garbage collector: %s %s/%s: %s", node.gvr.plural, node.namespace, node.name, error
            )
            self._retry(uid)
        else:
            self._retries.pop(uid, None)

    def _retry(self, uid: str) -> None:
        tries = self._retries[uid] = self._retries.get(uid, 0) + 1
        low, high = RETRY_SECONDS
        delay = min(high, low * 2.0 ** min(tries - 1, 20))
        timer: asyncio.TimerHandle

        def again() -> None:
            self._timers.discard(timer)
            self._add([uid])

        timer = asyncio.get_running_loop().call_later(delay, again)
        self._timers.add(timer)

    async def _delete(self, node: Node, gvr: GVR, policy: str) -> None:
        await self._client.delete_nowait(
            gvr, node.name, node.namespace, propagation=policy, uid=node.uid
        )
        self._context.metrics.gc_deletions.labels(policy).inc()

    async def _drop_owners(self, node: Node, gvr: GVR, uids: Sequence[str]) -> None:
        references = [{"$patch": "delete", "uid": u} for u in uids]
        patch = {"metadata": {"uid": node.uid, "ownerReferences": references}}
        await self._patch_owners(node, gvr, patch, lambda r: r["uid"] not in uids)

    async def _patch_owners(
        self, node: Node, gvr: GVR, patch: Object, keep: Callable[[Object], bool]
    ) -> None:
        """Strategic merge where the type has it; a custom resource is read, changed and merged."""
        try:
            await self._client.patch_nowait(
                gvr, node.name, patch, node.namespace, patch_type="strategic", answer="none"
            )
        except StatusError as error:
            if error.code != 415:
                raise
            live = await self._client.get(gvr, node.name, node.namespace)
            meta = live["metadata"]
            left = [r for r in meta.get("ownerReferences") or () if keep(r)]
            merge = {
                "metadata": {"resourceVersion": meta["resourceVersion"], "ownerReferences": left}
            }
            await self._client.patch_nowait(gvr, node.name, merge, node.namespace, answer="none")

    async def _unblock(self, node: Node, gvr: GVR) -> None:
        live = await self._client.get(gvr, node.name, node.namespace)
        meta = live["metadata"]
        if meta["uid"] != node.uid:
            raise NotFound(f"{node.name} was replaced")
        left = [{**r, "blockOwnerDeletion": False} for r in meta.get("ownerReferences") or ()]
        merge = {"metadata": {"resourceVersion": meta["resourceVersion"], "ownerReferences": left}}
        await self._client.patch_nowait(gvr, node.name, merge, node.namespace, answer="none")

    async def _remove_finalizer(self, node: Node, gvr: GVR, finalizer: str) -> None:
        for _ in range(5):
            live = await self._client.get(gvr, node.name, node.namespace)
            meta = live["metadata"]
            held = meta.get("finalizers") or []
            if meta["uid"] != node.uid or finalizer not in held:
                return
            left = [f for f in held if f != finalizer]
            merge = {"metadata": {"resourceVersion": meta["resourceVersion"], "finalizers": left}}
            try:
                await self._client.patch_nowait(
                    gvr, node.name, merge, node.namespace, answer="none"
                )
                return
            except Conflict:
                continue
        raise Conflict(f"{node.name} keeps changing")

    async def _release(self, node: Node, dependents: Sequence[str]) -> None:
        """Orphan: take our reference off every dependent."""
        patches = []
        for uid in dependents:
            held = self.graph.nodes.get(uid)
            if held is not None and held.gvr is not None:
                patches.append(self._drop_owners(held, held.gvr, (node.uid,)))
        for answer in await asyncio.gather(*patches, return_exceptions=True):
            if isinstance(answer, BaseException) and not isinstance(answer, NotFound):
                raise answer


def _same(old: Object, new: Object) -> bool:
    """Nothing that the graph looks at differs."""
    return bool(
        old["uid"] == new["uid"]
        and old.get("ownerReferences") == new.get("ownerReferences")
        and old.get("finalizers") == new.get("finalizers")
        and ("deletionTimestamp" in old) == ("deletionTimestamp" in new)
    )
