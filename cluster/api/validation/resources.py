"""Compute resources: which names exist where, and what their quantities may be."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cluster.api import names
from cluster.api.errors import FieldError, duplicate, forbidden, invalid, not_found, required
from cluster.api.meta import Object
from cluster.api.validation import fields
from cluster.api.validation.fields import Errors

_CONTAINER = frozenset({"cpu", "memory", "ephemeral-storage"})
_OBJECT_COUNTS = frozenset({
    "pods", "resourcequotas", "services", "replicationcontrollers", "secrets", "configmaps",
    "persistentvolumeclaims", "services.nodeports", "services.loadbalancers",
})  # fmt: skip
_QUOTA = _OBJECT_COUNTS | _CONTAINER | frozenset({
    "requests.cpu", "requests.memory", "requests.storage", "requests.ephemeral-storage",
    "limits.cpu", "limits.memory", "limits.ephemeral-storage",
})  # fmt: skip
_STANDARD = _QUOTA | {"storage"}


def is_huge_page(resource: str) -> bool:
    return resource.startswith("hugepages-")


def is_native(resource: str) -> bool:
    return "/" not in resource or "kubernetes.io/" in resource


@lru_cache(maxsize=1024)
def is_extended(resource: str) -> bool:
    if is_native(resource) or resource.startswith("requests."):
        return False
    return not names.qualified_name(f"requests.{resource}")


def is_overcommit_allowed(resource: str) -> bool:
    return is_native(resource) and not is_huge_page(resource)


def is_quota_name(resource: str) -> bool:
    return resource in _QUOTA or resource.startswith(("hugepages-", "requests.hugepages-"))


def resource_name(resource: str, path: str, errors: Errors) -> bool:
    """Any resource of the API. Whether it is one."""
    before = len(errors)
    fields.name(resource, names.qualified_name, path, errors)
    known = "/" in resource or resource in _STANDARD or is_quota_name(resource)
    if len(errors) == before and not known:
        detail = "must be a standard resource type or fully qualified"
        errors.append(invalid(path, resource, detail))
    return len(errors) == before


def container_resource_name(resource: str, path: str, errors: Errors) -> None:
    resource_name(resource, path, errors)
    if "/" not in resource:
        if resource not in _CONTAINER and not is_huge_page(resource):
            errors.append(invalid(path, resource, "must be a standard resource for containers"))
    elif not is_native(resource) and not is_extended(resource):
        errors.append(invalid(path, resource, "doesn't follow extended resource name standard"))


def quota_resource_name(resource: str, path: str, errors: Errors) -> None:
    resource_name(resource, path, errors)
    if "/" not in resource and not is_quota_name(resource):
        errors.append(invalid(path, resource, "must be a standard resource for quota"))


def quantity_value(resource: str, value: Any, path: str, errors: Errors) -> None:
    number = fields.checked_amount(value, path, errors)
    if number is None:
        return
    if number < 0:
        errors.append(invalid(path, str(value), fields.NEGATIVE))
    if (resource in _OBJECT_COUNTS or is_extended(resource)) and number % fields.ONE:
        errors.append(invalid(path, str(value), "must be an integer"))


def requirements(found: Object, claims: frozenset[str], path: str, errors: Errors) -> None:
    """Requests and limits of a container."""
    limits, requests = found.get("limits") or {}, found.get("requests") or {}
    for resource, value in limits.items():
        at = f"{path}.limits[{resource}]"
        if resource not in _CONTAINER:
            container_resource_name(resource, at, errors)
        quantity_value(resource, value, at, errors)
    for resource, value in requests.items():
        at = f"{path}.requests[{resource}]"
        if resource not in _CONTAINER:
            container_resource_name(resource, at, errors)
        quantity_value(resource, value, at, errors)
        _request_within_limit(resource, value, limits, path, errors)
    if any(map(is_huge_page, (*limits, *requests))) and not (
        {"cpu", "memory"} & {*limits, *requests}
    ):
        errors.append(forbidden(path, "HugePages require cpu or memory"))
    if found.get("claims"):
        _claims(found["claims"], claims, f"{path}.claims", errors)


def _request_within_limit(
    resource: str, value: Any, limits: dict[str, Any], path: str, errors: Errors
) -> None:
    limit = limits.get(resource)
    if limit is None:
        if not is_overcommit_allowed(resource):
            detail = "Limit must be set for non overcommitable resources"
            errors.append(required(f"{path}.limits", detail))
        return
    if value == limit:
        return
    asked, allowed = fields.amount(value), fields.amount(limit)
    if asked is None or allowed is None:
        return
    if asked != allowed and not is_overcommit_allowed(resource):
        detail = f"must be equal to {resource} limit of {limit}"
        errors.append(invalid(f"{path}.requests", str(value), detail))
    elif asked > allowed:
        detail = f"must be less than or equal to {resource} limit of {limit}"
        errors.append(invalid(f"{path}.requests", str(value), detail))


def _claims(claims: list[Object], known: frozenset[str], path: str, errors: Errors) -> None:
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        claim_name = claim.get("name")
        if not claim_name:
            errors.append(required(f"{path}[{i}]"))
            continue
        key = f"{claim_name}/{claim['request']}" if claim.get("request") else claim_name
        if key in seen:
            errors.append(duplicate(f"{path}[{i}]", key))
        seen.add(key)
        if claim_name not in known:
            detail = "must be one of the names in pod.spec.resourceClaims"
            detail += f": {', '.join(sorted(known))}" if known else " which is empty"
            base = not_found(f"{path}[{i}]", claim_name)
            errors.append(FieldError(base.type, base.field, base.value, detail))
