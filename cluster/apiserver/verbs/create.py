"""CREATE: a new object, named by the client or by generateName."""

from __future__ import annotations

from functools import lru_cache

import orjson

from cluster.api import strategy
from cluster.api.catalogue import Resource
from cluster.api.errors import AlreadyExists, BadRequest, Invalid, NotEmulated
from cluster.api.meta import Object, controller_of, rfc3339
from cluster.apiserver import pipeline
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call, Outcome
from cluster.apiserver.pipeline import Admission, decode_object, match_namespace
from cluster.apiserver.problems import already_exists
from cluster.etcd.store import CompareFailed

WITHOUT_EFFECT = frozenset(
    {
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("apiregistration.k8s.io", "apiservices"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
        ("storagemigration.k8s.io", "storageversionmigrations"),
    }
)
"""What would change this server itself and does not yet: refused by name, not stored in silence."""

NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels, so that no words arise by chance (apimachinery's util/rand)."""
_RANDOM_LENGTH = 5
_BASE_LENGTH = 63 - _RANDOM_LENGTH
GENERATE_ATTEMPTS = 8


async def create(backend: Backend, call: Call) -> Outcome:
    """POST to a collection. Raises BadRequest, Invalid, AlreadyExists, Forbidden (admission)."""
    obj = decode_object(backend, call, call.decoded())
    match_namespace(call, obj)
    return await create_object(backend, call, obj)


async def create_object(
    backend: Backend, call: Call, obj: Object, *, tracked: bool = True
) -> Outcome:
    """Store a decoded object. A generated name that is taken is drawn again. `tracked=False` leaves
    managedFields as they are (server-side apply has set them)."""
    resource = call.resource
    if (resource.group, resource.plural) in WITHOUT_EFFECT:
        raise NotEmulated(f"{resource.plural}.{resource.group}")
    metadata = obj["metadata"]
    generated = not metadata.get("name") and metadata.get("generateName")
    if not generated:
        return await _create_once(backend, call, obj, tracked)
    pristine = pipeline.encode_checked(obj) if isinstance(generated, str) else b""
    for attempt in range(GENERATE_ATTEMPTS):
        if attempt:
            obj = orjson.loads(pristine)
        obj["metadata"]["name"] = generate_name(backend, str(generated))
        try:
            return await _create_once(backend, call, obj, tracked)
        except AlreadyExists:
            if attempt == GENERATE_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


@lru_cache(maxsize=8)
def _stamp(seconds: int) -> str:
    """A creation time; a thousand objects of one second share it."""
    return rfc3339(seconds)


def generate_name(backend: Backend, base: str) -> str:
    """names.SimpleNameGenerator."""
    chosen = "".join(backend.rng.choices(NAME_ALPHABET, k=_RANDOM_LENGTH))
    return base[:_BASE_LENGTH] + chosen


async def _create_once(backend: Backend, call: Call, obj: Object, tracked: bool) -> Outcome:
    resource = call.resource
    begun = backend.clock.now()
    await prepare(backend, call, obj, tracked)
    prepared = backend.clock.now()
    name = obj["metadata"]["name"]
    cache = backend.cache(resource)
    key = cache.key(call.namespace, name)
    if call.dry_run:
        if key in cache.entries:
            raise already_exists(resource, name)
        return Outcome(201, obj=obj)
    release = _nothing
    if resource.plural == "services" and not resource.group:
        release = backend.allocators.allocate(obj)
    try:
        value = pipeline.encode_checked(obj)
        revision = await backend.storage.put_encoded(
            cache, key, value, obj, 0, pipeline.durable(resource)
        )
    except CompareFailed:
        raise already_exists(resource, name) from None
    finally:
        release()
    if resource.plural == "pods" and not resource.group:
        _note_flow(backend, call, obj, begun, prepared)
    return pipeline.stored(cache, key, revision, obj, 201)


def _note_flow(backend: Backend, call: Call, obj: Object, begun: float, prepared: float) -> None:
    """Stages 1 and 2 of a pod's journey, in Unix seconds."""
    now = backend.clock.now()
    received = now - (backend.clock.monotonic() - call.started)
    metadata = obj["metadata"]
    flow, key = backend.flow, (call.namespace, metadata["name"])
    flow.begin(*key, metadata["uid"])
    detail = {"user": call.user.name}
    owner = controller_of(obj)
    if owner is not None:
        detail["owner"] = f"{owner['kind']} {owner['name']}"
    flow.add(*key, {"stage": "received", "start": received, "end": received, "detail": detail})
    flow.mark(*key, "authenticated", received, begun)
    flow.mark(*key, "admitted", begun, prepared)
    flow.mark(*key, "stored", prepared, now)


def check_valid(resource: Resource, obj: Object, name: str) -> None:
    """Raises Invalid with every field that is wrong."""
    errors = strategy.validate_create(resource, obj)
    if errors:
        raise Invalid.of(resource.group, resource.kind, name, errors)


def _nothing() -> None:
    """No reservation to give back."""


async def prepare(backend: Backend, call: Call, obj: Object, tracked: bool) -> None:
    """Everything before the store, in place: system metadata, defaults, admission, strategy,
    validation."""
    resource = call.resource
    metadata = obj["metadata"]
    if metadata.pop("resourceVersion", None) not in (None, "", "0"):
        raise BadRequest("resourceVersion should not be set on objects to be created")
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
        metadata.pop(field, None)
    now = backend.clock.now()
    metadata["uid"] = backend.new_uid()
    metadata["creationTimestamp"] = _stamp(int(now))
    gvk = (resource.group, resource.version, resource.kind)
    strategy.default(gvk, obj)
    name = metadata.get("name") or ""
    admission = Admission(
        backend, call, "CREATE", obj, None, name=name if isinstance(name, str) else ""
    )
    try:
        await admission.mutate()
        strategy.prepare_create(resource, obj, now=now, new_uid=backend.new_uid)
    except pipeline.MALFORMED:
        check_valid(resource, obj, name)
        raise
    check_valid(resource, obj, name)
    await admission.validate()
    found = strategy.warnings(resource, obj)
    if found:
        call.warnings.extend(found)
    if backend.config.managed_fields:
        if tracked:
            pipeline.track(backend, call, None, obj)
    else:
        metadata.pop("managedFields", None)
