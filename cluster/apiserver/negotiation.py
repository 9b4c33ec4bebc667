"""Which form the client wants: JSON or YAML, the object itself, a Table, or only its metadata.

Plays k8s.io/apiserver/pkg/endpoints/handlers/negotiation and .../response.go. Protobuf is passed
over: clients that prefer it name JSON next.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from cluster.api.convert import to_version
from cluster.api.errors import NotAcceptable, StatusError, TooManyRequests, Unauthorized
from cluster.api.meta import Object
from cluster.api.table import to_table
from cluster.apiserver.call import Call, Outcome
from cluster.apiserver.watchcache import Entry
from cluster.httpserver import Response

GZIP_BYTES = 128 * 1024
"""Answers from this size on are compressed for clients that accept it (upstream's threshold)."""
_GZIP_LEVEL = 1
_CACHE_LIMIT = 1_000
_NO_CACHE = {"Cache-Control": "no-cache, private"}


@dataclass(frozen=True, slots=True)
class Form:
    """One acceptable form. `as_kind` is '', Table, PartialObjectMetadata or
    PartialObjectMetadataList."""

    as_kind: str = ""
    as_version: str = "v1"
    yaml: bool = False

    @property
    def plain(self) -> bool:
        return not self.as_kind and not self.yaml


PLAIN = Form()
_TRANSFORMS = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
_forms: dict[str, Form | None] = {"": PLAIN, "*/*": PLAIN, "application/json": PLAIN}


def form_of(accept: str) -> Form:
    """The first form of an Accept header that can be served. Raises NotAcceptable."""
    try:
        form = _forms[accept]
    except KeyError:
        form = _negotiate(accept)
        if len(_forms) < _CACHE_LIMIT:
            _forms[accept] = form
    if form is None:
        raise NotAcceptable(
            "only the following media types are accepted: application/json, application/yaml"
        )
    return form


def _negotiate(accept: str) -> Form | None:
    clauses: list[tuple[float, int, str, dict[str, str]]] = []
    for position, clause in enumerate(accept.split(",")):
        media, *raw = (part.strip() for part in clause.split(";"))
        params = dict(p.split("=", 1) for p in raw if "=" in p)
        try:
            quality = float(params.get("q", "1"))
        except ValueError:
            quality = 1.0
        clauses.append((-quality, position, media.lower(), params))
    for _, _, media, params in sorted(clauses, key=lambda c: (c[0], c[1])):
        if media in ("application/json", "*/*", "application/*"):
            yaml = False
        elif media == "application/yaml":
            yaml = True
        else:
            continue
        as_kind = params.get("as", "")
        if not as_kind:
            return Form(yaml=yaml)
        version = params.get("v", "v1")
        group = params.get("g", "meta.k8s.io")
        if as_kind in _TRANSFORMS and version in ("v1", "v1beta1") and group == "meta.k8s.io":
            return Form(as_kind, version, yaml)
    return None


# -- one object ----------


def respond(call: Call, outcome: Outcome, now: float) -> Response:
    """The answer to a verb on one object."""
    form = form_of(call.accept) if call.accept else PLAIN
    headers = _NO_CACHE if not call.warnings else {**_NO_CACHE, "Warning": warning(call.warnings)}
    if form.plain:
        return Response(outcome.status, encoded(call, outcome), "application/json", headers)
    obj = outcome.object()
    if call.converts and obj.get("kind") == call.resource.kind:
        obj = to_version(obj, call.served.api_version)
    if form.as_kind and obj.get("kind") == call.resource.kind:
        obj = transform_one(call, form, obj, now)
    return encode(outcome.status, obj, form, headers)


def encoded(call: Call, outcome: Outcome) -> bytes:
    """The object's JSON in the version that was asked for."""
    if call.converts:
        obj = outcome.object()
        if obj.get("kind") == call.resource.kind:
            return orjson.dumps(to_version(obj, call.served.api_version))
    return outcome.encoded()


def transform_one(call: Call, form: Form, obj: Object, now: float) -> Object:
    if form.as_kind == "Table":
        table = to_table(
            call.served,
            [obj],
            include_object=include_object(call),
            now=now,
            list_meta={"resourceVersion": obj["metadata"].get("resourceVersion", "")},
        )
        table["apiVersion"] = f"meta.k8s.io/{form.as_version}"
        return table
    if form.as_kind == "PartialObjectMetadataList":
        raise NotAcceptable(
            f"you requested PartialObjectMetadataList, but the requested object is not a list "
            f"({obj.get('kind')})"
        )
    return partial(obj, form.as_version)


def partial(obj: Object, version: str = "v1") -> Object:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": obj["metadata"],
    }


