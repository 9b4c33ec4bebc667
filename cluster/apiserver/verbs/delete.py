"""DELETE: at once, or marked and left to finish (a pod's grace, finalizers, dependents).

Plays k8s.io/apiserver/pkg/registry/rest.BeforeDelete and generic/registry.Store.Delete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.api import strategy
from cluster.api.catalogue import Resource
from cluster.api.errors import FieldError, Invalid
from cluster.api.meta import Object, parse_rfc3339, rfc3339
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call, Outcome, check_dry_run
from cluster.apiserver.pipeline import ATTEMPTS, Admission, decode_as, encode_checked, stored
from cluster.apiserver.problems import conflict, not_found
from cluster.apiserver.watchcache import Entry
from cluster.etcd.store import CompareFailed

_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
_POLICIES = ("Orphan", "Background", "Foreground")
_ORPHAN_BY_DEFAULT = frozenset({("", "replicationcontrollers"), ("batch", "jobs")})
_RETURNS_OBJECT = frozenset(
    {
        ("", "pods"), ("", "podtemplates"), ("", "persistentvolumes"),
        ("", "persistentvolumeclaims"),
        ("", "resourcequotas"), ("", "serviceaccounts"), ("", "services"),
        ("storage.k8s.io", "storageclasses"), ("storage.k8s.io", "volumeattachments"),
        ("storage.k8s.io", "csidrivers"), ("storage.k8s.io", "csinodes"),
        ("storage.k8s.io", "volumeattributesclasses"),
        ("resource.k8s.io", "deviceclasses"), ("resource.k8s.io", "resourceclaims"),
        ("resource.k8s.io", "resourceclaimtemplates"),
    }
)  # fmt: skip
"""Resources whose deletion answers with the object instead of a Status
(Store.ReturnDeletedObject)."""


@dataclass(slots=True)
class DeleteOptions:
    """metav1.DeleteOptions, checked."""

    grace_seconds: int | None = None
    propagation: str = ""
    orphan_dependents: bool | None = None
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False

    def as_object(self) -> Object:
        """What admission sees."""
        shown: Object = {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"}
        if self.grace_seconds is not None:
            shown["gracePeriodSeconds"] = self.grace_seconds
        if self.propagation:
            shown["propagationPolicy"] = self.propagation
        if self.dry_run:
            shown["dryRun"] = ["All"]
        return shown


def delete_options(backend: Backend, call: Call, value: Any = None) -> DeleteOptions:
    """From the body if there is one, else from the query. Raises BadRequest, Invalid."""
    if value is None and (call.body or call.decoded_if_preset() is not None):
        value = call.decoded()
    if value is None:
        value = _from_query(call)
    value = decode_as(backend, call, value, "DeleteOptions", _OPTIONS)
    preconditions = value.get("preconditions") or {}
    policy, orphan = value.get("propagationPolicy") or "", value.get("orphanDependents")
    _check_options(policy, orphan)
    dry_run = check_dry_run(value.get("dryRun") or [], "DeleteOptions") or call.dry_run
    return DeleteOptions(
        value.get("gracePeriodSeconds"),
        policy,
        orphan,
        preconditions.get("uid") or "",
        preconditions.get("resourceVersion") or "",
        dry_run,
    )


def _from_query(call: Call) -> Object:
    value: Object = {}
    grace = call.number("gracePeriodSeconds")
    if grace is not None:
        value["gracePeriodSeconds"] = grace
    if call.parameter("propagationPolicy"):
        value["propagationPolicy"] = call.parameter("propagationPolicy")
    orphan = call.flag("orphanDependents")
    if orphan is not None:
        value["orphanDependents"] = orphan
    return value


def _check_options(policy: str, orphan: object) -> None:
    if policy and orphan is not None:
        detail = "orphanDependents and deletionPropagation cannot be both set"
        error = FieldError("FieldValueInvalid", "propagationPolicy", policy, detail)
        raise Invalid.of("meta.k8s.io", "DeleteOptions", "", [error])
    if policy and policy not in _POLICIES:
        listed = '"Background", "Foreground", "Orphan", "nil"'
        error = FieldError(
            "FieldValueNotSupported", "propagationPolicy", policy, f"supported values: {listed}"
        )
        raise Invalid.of("meta.k8s.io", "DeleteOptions", "", [error])


async def delete(backend: Backend, call: Call) -> Outcome:
    """Raises NotFound, Conflict (preconditions), Forbidden (admission)."""
    options = delete_options(backend, call)
    unsaid = not options.propagation and options.orphan_dependents is None
    if unsaid and (call.resource.group, call.resource.plural) == ("batch", "jobs"):
        call.warnings.append(
            "child pods are preserved by default when jobs are deleted; set "
            "propagationPolicy=Background to remove them or set propagationPolicy=Orphan to "
            "suppress this warning"
        )
    return await delete_named(backend, call, call.namespace, call.name, options)


async def delete_named(
    backend: Backend, call: Call, namespace: str, name: str, options: DeleteOptions
) -> Outcome:
    """Delete one object of the call's resource; the loop around `plan_deletion`."""
    resource = call.resource
    cache = backend.cache(resource)
    for _ in range(ATTEMPTS):
        entry = cache.get(namespace, name)
        if entry is None:
            raise not_found(resource, name)
        old = entry.decode()
        _check_preconditions(resource, name, old, options)
        await Admission(
            backend, call, "DELETE", None, old,
            name=name, options=options.as_object(), dry_run=options.dry_run,
        ).admit()  # fmt: skip
        marked = plan_deletion(resource, old, options, backend.clock.now())
        try:
            return await _carry_out(backend, call, entry, old, marked, options)
        except CompareFailed as failed:
            if failed.current is not None:
                await backend.storage.seen(failed.current.mod_revision)
            if options.resource_version:
                raise conflict(resource, name) from None
    raise conflict(resource, name)


