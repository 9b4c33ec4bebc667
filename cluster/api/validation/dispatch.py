"""Which kind has which checks."""

from __future__ import annotations

from cluster.api import names
from cluster.api.errors import FieldError
from cluster.api.meta import Object
from cluster.api.preparation.kinds import (
    BUILT_IN_GROUPS,
    UPDATED_ONLY_WITH_RESOURCE_VERSION,
    Kinded,
)
from cluster.api.preparation.update import MAIN_RESOURCE
from cluster.api.validation import metadata, table

_OUTSIDE_BODY = frozenset({"apiVersion", "kind", "metadata", "status"})


def create(resource: Kinded, obj: Object) -> list[FieldError]:
    kind = (resource.group, resource.kind)
    errors: list[FieldError] = []
    check_name = table.NAMES.get(kind, names.dns_subdomain)
    metadata.create(obj["metadata"], resource.namespaced, check_name, errors)
    body = table.CREATE.get(kind) or table.BODY.get(kind)
    if body is not None:
        body(obj, errors)
    return _unique(errors)


def update(resource: Kinded, new: Object, old: Object, subresource: str = "") -> list[FieldError]:
    kind = (resource.group, resource.kind)
    errors: list[FieldError] = []
    strict = kind in UPDATED_ONLY_WITH_RESOURCE_VERSION or resource.group not in BUILT_IN_GROUPS
    metadata.update(new["metadata"], old["metadata"], errors, needs_version=strict)
    if subresource not in MAIN_RESOURCE:
        check = table.SUBRESOURCES.get((kind, subresource))
        if check is not None:
            check(new, old, errors)
        return _unique(errors) if errors else errors
    transition, body = table.UPDATE.get(kind), table.BODY.get(kind)
    if kind in table.UPDATE_CHECKS_BODY or body is None or not _body_changed(new, old):
        body = None
    # The order of the messages is upstream's.
    if transition is not None and kind in table.TRANSITION_FIRST:
        transition(new, old, errors)
        transition = None
    if body is not None:
        body(new, errors)
    if transition is not None:
        transition(new, old, errors)
    return _unique(errors) if errors else errors


def _body_changed(new: Object, old: Object) -> bool:
    for key, value in new.items():
        if key not in _OUTSIDE_BODY and value != old.get(key):
            return True
    return any(key not in new for key in old if key not in _OUTSIDE_BODY)


def _unique(errors: list[FieldError]) -> list[FieldError]:
    """Each message once, as ErrorList.ToAggregate."""
    if len(errors) < 2:
        return errors
    seen: dict[str, FieldError] = {}
    for error in errors:
        seen.setdefault(str(error), error)
    return list(seen.values())
