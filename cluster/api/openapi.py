"""OpenAPI documents, version 2 and 3: what `kubectl explain`, client-side apply and server-side
validation ask for.

Plays k8s.io/kube-openapi's builders. The schemas are kubernetes-validate's, turned back into
upstream's shape (no "null" types, no enum of a kind's own name). Paths carry the parameters that
clients look for: kubectl takes a server that does not offer `fieldValidation` on PATCH for one that
cannot validate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from cluster.api.catalogue import Catalogue, Resource
from cluster.api.discovery import subresource_kind
from cluster.api.openapi_paths import Dialect, paths_of
from cluster.api.schema import META, Schemas

_DEFS = "#/$defs/"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_ALWAYS = tuple(
    META + kind for kind in ("APIResourceList", "Status", "DeleteOptions", "WatchEvent", "Patch")
)
_GVK = "x-kubernetes-group-version-kind"
_SECURITY = {
    "BearerToken": {
        "type": "apiKey",
        "description": "Bearer Token authentication",
        "name": "authorization",
        "in": "header",
    }
}

Document = dict[str, Any]


class OpenApi:
    """The documents of a catalogue as encoded bytes, made when first asked for and again when it
    has changed."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._generation = -1
        self._documents: dict[str, tuple[bytes, str]] = {}
        self._index = b""
        self._v2 = b""

    def index(self) -> bytes:
        """GET /openapi/v3: every document with its hash in the URL."""
        self._refresh()
        if not self._index:
            paths = {
                path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self.document(path)[1]}"}
                for path in document_paths(self._catalogue)
            }
            self._index = orjson.dumps({"paths": paths})
        return self._index

    def document(self, path: str) -> tuple[bytes, str]:
        """GET /openapi/v3/PATH, e.g. `apis/apps/v1`: the document and its hash. Raises KeyError."""
        self._refresh()
        found = self._documents.get(path)
        if found is None:
            if path not in document_paths(self._catalogue):
                raise KeyError(path)
            encoded = orjson.dumps(v3_document(self._catalogue, path))
            found = self._documents[path] = (encoded, _hash(encoded))
        return found

    def v2(self) -> bytes:
        """GET /openapi/v2."""
        self._refresh()
        if not self._v2:
            self._v2 = orjson.dumps(v2_document(self._catalogue))
        return self._v2

    def _refresh(self) -> None:
        if self._generation != self._catalogue.generation:
            self._generation = self._catalogue.generation
            self._documents.clear()
            self._index = self._v2 = b""


def _hash(encoded: bytes) -> str:
    return hashlib.sha512(encoded).hexdigest().upper()


def document_paths(catalogue: Catalogue) -> list[str]:
    """The keys of the v3 index: `api/v1`, `apis/apps/v1`, ..."""
    return [
        _document_path(group, version)
        for group in catalogue.groups()
        for version in catalogue.versions(group)
    ]


def v3_document(catalogue: Catalogue, path: str) -> Document:
    """The OpenAPI 3.0 document of one group version."""
    resources = [r for r in catalogue.resources if _document_path(r.group, r.version) == path]
    schemas = catalogue.schemas
    names = _reachable(schemas, _roots(schemas, resources))
    return {
        "openapi": "3.0.0",
        "info": _info(schemas),
        "paths": paths_of(resources, Dialect.V3),
        "components": {
            "schemas": {name: _converted(schemas, name, Dialect.V3) for name in names},
            "securitySchemes": _SECURITY,
        },
    }


def v2_document(catalogue: Catalogue) -> Document:
    """The Swagger 2.0 document of everything."""
    schemas = catalogue.schemas
    names = _reachable(schemas, _roots(schemas, catalogue.resources))
    return {
        "swagger": "2.0",
        "info": _info(schemas),
        "paths": paths_of(catalogue.resources, Dialect.V2),
        "definitions": {name: _converted(schemas, name, Dialect.V2) for name in names},
        "securityDefinitions": _SECURITY,
        "security": [{"BearerToken": []}],
    }


