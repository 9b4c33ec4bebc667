"""From method and path to what is asked: verb, resource, namespace, name, subresource.

Plays k8s.io/apiserver/pkg/endpoints/request.RequestInfo. Pure; the frequent paths are cached by
the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

_VERBS = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
OWN_GROUP = "kubestage.io"
"""Our own end points (batch, flow) are paths, not resources."""
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})


@dataclass(frozen=True, slots=True)
class Route:
    """A request's address. For a path that is no resource, only `verb` (the method in lower case)
    is set."""

    verb: str
    is_resource: bool = False
    group: str = ""
    version: str = ""
    plural: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    rest: str = ""


def route(method: str, path: str) -> Route:
    """`list` and `watch` are told apart by the query: here both are `list`."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) >= 3:
        group, version, parts = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4 and parts[1] != OWN_GROUP:
        group, version, parts = parts[1], parts[2], parts[3:]
    else:
        return Route(method.lower())
    verb = _VERBS.get(method, method.lower())
    if parts[0] == "watch" and len(parts) > 1:
        parts = parts[1:]
        verb = "watch"
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
            parts = parts[2:]
    plural = parts[0]
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 else ""
    rest = "/".join(parts[3:])
    if plural == "namespaces":
        namespace = name
    if not name:
        if verb == "get":
            verb = "list"
        elif verb == "delete":
            verb = "deletecollection"
    return Route(verb, True, group, version, plural, subresource, namespace, name, rest)
