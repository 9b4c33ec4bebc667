"""The paths of the OpenAPI documents: operations of every resource and subresource, with their
parameters.

Plays k8s.io/apiserver/pkg/endpoints/installer. Responses name their schema only; that is all
clients read.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

from cluster.api.catalogue import SUBRESOURCE_VERBS, Resource
from cluster.api.discovery import subresource_kind
from cluster.api.schema import META

Json = dict[str, Any]

_PATCH_TYPES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
_MEDIA_TYPES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")

_DESCRIPTIONS = {
    "allowWatchBookmarks": 'allowWatchBookmarks requests watch events with type "BOOKMARK".',
    "continue": "The continue option should be set when retrieving more results from the server.",
    "dryRun": "When present, indicates that modifications should not be persisted.",
    "fieldManager": "fieldManager is a name associated with the actor or entity that is making "
    "these changes.",
    "fieldSelector": "A selector to restrict the list of returned objects by their fields. "
    "Defaults to everything.",
    "fieldValidation": "fieldValidation instructs the server on how to handle objects in the "
    "request (POST/PUT/PATCH) "
    "containing unknown or duplicate fields.",
    "force": 'Force is going to "force" Apply requests.',
    "gracePeriodSeconds": "The duration in seconds before the object should be deleted.",
    "labelSelector": "A selector to restrict the list of returned objects by their labels. "
    "Defaults to everything.",
    "limit": "limit is a maximum number of responses to return for a list call.",
    "orphanDependents": "Deprecated: please use the PropagationPolicy, this field will be "
    "deprecated in 1.7.",
    "pretty": "If 'true', then the output is pretty printed.",
    "propagationPolicy": "Whether and how garbage collection will be performed.",
    "resourceVersion": "resourceVersion sets a constraint on what resource versions a request may "
    "be served from.",
    "resourceVersionMatch": "resourceVersionMatch determines how resourceVersion is applied to "
    "list calls.",
    "sendInitialEvents": "`sendInitialEvents=true` may be set together with `watch=true`.",
    "timeoutSeconds": "Timeout for the list/watch call.",
    "watch": "Watch for changes to the described resources and return them as a stream.",
}
_TYPES = {
    "allowWatchBookmarks": "boolean", "force": "boolean", "orphanDependents": "boolean",
    "sendInitialEvents": "boolean", "watch": "boolean", "limit": "integer",
    "gracePeriodSeconds": "integer", "timeoutSeconds": "integer",
}  # fmt: skip

_LIST = (
    "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion",
    "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch",
)  # fmt: skip
_WRITE = ("dryRun", "fieldManager", "fieldValidation")
_DELETE = ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy")

_ACTIONS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "get": ("get", "read", ()),
    "list": ("get", "list", _LIST),
    "create": ("post", "create", _WRITE),
    "update": ("put", "replace", _WRITE),
    "patch": ("patch", "patch", (*_WRITE, "force")),
    "delete": ("delete", "delete", _DELETE),
    "deletecollection": ("delete", "deleteCollection", (*_LIST[:-1], *_DELETE)),
}
"""Verb: HTTP method, word in the operationId, query parameters."""

_KUBERNETES_ACTION = {"create": "post", "update": "put"}


class Dialect(Enum):
    """Which OpenAPI version is written; the value is where schemas live."""

    V2 = "#/definitions/"
    V3 = "#/components/schemas/"

    @property
    def reference(self) -> str:
        return str(self.value)


def paths_of(resources: Iterable[Resource], dialect: Dialect) -> Json:
    """Every path of the resources."""
    paths: Json = {}
    for resource in resources:
        collection, item = _urls(resource)
        verbs = set(resource.verbs)
        writer = _Writer(resource, dialect)
        paths[collection] = writer.path(verbs & {"list", "create", "deletecollection"}, collection)
        if verbs & {"get", "update", "patch", "delete"}:
            paths[item] = writer.path(verbs & {"get", "update", "patch", "delete"}, item)
        if resource.namespaced and "list" in verbs:
            everywhere = f"{resource.gvr.prefix}/{resource.plural}"
            paths[everywhere] = writer.path({"list"}, everywhere, "ForAllNamespaces")
        for name in sorted(resource.subresources):
            paths[f"{item}/{name}"] = writer.subresource(name, f"{item}/{name}")
    return paths


def _urls(resource: Resource) -> tuple[str, str]:
    scope = "/namespaces/{namespace}" if resource.namespaced else ""
    collection = f"{resource.gvr.prefix}{scope}/{resource.plural}"
    return collection, collection + "/{name}"


class _Writer:
    """Writes the operations of one resource."""

    def __init__(self, resource: Resource, dialect: Dialect) -> None:
        self._resource = resource
        self._dialect = dialect
        group = resource.group.partition(".")[0] or "core"
        self._tag = f"{group}_{resource.version}"
        self._id = group.capitalize() + resource.version.capitalize()

    def path(self, verbs: set[str], url: str, suffix: str = "") -> Json:
        resource = self._resource
        kind = (resource.group, resource.version, resource.kind)
        return self._path(verbs, url, kind, resource.schema_name, suffix)

    def subresource(self, name: str, url: str) -> Json:
        resource = self._resource
        kind = subresource_kind(resource, name)
        own = kind == (resource.group, resource.version, resource.kind)
        schema = resource.schema_name if own else _subresource_schema(resource, kind)
        return self._path(set(SUBRESOURCE_VERBS[name]), url, kind, schema, name.capitalize())

    def _path(
        self, verbs: set[str], url: str, kind: tuple[str, str, str], schema: str, suffix: str
    ) -> Json:
        path: Json = {}
        for verb in sorted(verbs):
            method = _ACTIONS[verb][0]
            path[method] = self._operation(verb, kind, schema, suffix)
        path["parameters"] = self._path_parameters(url)
        return path

    def _path_parameters(self, url: str) -> list[Json]:
        resource = self._resource
        found = []
        if "{name}" in url:
            found.append(self._parameter("name", "path", f"name of the {resource.kind}"))
        if "{namespace}" in url:
            text = "object name and auth scope, such as for teams and projects"
            found.append(self._parameter("namespace", "path", text))
        found.append(self._parameter("pretty", "query"))
        return found

    def _parameter(self, name: str, where: str, description: str = "") -> Json:
        parameter: Json = {
            "name": name,
            "in": where,
            "description": description or _DESCRIPTIONS[name],
        }
        if where == "path":
            parameter["required"] = True
        kind = {"type": _TYPES.get(name, "string"), "uniqueItems": True}
        return {**parameter, **({"schema": kind} if self._dialect is Dialect.V3 else kind)}

    def _operation(self, verb: str, kind: tuple[str, str, str], schema: str, suffix: str) -> Json:
        _, word, query = _ACTIONS[verb]
        scope = "Namespaced" if self._resource.namespaced and suffix != "ForAllNamespaces" else ""
        name = f"{word}{self._id}"
        if verb == "deletecollection":
            name = f"delete{self._id}Collection"
        operation: Json = {
            "description": f"{word} {kind[2]}",
            "operationId": f"{name}{scope}{self._resource.kind}{suffix}",
            "tags": [self._tag],
            "x-kubernetes-action": _KUBERNETES_ACTION.get(verb, verb),
            "x-kubernetes-group-version-kind": {
                "group": kind[0], "version": kind[1], "kind": kind[2],
            },
        }  # fmt: skip
        operation["parameters"] = [self._parameter(name, "query") for name in query]
        self._add_body(operation, verb, schema)
        self._add_responses(operation, verb, schema)
        return operation

    def _add_body(self, operation: Json, verb: str, schema: str) -> None:
        body = {
            "create": schema, "update": schema, "patch": META + "Patch",
            "delete": META + "DeleteOptions", "deletecollection": META + "DeleteOptions",
        }.get(verb)  # fmt: skip
        if body is None:
            return
        types = _PATCH_TYPES if verb == "patch" else ("*/*",)
        required = verb in ("create", "update", "patch")
        reference = {"$ref": self._dialect.reference + body}
        if self._dialect is Dialect.V2:
            operation["consumes"] = list(types)
            entry: Json = {"name": "body", "in": "body", "schema": reference}
            if required:
                entry["required"] = True
            operation["parameters"].append(entry)
        else:
            operation["requestBody"] = {"content": {each: {"schema": reference} for each in types}}
            if required:
                operation["requestBody"]["required"] = True

    def _add_responses(self, operation: Json, verb: str, schema: str) -> None:
        answer = schema
        if verb == "list":
            answer = schema.rpartition(".")[0] + "." + self._resource.list_kind
        elif verb in ("delete", "deletecollection"):
            answer = META + "Status"
        reference = {"$ref": self._dialect.reference + answer}
        ok: Json = {"description": "OK"}
        if self._dialect is Dialect.V2:
            operation["produces"] = list(_MEDIA_TYPES)
            operation["schemes"] = ["https"]
            ok["schema"] = reference
        else:
            ok["content"] = {each: {"schema": reference} for each in _MEDIA_TYPES}
        operation["responses"] = {"200": ok, "401": {"description": "Unauthorized"}}


def _subresource_schema(resource: Resource, kind: tuple[str, str, str]) -> str:
    group, version, name = kind
    folders = {
        "autoscaling": "autoscaling", "policy": "policy", "authentication.k8s.io": "authentication",
        "": "core",
    }  # fmt: skip
    if name.endswith("Options"):
        return META + "Status"
    return f"io.k8s.api.{folders.get(group, group)}.{version}.{name}"