def _info(schemas: Schemas) -> Document:
    return {"title": "Kubernetes", "version": f"v{schemas.version}.0"}


def _document_path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _roots(schemas: Schemas, resources: Iterable[Resource]) -> set[str]:
    names = set(_ALWAYS)
    for resource in resources:
        names.add(resource.schema_name)
        names.add(list_schema_name(resource))
        for subresource in resource.subresources:
            group, version, kind = subresource_kind(resource, subresource)
            found = schemas.name_of(group, version, kind)
            if found:
                names.add(found)
    return {name for name in names if name in schemas.definitions}


def list_schema_name(resource: Resource) -> str:
    return resource.schema_name.rpartition(".")[0] + "." + resource.list_kind


def _reachable(schemas: Schemas, roots: set[str]) -> list[str]:
    """The roots and all they refer to, by name."""
    seen = set(roots)
    waiting = list(roots)
    while waiting:
        for name in _references(schemas.definitions[waiting.pop()]):
            if name not in seen and name in schemas.definitions:
                seen.add(name)
                waiting.append(name)
    return sorted(seen)


def _references(schema: Mapping[str, Any]) -> Iterable[str]:
    ref = schema.get("$ref")
    if ref:
        yield ref[len(_DEFS) :]
    for child in (schema.get("properties") or {}).values():
        yield from _references(child)
    for key in ("items", "additionalProperties"):
        child = schema.get(key)
        if isinstance(child, dict):
            yield from _references(child)


def _converted(schemas: Schemas, name: str, dialect: Dialect) -> Document:
    schema = schemas.definitions[name]
    special = _special(name, schema, dialect)
    return special if special is not None else _convert(schema, dialect, own=True)


def _special(name: str, schema: Mapping[str, Any], dialect: Dialect) -> Document | None:
    """Types that read themselves: upstream publishes them by hand."""
    if name not in (_QUANTITY, _INT_OR_STRING):
        return None
    described = {"description": schema["description"]} if "description" in schema else {}
    if name == _QUANTITY:
        if dialect is Dialect.V2:
            return {**described, "type": "string"}
        return {**described, "oneOf": [{"type": "string"}, {"type": "number"}]}
    if dialect is Dialect.V2:
        return {**described, "format": "int-or-string", "type": "string"}
    return {
        **described,
        "format": "int-or-string",
        "oneOf": [{"type": "integer"}, {"type": "string"}],
    }


def _convert(schema: Mapping[str, Any], dialect: Dialect, *, own: bool = False) -> Document:
    """One schema in upstream's shape. `own`: it is a definition, whose apiVersion and kind carry no
    enum."""
    out: Document = {}
    for key, value in schema.items():
        match key:
            case "$ref":
                _refer(out, dialect.reference + value[len(_DEFS) :], schema, dialect)
            case "type":
                out["type"] = _upstream_type(value)
            case "properties":
                out[key] = {
                    name: _property(name, child, dialect, own=own and _GVK in schema)
                    for name, child in value.items()
                }
            case "items" | "additionalProperties":
                out[key] = _convert(value, dialect) if isinstance(value, dict) else value
            case _:
                out[key] = value
    return out


def _property(name: str, schema: Mapping[str, Any], dialect: Dialect, *, own: bool) -> Document:
    if own and name in ("apiVersion", "kind"):
        schema = {key: value for key, value in schema.items() if key != "enum"}
    return _convert(schema, dialect)


def _refer(out: Document, target: str, schema: Mapping[str, Any], dialect: Dialect) -> None:
    if dialect is Dialect.V3 and len(schema) > 1:
        out["allOf"] = [{"$ref": target}]
    else:
        out["$ref"] = target


def _upstream_type(kind: Any) -> Any:
    if not isinstance(kind, list):
        return kind
    real = [each for each in kind if each != "null"]
    return real[0] if len(real) == 1 else real
