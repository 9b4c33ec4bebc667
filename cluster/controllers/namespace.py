"""Namespaces on their way out: delete everything in them, then let them go.

Plays pkg/controller/namespace. Pods first (they may still use the rest), then all other types; the
`kubernetes` finalizer goes when nothing is left.
Unlike Kubernetes: no wait of 5 s before the first deletion; there is one API server to agree with,
not several.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from cluster.api.errors import Conflict, MethodNotAllowed, NotFound, StatusError
from cluster.api.meta import NAMESPACES, PODS, Object, rfc3339
from cluster.client import run_workers
from cluster.controllers.conditions import find_condition
from cluster.controllers.context import ControllerContext
from cluster.controllers.discovery import ApiResource, DiscoveryFailed, discover

FINALIZER = "kubernetes"
WORKERS = 20
LOOK_AGAIN_SECONDS = 0.5
LOOK_AGAIN_MAX_SECONDS = 15.0


@dataclass(slots=True)
class Remains:
    """What is left of a namespace's content after one pass."""

    counts: dict[str, int] = field(default_factory=dict)  # "pods." or "deployments.apps" -> objects
    finalizers: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    discovery_error: str = ""
    grace_seconds: float = 0.0

    @property
    def empty(self) -> bool:
        return not (self.counts or self.errors or self.discovery_error)


class NamespaceController:
    """Finalizes namespaces that are being deleted."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._queue = context.queue("namespace")
        self._resources: list[ApiResource] = []
        self._discovered_at = float("-inf")
        self._tries: dict[str, int] = {}
        self._namespaces = context.informers.informer(NAMESPACES)
        self._namespaces.add_handler(self._handle)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(NAMESPACES)
        await run_workers(self._queue, self._sync, WORKERS)

    def _handle(self, old: Object | None, new: Object | None) -> None:
        if new is not None and "deletionTimestamp" in new["metadata"]:
            self._queue.add(new["metadata"]["name"])

    async def _sync(self, name: str) -> float | None:
        namespace = self._namespaces.get(name)
        if namespace is None or "deletionTimestamp" not in namespace["metadata"]:
            self._tries.pop(name, None)
            return None
        if FINALIZER not in (namespace["spec"].get("finalizers") or ()):
            return None
        try:
            namespace = await self._client.get(NAMESPACES, name)
            remains = await self._delete_content(name)
            namespace = await self._report(namespace, remains)
            if remains.empty:
                await self._finalize(namespace)
                self._tries.pop(name, None)
                return None
        except NotFound:
            return None
        except Conflict:
            return LOOK_AGAIN_SECONDS
        tries = self._tries[name] = self._tries.get(name, 0) + 1
        return min(LOOK_AGAIN_MAX_SECONDS, LOOK_AGAIN_SECONDS * 1.5 ** min(tries - 1, 20))

    async def _delete_content(self, name: str) -> Remains:
        remains = Remains()
        try:
            resources = await self._namespaced()
        except DiscoveryFailed as error:
            remains.discovery_error = str(error)
            return remains
        pods = [r for r in resources if r.gvr[0] == "" and r.gvr.plural == PODS.plural]
        others = [r for r in resources if r not in pods]
        for stage in (pods, others):
            await asyncio.gather(*(self._delete_type(name, r, remains) for r in stage))
            if remains.counts or remains.errors:
                break  # what uses them is still there
        return remains

    async def _namespaced(self) -> list[ApiResource]:
        now = self._context.clock.monotonic()
        if not self._resources or now - self._discovered_at > self._context.config.discovery_period:
            found = await discover(self._client)
            self._resources = [
                r for r in found if r.namespaced and "delete" in r.verbs and "list" in r.verbs
            ]
            self._discovered_at = now
        return self._resources

    async def _delete_type(self, name: str, resource: ApiResource, remains: Remains) -> None:
        """Delete all objects of one type, note those that stay a while."""
        try:
            left = (await self._client.list(resource.gvr, name)).items
            if not left:
                return
            if "deletecollection" in resource.verbs:
                await self._client.delete_collection(resource.gvr, name, propagation="Background")
            else:
                await asyncio.gather(
                    *(
                        self._client.delete_nowait(
                            resource.gvr, o["metadata"]["name"], name, propagation="Background"
                        )
                        for o in left
                    ),
                    return_exceptions=True,
                )
            left = (await self._client.list(resource.gvr, name)).items
        except (NotFound, MethodNotAllowed):
            return
        except StatusError as error:
            remains.errors.append(error.message)
            return
        if left:
            remains.counts[f"{resource.gvr.plural}.{resource.gvr.group}"] = len(left)
            for obj in left:
                for finalizer in obj["metadata"].get("finalizers") or ():
                    remains.finalizers[finalizer] = remains.finalizers.get(finalizer, 0) + 1

    async def _report(self, namespace: Object, remains: Remains) -> Object:
        """Write the deletion conditions if they say something new."""
        old = namespace.get("status") or {}
        conditions = plan_conditions(
            old.get("conditions") or [], remains, self._context.clock.now()
        )
        status = {**old, "phase": "Terminating", "conditions": conditions}
        if status == old or (remains.empty and not old.get("conditions")):
            return namespace
        return await self._client.update(
            NAMESPACES, {**namespace, "status": status}, subresource="status"
        )

    async def _finalize(self, namespace: Object) -> None:
        left = [f for f in namespace["spec"].get("finalizers") or () if f != FINALIZER]
        wanted = {**namespace, "spec": {**namespace["spec"], "finalizers": left}}
        await self._client.update(NAMESPACES, wanted, subresource="finalize", answer="none")


_HEALTHY = {
    "NamespaceDeletionDiscoveryFailure": (
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": (
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
}


def plan_conditions(old: list[Object], remains: Remains, now: float) -> list[Object]:
    """The five deletion conditions; times move only where the verdict does."""
    bad: dict[str, tuple[str, str]] = {}
    if remains.discovery_error:
        message = f"Discovery failed for some groups, 1 failing: {remains.discovery_error}"
        bad["NamespaceDeletionDiscoveryFailure"] = ("DiscoveryFailed", message)
    if remains.errors:
        count, text = len(remains.errors), ", ".join(sorted(remains.errors))
        text = text if count == 1 else f"[{text}]"
        message = f"Failed to delete all resource types, {count} remaining: {text}"
        bad["NamespaceDeletionContentFailure"] = ("ContentDeletionFailed", message)
    if remains.counts:
        parts = [f"{k} has {n} resource instances" for k, n in sorted(remains.counts.items())]
        message = "Some resources are remaining: " + ", ".join(parts)
        bad["NamespaceContentRemaining"] = ("SomeResourcesRemain", message)
    if remains.finalizers:
        parts = [f"{k} in {n} resource instances" for k, n in sorted(remains.finalizers.items())]
        message = "Some content in the namespace has finalizers remaining: " + ", ".join(parts)
        bad["NamespaceFinalizersRemaining"] = ("SomeFinalizersRemain", message)
    wanted: list[Object] = [c for c in old if c["type"] not in _HEALTHY]
    for kind, healthy in _HEALTHY.items():
        reason, message = bad.get(kind, healthy)
        verdict = "True" if kind in bad else "False"
        held = find_condition(old, kind)
        since = held["lastTransitionTime"] if held and held["status"] == verdict else rfc3339(now)
        wanted.append(
            {
                "type": kind,
                "status": verdict,
                "lastTransitionTime": since,
                "reason": reason,
                "message": message,
            }
        )
    return wanted
