"""Discovery, OpenAPI, version and the other documents that describe the server itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from cluster.api import discovery
from cluster.api.errors import NotAcceptable
from cluster.api.meta import Object
from cluster.api.openapi import OpenApi
from cluster.apiserver.negotiation import GZIP_BYTES, form_of, not_found_page, to_yaml
from cluster.httpserver import Request, Response

if TYPE_CHECKING:
    from cluster.apiserver.backend import Backend

_NO_CACHE = {"Cache-Control": "no-cache, private"}


class Documents:
    """Encoded documents by path and form, made again when the catalogue changes."""

    def __init__(self, backend: Backend, server_address: Callable[[], str]) -> None:
        self._backend = backend
        self._address = server_address
        self._generation = -1
        self._open_api = OpenApi(backend.catalogue)
        self._made: dict[tuple[str, str], Response] = {}

    def answer(self, request: Request, path: str) -> Response:
        """A document, or the 404 page. Raises NotAcceptable."""
        generation = self._backend.catalogue.generation
        if generation != self._generation:
            self._made.clear()
            self._generation = generation
        accept = request.headers.get("accept", "")
        path = path.rstrip("/") or "/"
        key = (path, _discovery_version(accept) if path in ("/api", "/apis") else _kind(accept))
        response = self._made.get(key)
        if response is None:
            response = self._make(path, accept, key[1])
            if response.status == 200:
                self._made[key] = response
        return _conditional(request, response)

    def _make(self, path: str, accept: str, kind: str) -> Response:
        catalogue = self._backend.catalogue
        parts = path.strip("/").split("/")
        if path in ("/api", "/apis") and kind.startswith("v2"):
            document = discovery.aggregated(catalogue, core=path == "/api", version=kind)
            content_type = (
                f"application/json;g=apidiscovery.k8s.io;v={kind};as=APIGroupDiscoveryList"
            )
            return _with_etag(orjson.dumps(document), content_type)
        if parts[0] == "openapi":
            return self._openapi(path)
        document_or_none = self._plain(path, parts)
        if document_or_none is None:
            return not_found_page()
        if kind == "yaml":
            return Response(200, to_yaml(document_or_none), "application/yaml", _NO_CACHE)
        return Response(200, orjson.dumps(document_or_none), "application/json", _NO_CACHE)

    def _plain(self, path: str, parts: list[str]) -> Object | None:
        catalogue = self._backend.catalogue
        if path == "/":
            return {"paths": self._paths()}
        if path == "/version":
            return self._version()
        if path == "/api":
            return discovery.api_versions(self._address())
        if path == "/apis":
            return discovery.group_list(catalogue)
        if parts[0] == "api" and len(parts) == 2:
            return _found(
                lambda: discovery.resource_list(catalogue, "", parts[1]), parts[1] == "v1"
            )
        if parts[0] == "apis" and len(parts) == 2:
            known = parts[1] in catalogue.groups() and parts[1] != ""
            return _found(lambda: discovery.group(catalogue, parts[1]), known)
        if parts[0] == "apis" and len(parts) == 3:
            known = parts[1] != "" and parts[2] in catalogue.versions(parts[1])
            return _found(lambda: discovery.resource_list(catalogue, parts[1], parts[2]), known)
        if path == "/.well-known/openid-configuration" and self._backend.tokens is not None:
            configuration: Object = self._backend.tokens.openid_configuration()
            return configuration
        return None

    def _openapi(self, path: str) -> Response:
        """The schemas; their entity tags let clients keep them."""
        if path == "/openapi/v2":
            return _with_etag(self._open_api.v2(), "application/json")
        if path == "/openapi/v3":
            return _with_etag(self._open_api.index(), "application/json")
        try:
            body, _ = self._open_api.document(path.removeprefix("/openapi/v3/"))
        except KeyError:
            return not_found_page()
        return _with_etag(body, "application/json")

    def jwks(self) -> Response:
        tokens = self._backend.tokens
        if tokens is None:
            return not_found_page()
        return Response(200, orjson.dumps(tokens.jwks()), "application/jwk-set+json", _NO_CACHE)

    def _version(self) -> Object:
        version = self._backend.schemas.version
        major, minor = version.split(".")
        return {
            "major": major,
            "minor": minor,
            "emulationMajor": major,
            "emulationMinor": minor,
            "minCompatibilityMajor": major,
            "minCompatibilityMinor": str(int(minor) - 1),
            "gitVersion": f"v{version}.0+kubestage",
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "go1.24.0",
            "compiler": "gc",
            "platform": "linux/amd64",
        }

    def _paths(self) -> list[str]:
        catalogue = self._backend.catalogue
        paths = ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis", "/apis/"]
        for group in catalogue.groups():
            if group:
                paths.append(f"/apis/{group}")
                paths.extend(f"/apis/{group}/{v}" for v in catalogue.versions(group))
        paths += ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3"]
        return [*paths, "/openid/v1/jwks", "/readyz", "/version"]


def _found(make: Callable[[], Object], known: bool) -> Object | None:
    return make() if known else None


def _discovery_version(accept: str) -> str:
    """Which aggregated discovery the client prefers; '' for the legacy documents."""
    if "APIGroupDiscoveryList" not in accept:
        return _kind(accept)
    for clause in accept.split(","):
        if "as=APIGroupDiscoveryList" in clause and clause.strip().startswith("application/json"):
            for version in ("v2beta1", "v2"):
                if f"v={version}" in clause:
                    return version
        elif clause.strip().startswith("application/json"):
            break
    return _kind(accept)


def _kind(accept: str) -> str:
    if not accept:
        return "json"
    if "application/com.github.proto-openapi" in accept and "json" not in accept:
        raise NotAcceptable("only the following media types are accepted: application/json")
    try:
        return "yaml" if form_of(accept).yaml else "json"
    except NotAcceptable:
        if "*/*" in accept or "application/json" in accept:
            return "json"
        raise


def _with_etag(body: bytes, content_type: str) -> Response:
    import hashlib

    etag = f'"{hashlib.sha512(body).hexdigest().upper()}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache, private", "Vary": "Accept"}
    return Response(200, body, content_type, headers)


def _conditional(request: Request, response: Response) -> Response:
    """304 for what the client has; compressed for a client that takes it."""
    headers = response.headers or {}
    etag = headers.get("ETag")
    if etag and request.headers.get("if-none-match") == etag:
        return Response(304, b"", response.content_type, headers)
    body: Any = response.body
    if len(body) >= GZIP_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        import gzip

        packed = _PACKED.get(id(body))
        if packed is None or packed[0] is not body:
            if len(_PACKED) > 64:
                _PACKED.clear()
            packed = _PACKED[id(body)] = (body, gzip.compress(body, 6, mtime=0))
        extra = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        return Response(response.status, packed[1], response.content_type, {**headers, **extra})
    return response


_PACKED: dict[int, tuple[bytes, bytes]] = {}
