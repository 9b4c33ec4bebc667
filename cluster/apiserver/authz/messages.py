"""How a refusal is worded: k8s.io/apiserver/.../responsewriters and apierrors.NewForbidden."""

from __future__ import annotations

import orjson

from cluster.api.errors import Forbidden
from cluster.apiserver.attributes import Attributes


def forbidden(attributes: Attributes, reason: str = "") -> Forbidden:
    """The 403 for a request that no authorizer allowed."""
    message = forbidden_message(attributes)
    if reason:
        message = f"{message}: {reason}"
    if not attributes.is_resource:
        return Forbidden(f"forbidden: {message}", details={})
    return forbidden_resource(attributes.group, attributes.resource, attributes.name, message)


def forbidden_resource(group: str, resource: str, name: str, message: str) -> Forbidden:
    """apierrors.NewForbidden: `pods "x" is forbidden: MESSAGE`."""
    qualified = f"{resource}.{group}" if group else resource
    details = {"name": name, "group": group, "kind": resource}
    shown = f"{qualified} {quoted(name)}" if name else qualified
    return Forbidden(
        f"{shown} is forbidden: {message}", details={k: v for k, v in details.items() if v}
    )


def forbidden_message(attributes: Attributes) -> str:
    """`User "x" cannot list resource "pods" in API group "" in the namespace "default"`"""
    user = quoted(attributes.user.name)
    if not attributes.is_resource:
        return f"User {user} cannot {attributes.verb} path {quoted(attributes.path)}"
    resource = attributes.resource
    if attributes.subresource:
        resource += "/" + attributes.subresource
    where = (
        f"in the namespace {quoted(attributes.namespace)}"
        if attributes.namespace
        else "at the cluster scope"
    )
    return (
        f"User {user} cannot {attributes.verb} resource {quoted(resource)}"
        f" in API group {quoted(attributes.group)} {where}"
    )


def quoted(text: str) -> str:
    """Go's %q, near enough."""
    return orjson.dumps(text).decode()