async def _carry_out(
    backend: Backend,
    call: Call,
    entry: Entry,
    old: Object,
    marked: Object | None,
    options: DeleteOptions,
) -> Outcome:
    resource = call.resource
    cache = backend.cache(resource)
    if marked is not None:
        if options.dry_run or marked == old:
            return Outcome(200, obj=marked)
        value = encode_checked(marked)
        revision = await backend.storage.put_encoded(
            cache, entry.key, value, marked, entry.revision
        )
        return stored(cache, entry.key, revision, marked)
    if not options.dry_run:
        revision = await backend.storage.delete(cache, entry.key, entry.revision)
        if resource.plural == "services" and not resource.group:
            backend.allocators.release(old)
        old["metadata"]["resourceVersion"] = str(revision)
    if (resource.group, resource.plural) in _RETURNS_OBJECT:
        return Outcome(200, obj=old)
    return Outcome(200, obj=success(resource, entry.name, old["metadata"].get("uid", "")))


def success(resource: Resource, name: str, uid: str) -> Object:
    """The Status of a deletion that is done."""
    shown: Object = {"name": name}
    if resource.group:
        shown["group"] = resource.group
    shown["kind"] = resource.plural
    if uid:
        shown["uid"] = uid
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": shown,
    }


def _check_preconditions(
    resource: Resource, name: str, old: Object, options: DeleteOptions
) -> None:
    metadata = old["metadata"]
    if options.uid and options.uid != metadata.get("uid"):
        why = (
            f"the UID in the precondition ({options.uid}) does not match the UID in record "
            f"({metadata.get('uid')}). The object might have been deleted and then recreated"
        )
        raise conflict(resource, name, why)
    version = metadata["resourceVersion"]
    if options.resource_version and options.resource_version != version:
        why = (
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match "
            f"the ResourceVersion in record ({version}). The object might have been modified"
        )
        raise conflict(resource, name, why)


