"""Errors about one named object, in upstream's words (apierrors.NewNotFound and its sisters)."""

from __future__ import annotations

from typing import Any

from cluster.api.catalogue import Resource
from cluster.api.errors import AlreadyExists, Conflict, NotFound

MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def qualified(resource: Resource) -> str:
    """`pods`, `deployments.apps`."""
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def details(resource: Resource, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": name} if name else {}
    if resource.group:
        shown["group"] = resource.group
    shown["kind"] = resource.plural
    return shown


def not_found(resource: Resource, name: str) -> NotFound:
    return NotFound(f'{qualified(resource)} "{name}" not found', details=details(resource, name))


def already_exists(resource: Resource, name: str) -> AlreadyExists:
    return AlreadyExists(
        f'{qualified(resource)} "{name}" already exists', details=details(resource, name)
    )


def conflict(resource: Resource, name: str, why: str = MODIFIED) -> Conflict:
    return Conflict(
        f'Operation cannot be fulfilled on {qualified(resource)} "{name}": {why}',
        details=details(resource, name),
    )