def include_object(call: Call) -> Any:
    value = call.parameter("includeObject") or "Metadata"
    if value not in ("None", "Metadata", "Object"):
        from cluster.api.errors import BadRequest

        raise BadRequest(f'unrecognized value: "{value}"')
    return value


def encode(status: int, obj: Object, form: Form, headers: dict[str, str]) -> Response:
    if form.yaml:
        return Response(status, to_yaml(obj), "application/yaml", headers)
    return Response(status, orjson.dumps(obj), "application/json", headers)


def to_yaml(obj: Any) -> bytes:
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(obj, Dumper=dumper, default_flow_style=False, sort_keys=True)
    return text.encode()


def warning(texts: Iterable[str]) -> str:
    """The Warning header's value: RFC 7234, code 299, as many as there are."""
    shown = []
    for text in dict.fromkeys(texts):
        clean = "".join(c if c.isprintable() else " " for c in text)
        quoted = clean.replace("\\", "\\\\").replace('"', '\\"')
        shown.append(f'299 - "{quoted}"')
    return ", ".join(shown)


# -- lists ----------


def respond_list(call: Call, entries: Sequence[Entry], metadata: Object, now: float) -> Response:
    """The answer to a list: joined from encoded bytes, nothing is decoded unless another form is
    wanted."""
    form = form_of(call.accept) if call.accept else PLAIN
    resource = call.served
    if form.plain and not call.converts:
        head = orjson.dumps(
            {
                "kind": resource.list_kind,
                "apiVersion": resource.gvr.api_version,
                "metadata": metadata,
            }
        )
        body = b"".join((head[:-1], b',"items":[', b",".join([e.encoded for e in entries]), b"]}"))
        return compressed(call, body, "application/json")
    objects = [e.decode() for e in entries]
    if call.converts:
        objects = [to_version(o, call.served.api_version) for o in objects]
    listed: Object
    if form.as_kind == "Table":
        listed = to_table(
            resource, objects, include_object=include_object(call), now=now, list_meta=metadata
        )
        listed["apiVersion"] = f"meta.k8s.io/{form.as_version}"
    elif form.as_kind:
        listed = {
            "kind": "PartialObjectMetadataList",
            "apiVersion": f"meta.k8s.io/{form.as_version}",
            "metadata": metadata,
            "items": [partial(o, form.as_version) for o in objects],
        }
    else:
        listed = {
            "kind": resource.list_kind,
            "apiVersion": resource.gvr.api_version,
            "metadata": metadata,
            "items": objects,
        }
    if form.yaml:
        return compressed(call, to_yaml(listed), "application/yaml")
    return compressed(call, orjson.dumps(listed), "application/json")


def compressed(call: Call, body: bytes, content_type: str, status: int = 200) -> Response:
    headers = _NO_CACHE
    accepted = call.request.headers.get("accept-encoding", "") if call.request is not None else ""
    if len(body) >= GZIP_BYTES and "gzip" in accepted:
        body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        headers = {**_NO_CACHE, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    if call.warnings:
        headers = {**headers, "Warning": warning(call.warnings)}
    return Response(status, body, content_type, headers)


# -- errors ----------


def respond_error(error: StatusError, accept: str = "") -> Response:
    """metav1.Status as the answer; a client that takes only YAML gets YAML."""
    headers = dict(_NO_CACHE)
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    status = error.to_status()
    if accept:
        try:
            if form_of(accept).yaml:
                return Response(error.code, to_yaml(status), "application/yaml", headers)
        except NotAcceptable:
            pass
    return Response(error.code, orjson.dumps(status), "application/json", headers)


def not_found_page() -> Response:
    return Response(404, b"404 page not found\n", "text/plain; charset=utf-8")


def not_allowed() -> Response:
    return Response(405, b"405: Method Not Allowed", "text/plain; charset=utf-8")
