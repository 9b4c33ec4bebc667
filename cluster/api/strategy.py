"""What each kind does on its way into and through the store: defaults, preparation, validation,
deletion.

Plays pkg/registry/*/strategy.go. The front (cluster/apiserver) calls, in this order: `default`,
`prepare_create` or `prepare_update`, admission, `validate_create` or `validate_update`. All
functions are pure but for changing the object they are told to; kinds without an entry get the
metadata rules only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.api.defaults import defaulter
from cluster.api.errors import FieldError
from cluster.api.meta import NewUid, Object
from cluster.api.preparation import create as _create
from cluster.api.preparation import update as _update
from cluster.api.preparation.kinds import (
    BUILT_IN_GROUPS,
    CREATED_BY_UPDATE,
    UPDATED_ONLY_WITH_RESOURCE_VERSION,
    Kinded,
)
from cluster.api.preparation.scale import apply_scale, scale_of
from cluster.api.validation import create as _validate_create
from cluster.api.validation import update as _validate_update
from cluster.api.validation.warnings import warnings

__all__ = [
    "Kinded",
    "allows_unconditional_update",
    "apply_scale",
    "can_create_on_update",
    "default",
    "default_grace",
    "prepare_create",
    "prepare_update",
    "scale_of",
    "validate_create",
    "validate_update",
    "warnings",
]


def default(resource_kind: tuple[str, str, str], obj: Object) -> None:
    """Fill in the defaults of (group, version, kind), in place. Idempotent."""
    fill = defaulter(resource_kind)
    if fill is not None:
        fill(obj)


def prepare_create(resource: Kinded, obj: Object, *, now: float, new_uid: NewUid) -> None:
    """Set what only the server may: empty status, first generation, owned labels.

    Of the metadata, uid, creationTimestamp and generateName are the caller's and must be set
    before: a Job's selector is its own uid.
    """
    _create.prepare(resource, obj, now)


def validate_create(resource: Kinded, obj: Object) -> list[FieldError]:
    """The field errors of a new, defaulted object, in upstream's words."""
    return _validate_create(resource, obj)


def prepare_update(resource: Kinded, new: Object, old: Object, subresource: str = "") -> None:
    """Carry over what this (sub)resource may not change and count the generation.

    Afterwards `new` may share unchanged parts with `old`: treat both as frozen there.
    """
    _update.prepare(resource, new, old, subresource)


def validate_update(
    resource: Kinded, new: Object, old: Object, subresource: str = ""
) -> list[FieldError]:
    """The field errors of an update after `prepare_update`; unchanged parts are trusted."""
    return _validate_update(resource, new, old, subresource)


def can_create_on_update(resource: Kinded) -> bool:
    """Whether a PUT of a missing object creates it (AllowCreateOnUpdate)."""
    return (resource.group, resource.kind) in CREATED_BY_UPDATE


def allows_unconditional_update(resource: Kinded) -> bool:
    """Whether a PUT may leave metadata.resourceVersion out (AllowUnconditionalUpdate)."""
    if resource.group not in BUILT_IN_GROUPS:
        return False
    return (resource.group, resource.kind) not in UPDATED_ONLY_WITH_RESOURCE_VERSION


def default_grace(resource: Kinded, obj: Object, options: Mapping[str, Any] | None) -> int:
    """Seconds until the object may go: 0 for all but a bound pod that has not ended.

    `options` is the DeleteOptions; upstream's podStrategy.CheckGracefulDelete.
    """
    if resource.kind != "Pod" or resource.group:
        return 0
    spec = obj.get("spec") or {}
    asked = options.get("gracePeriodSeconds") if options else None
    period = spec.get("terminationGracePeriodSeconds") if asked is None else asked
    if not spec.get("nodeName"):
        return 0
    if (obj.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        return 0
    grace = int(period or 0)
    return 1 if grace < 0 else grace