def plan_deletion(
    resource: Resource, old: Object, options: DeleteOptions, now: float
) -> Object | None:
    """The object as it stays, marked (equal to `old`: nothing to do); None: remove it now."""
    metadata = old["metadata"]
    if (resource.group, resource.plural) == ("", "namespaces"):
        return _plan_namespace(old, options, now)
    finalizers = finalizers_for(resource, metadata, options)
    if (resource.group, resource.plural) == ("", "pods"):
        grace = strategy.default_grace(resource, old, _grace_options(options))
        pending = _plan_graceful(old, grace, options, now)
        if isinstance(pending, str):
            return old
        if pending is not None:
            return {**old, "metadata": {**pending, **_with(finalizers)}}
    if finalizers:
        marked = {**metadata, "finalizers": finalizers}
        if not marked.get("deletionTimestamp"):
            marked["deletionTimestamp"] = rfc3339(now)
            _bump_generation(marked)
        marked["deletionGracePeriodSeconds"] = 0
        return {**old, "metadata": marked}
    return None


def _with(finalizers: list[str]) -> Object:
    return {"finalizers": finalizers} if finalizers else {}


def _grace_options(options: DeleteOptions) -> Object:
    shown: Object = {}
    if options.grace_seconds is not None:
        shown["gracePeriodSeconds"] = options.grace_seconds
    return shown


def _plan_graceful(
    old: Object, grace: int, options: DeleteOptions, now: float
) -> Object | str | None:
    """New metadata of an object that gets `grace` seconds; 'pending': it is going already; None:
    no time left."""
    metadata = old["metadata"]
    deadline = metadata.get("deletionTimestamp")
    if deadline:
        current = metadata.get("deletionGracePeriodSeconds")
        if current is None:
            return None
        if options.grace_seconds is None or grace >= current:
            # Not sooner than promised; a period that is spent already is not waited for again.
            return None if current == 0 and not metadata.get("finalizers") else "pending"
        if grace <= 0 and not metadata.get("finalizers"):
            return None
        sooner = parse_rfc3339(deadline) - current + grace
        return {
            **metadata,
            "deletionTimestamp": rfc3339(sooner),
            "deletionGracePeriodSeconds": grace,
        }
    if grace <= 0:
        return None
    marked = {
        **metadata,
        "deletionTimestamp": rfc3339(now + grace),
        "deletionGracePeriodSeconds": grace,
    }
    _bump_generation(marked)
    return marked


def _bump_generation(metadata: Object) -> None:
    if metadata.get("generation"):
        metadata["generation"] += 1


def finalizers_for(resource: Resource, metadata: Object, options: DeleteOptions) -> list[str]:
    """The finalizers that stay or come, by propagation policy
    (deletionFinalizersForGarbageCollection)."""
    present = list(metadata.get("finalizers") or ())
    if (resource.group, resource.plural) == ("", "events"):
        return present
    orphan, foreground = ORPHAN in present, FOREGROUND in present
    if options.orphan_dependents is not None:
        orphan, foreground = options.orphan_dependents, False
    elif options.propagation:
        orphan = options.propagation == "Orphan"
        foreground = options.propagation == "Foreground"
    elif not orphan and not foreground:
        orphan = (resource.group, resource.plural) in _ORPHAN_BY_DEFAULT
    wanted = [f for f in present if f not in (ORPHAN, FOREGROUND)]
    if orphan:
        wanted.append(ORPHAN)
    if foreground:
        wanted.append(FOREGROUND)
    return wanted


def _plan_namespace(old: Object, options: DeleteOptions, now: float) -> Object | None:
    """A namespace goes to Terminating and waits for its own spec.finalizers
    (registry/core/namespace)."""
    metadata = old["metadata"]
    spec_finalizers = (old.get("spec") or {}).get("finalizers")
    if metadata.get("deletionTimestamp"):
        return old if spec_finalizers or metadata.get("finalizers") else None
    marked = {**metadata, "deletionTimestamp": rfc3339(now)}
    if options.propagation == "Orphan" or options.orphan_dependents:
        marked["finalizers"] = [*(metadata.get("finalizers") or ()), ORPHAN]
    if not spec_finalizers and not marked.get("finalizers"):
        return None
    status = {**(old.get("status") or {}), "phase": "Terminating"}
    return {**old, "metadata": marked, "status": status}
