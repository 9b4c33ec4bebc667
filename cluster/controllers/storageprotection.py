"""Lets claims and volumes go once nothing uses them any more.

Plays pkg/controller/volume/pvcprotection and pvprotection: admission puts a finalizer on each,
which is removed when a deleted claim is used by no pod that has not ended, or a deleted volume is
bound to no claim.
"""

from __future__ import annotations

from cluster.api.errors import Conflict, NotFound
from cluster.api.meta import GVR, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, Object
from cluster.client import run_workers
from cluster.controllers.context import ControllerContext
from cluster.controllers.podindex import PodChange

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"
WORKERS = 2


def claims_of(pod: Object) -> list[str]:
    """Names of the claims that a pod mounts, those of its ephemeral volumes too."""
    found: list[str] = []
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            found.append(volume["persistentVolumeClaim"]["claimName"])
        elif volume.get("ephemeral"):
            found.append(f"{pod['metadata']['name']}-{volume['name']}")
    return found


class ClaimProtectionController:
    """Removes the finalizer of deleted PersistentVolumeClaims that no pod uses."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._queue = context.queue("pvcprotection")
        self._claims = context.informers.informer(PERSISTENTVOLUMECLAIMS)
        self._pods = context.informers.informer(PODS)
        self._claims.add_handler(self._handle)
        context.pods.subscribe(self._handle_pods)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(PERSISTENTVOLUMECLAIMS, PODS)
        await run_workers(self._queue, self._sync, WORKERS)

    def _handle(self, old: Object | None, new: Object | None) -> None:
        if new is not None and _waits(new, CLAIM_FINALIZER):
            self._queue.add(f"{new['metadata']['namespace']}/{new['metadata']['name']}")

    def _handle_pods(self, changes: list[PodChange]) -> None:
        """A pod that ends or goes may free its claims. Without any claim there is nothing to do."""
        if not len(self._claims):
            return
        for change in changes:
            after, before = change.after, change.before
            ended = after is None or after.phase in ("Succeeded", "Failed")
            if ended and before is not None:
                for name in claims_of(change.new or change.old or {}):
                    self._queue.add(f"{before.namespace}/{name}")

    async def _sync(self, key: str) -> float | None:
        claim = self._claims.get(key)
        if claim is None or not _waits(claim, CLAIM_FINALIZER) or self._is_used(claim):
            return None
        return await remove_finalizer(self._context, PERSISTENTVOLUMECLAIMS, claim, CLAIM_FINALIZER)

    def _is_used(self, claim: Object) -> bool:
        meta = claim["metadata"]
        return any(
            meta["name"] in claims_of(pod)
            and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
            for pod in self._pods.list(meta["namespace"])
        )


class VolumeProtectionController:
    """Removes the finalizer of deleted PersistentVolumes that are not bound."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._queue = context.queue("pvprotection")
        self._volumes = context.informers.informer(PERSISTENTVOLUMES)
        self._volumes.add_handler(self._handle)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(PERSISTENTVOLUMES)
        await run_workers(self._queue, self._sync, WORKERS)

    def _handle(self, old: Object | None, new: Object | None) -> None:
        if new is not None and _waits(new, VOLUME_FINALIZER):
            self._queue.add(new["metadata"]["name"])

    async def _sync(self, name: str) -> float | None:
        volume = self._volumes.get(name)
        if volume is None or not _waits(volume, VOLUME_FINALIZER):
            return None
        if (volume.get("status") or {}).get("phase") == "Bound":
            return None
        return await remove_finalizer(self._context, PERSISTENTVOLUMES, volume, VOLUME_FINALIZER)


def _waits(obj: Object, finalizer: str) -> bool:
    meta = obj["metadata"]
    return "deletionTimestamp" in meta and finalizer in (meta.get("finalizers") or ())


async def remove_finalizer(
    context: ControllerContext, gvr: GVR, obj: Object, finalizer: str
) -> float | None:
    """Write an object without a finalizer; seconds to the next try if it has changed meanwhile."""
    left = [f for f in obj["metadata"]["finalizers"] if f != finalizer]
    wanted = {**obj, "metadata": {**obj["metadata"], "finalizers": left}}
    try:
        await context.client.update(gvr, wanted, answer="none")
    except Conflict:
        return 0.1
    except NotFound:
        return None
    return None
