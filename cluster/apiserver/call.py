"""One API request on its way through the verbs, and what a verb gives back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import orjson

from cluster.api import protobuf
from cluster.api.catalogue import Resource
from cluster.api.errors import BadRequest, FieldError, Invalid, UnsupportedMediaType
from cluster.api.meta import Object
from cluster.apiserver.attributes import UserInfo
from cluster.apiserver.routing import Route
from cluster.apiserver.watchcache import Entry
from cluster.httpserver import Request, Response, StreamResponse

_NOTHING = object()
ANONYMOUS = UserInfo("system:anonymous", ("system:unauthenticated",))
JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
YAML_NODES = 1_000_000
"""Nodes of a YAML body with its aliases written out; more is 400."""
_UNKNOWN_FORMAT = (
    "the body of the request was in an unknown format - accepted media types include: "
    "application/json, application/yaml, application/vnd.kubernetes.protobuf"
)


class Call:
    """A routed, authenticated request; the same for a request of its own and for one of a batch.
    `answer` is how much of the object is wanted back: 2 all, 1 its identity, 0 nothing."""

    __slots__ = (
        "_object",
        "_query",
        "accept",
        "answer",
        "body",
        "content_type",
        "method",
        "path",
        "query_string",
        "request",
        "resource",
        "route",
        "served",
        "started",
        "user",
        "user_agent",
        "verb",
        "warnings",
    )

    def __init__(self, method: str, path: str, query_string: str, route: Route) -> None:
        self.method = method
        self.path = path
        self.query_string = query_string
        self.route = route
        self.verb = route.verb
        # Set before any verb runs: what was asked for, and in which form it is stored.
        self.served: Resource = None  # type: ignore[assignment]
        self.resource: Resource = None  # type: ignore[assignment]
        self.user = ANONYMOUS
        self.user_agent = ""
        self.accept = ""
        self.content_type = ""
        self.body = b""
        self.request: Request | None = None
        self.answer = 2
        self.started = 0.0
        self.warnings: list[str] = []
        self._query: Mapping[str, list[str]] | None = None
        self._object: Any = _NOTHING

    @property
    def converts(self) -> bool:
        """Whether the client speaks another version than the store."""
        return self.served is not self.resource

    @property
    def namespace(self) -> str:
        return self.route.namespace if self.resource.namespaced else ""

    @property
    def name(self) -> str:
        return self.route.name

    @property
    def subresource(self) -> str:
        return self.route.subresource

    @property
    def query(self) -> Mapping[str, list[str]]:
        if self._query is None:
            text = self.query_string
            try:
                self._query = parse_qs(text, keep_blank_values=True) if text else {}
            except ValueError as error:
                raise BadRequest(f"invalid query: {error}") from error
        return self._query

    def parameter(self, name: str, default: str = "") -> str:
        if not self.query_string:
            return default
        values = self.query.get(name)
        return values[0] if values else default

    def flag(self, name: str) -> bool | None:
        """A boolean parameter; None if absent. Raises BadRequest."""
        values = self.query.get(name) if self.query_string else None
        if not values:
            return None
        text = values[0]
        # queryparams: an empty value, and anything but false/0, is true.
        return text.lower() not in ("false", "0")

    def number(self, name: str) -> int | None:
        """An integer parameter; None if absent. Raises BadRequest."""
        text = self.parameter(name)
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None

    def preset(self, obj: Any) -> None:
        """The body, already decoded (an item of a batch)."""
        self._object = obj

    def decoded_if_preset(self) -> Any:
        """The body of a batch's item; None for a request of its own."""
        return None if self._object is _NOTHING else self._object

    def decoded(self) -> Any:
        """The body as JSON values. Raises BadRequest, UnsupportedMediaType."""
        if self._object is not _NOTHING:
            return self._object
        return parse(self.body, self.content_type)

    @property
    def dry_run(self) -> bool:
        if "dryRun" not in self.query_string:
            return False
        values = self.query.get("dryRun", [])
        return check_dry_run(values, f"{self.verb.capitalize()}Options")

    @property
    def manager(self) -> str:
        """The field manager: the parameter, else the user agent's first word."""
        given = self.parameter("fieldManager")
        if len(given) > 128:
            raise BadRequest("fieldManager: Too long: may not be more than 128 bytes")
        if given:
            return given
        return (self.user_agent.partition("/")[0] or "unknown")[:128]


def parse(body: bytes, content_type: str) -> Any:
    """A request body as JSON values: JSON or YAML by content type (JSON if none is given)."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("", JSON) or kind.endswith("+json"):
        return parse_json(body)
    if kind == PROTOBUF:
        return protobuf.decode(body)
    if kind in (YAML, "application/x-yaml", "text/yaml", "application/apply-patch+yaml"):
        return parse_yaml(body)
    if kind == protobuf.CONTENT_TYPE:
        return protobuf.decode(body)
    raise UnsupportedMediaType(_UNKNOWN_FORMAT)


def parse_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"unable to decode the body as JSON: {error}") from None


def parse_yaml(body: bytes) -> Any:
    import yaml

    stripped = body.lstrip()
    if stripped[:1] in (b"{", b"["):
        return parse_json(body)
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        value = yaml.load(body, loader)
        _expanded_nodes(value, {})
        # Through JSON, so that dates, tuples and odd keys become what Kubernetes would read.
        return orjson.loads(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise BadRequest(f"error converting YAML to JSON: yaml: {error}") from None


def _expanded_nodes(value: Any, known: dict[int, int]) -> int:
    """How many nodes a YAML document has once its aliases are written out; ValueError if too many
    (a few hundred bytes can name billions) or if it contains itself."""
    if not isinstance(value, dict | list):
        return 1
    key = id(value)
    if key in known:
        if known[key] < 0:
            raise ValueError("the document contains itself")
        return known[key]
    known[key] = -1
    children = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    total = 1 + sum(_expanded_nodes(child, known) for child in children)
    if total > YAML_NODES:
        raise ValueError("document contains excessive aliasing")
    known[key] = total
    return total


def check_dry_run(values: list[str], kind: str) -> bool:
    """dryRun=All or nothing. Raises Invalid."""
    if not values:
        return False
    for value in values:
        if value != "All":
            error = FieldError("FieldValueNotSupported", "dryRun", value, 'supported values: "All"')
            raise Invalid.of("meta.k8s.io", kind, "", [error])
    return True


class Outcome:
    """What a verb gives: an entry of the cache, or an object that is not (or not as such)
    stored."""

    __slots__ = ("entry", "obj", "status")

    def __init__(
        self, status: int = 200, entry: Entry | None = None, obj: Object | None = None
    ) -> None:
        self.status = status
        self.entry = entry
        self.obj = obj

    def object(self) -> Object:
        """The object, decoded; private if it came from an entry."""
        if self.obj is not None:
            return self.obj
        assert self.entry is not None
        return self.entry.decode()

    def encoded(self) -> bytes:
        if self.entry is not None:
            return self.entry.encoded
        return orjson.dumps(self.obj)


Result = Outcome | Response | StreamResponse | None
"""None only for a connection that was taken over (exec, attach, port-forward)."""
