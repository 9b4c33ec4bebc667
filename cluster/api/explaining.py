"""The words for what does not decode, as Go's JSON decoder says them.

Plays the errors of sigs.k8s.io/json: `cannot unmarshal string into Go struct field
DeploymentSpec.spec.replicas of type int32`, `unknown field "spec.foo"`. Slow on purpose: runs only
when the compiled decoder found something.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cluster.api.quantity import canonical

_PREFIX = "#/$defs/"
_GO_PACKAGE = re.compile(r"([^.]+)\.([^.]+)$")
_BASE64_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")

_NAMED_STRINGS = {
    "Container.imagePullPolicy": "v1.PullPolicy",
    "ContainerPort.protocol": "v1.Protocol",
    "PodSpec.restartPolicy": "v1.RestartPolicy",
    "PodSpec.dnsPolicy": "v1.DNSPolicy",
    "PodStatus.phase": "v1.PodPhase",
    "ServicePort.protocol": "v1.Protocol",
    "ServiceSpec.type": "v1.ServiceType",
    "ServiceSpec.sessionAffinity": "v1.ServiceAffinity",
    "Secret.type": "v1.SecretType",
    "DeploymentStrategy.type": "v1.DeploymentStrategyType",
    "Toleration.effect": "v1.TaintEffect",
    "Toleration.operator": "v1.TolerationOperator",
    "Taint.effect": "v1.TaintEffect",
    "ObjectMeta.uid": "types.UID",
}
"""String fields whose Go type has a name of its own, where a client is likely to send something
else."""


class Explainer:
    """Walks a value beside its schema; collects the first type error and all unknown fields."""

    def __init__(self, definitions: Mapping[str, Mapping[str, Any]]) -> None:
        self._definitions = definitions
        self.problem: str | None = None
        self.unknown: list[str] = []

    def visit_definition(self, name: str, value: Any) -> None:
        schema = {"$ref": _PREFIX + name}
        if not isinstance(value, dict):
            go_type = self._go_type(schema)
            self.problem = (
                f"json: cannot unmarshal {_json_name(value)} into Go value of type {go_type}"
            )
            return
        self._visit(schema, value, _Place("", (), ""))

    def _visit(self, schema: Mapping[str, Any], value: Any, place: _Place) -> None:
        name, resolved = self._resolve(schema)
        if value is None or self.problem:
            return
        if name.endswith(_TEXTUAL):
            self._visit_textual(name, value, place)
        elif "properties" in resolved:
            self._visit_struct(name, resolved, value, place)
        elif "items" in resolved:
            self._visit_list(resolved, value, place, schema)
        elif isinstance(resolved.get("additionalProperties"), dict):
            self._visit_map(resolved["additionalProperties"], value, place, schema)
        else:
            self._visit_scalar(resolved, value, place)

    def _visit_struct(
        self, name: str, schema: Mapping[str, Any], value: Any, place: _Place
    ) -> None:
        if not isinstance(value, dict):
            self._mismatch(value, place, self._go_type({"$ref": _PREFIX + name}))
            return
        short = name.rpartition(".")[2]
        for key in list(value):
            child = schema["properties"].get(key)
            if child is None:
                self.unknown.append(f'unknown field "{place.strict_child(key)}"')
                del value[key]
            else:
                self._visit(child, value[key], place.field(short, key))

    def _visit_list(
        self, resolved: Mapping[str, Any], value: Any, place: _Place, schema: Mapping[str, Any]
    ) -> None:
        if not isinstance(value, list):
            self._mismatch(value, place, self._go_type(schema))
            return
        for i, child in enumerate(value):
            self._visit(resolved["items"], child, place.index(i))

    def _visit_map(
        self, child_schema: Mapping[str, Any], value: Any, place: _Place, schema: Mapping[str, Any]
    ) -> None:
        if not isinstance(value, dict):
            self._mismatch(value, place, self._go_type(schema))
            return
        for key, child in value.items():
            self._visit(child_schema, child, place.entry(key))

    def _visit_scalar(self, schema: Mapping[str, Any], value: Any, place: _Place) -> None:
        kind = _type_of(schema)
        go_type = self._go_type(schema)
        if kind == "string" and schema.get("format") == "byte":
            at = _base64_error(value) if isinstance(value, str) else None
            if at is not None:
                self.problem = f"illegal base64 data at input byte {at}"
                return
        if kind == "integer" and type(value) in (int, float):
            bits = 31 if go_type == "int32" else 63
            if type(value) is not int or not -(2**bits) <= value < 2**bits:
                self._mismatch(value, place, go_type, f"number {_number_text(value)}")
            return
        wanted = {"string": str, "boolean": bool, "integer": int, "number": float}.get(kind)
        if wanted is None or type(value) is wanted or (kind == "number" and type(value) is int):
            return
        if kind == "string":
            go_type = _NAMED_STRINGS.get(f"{place.struct}.{place.last}", go_type)
        self._mismatch(value, place, go_type)

    def _visit_textual(self, name: str, value: Any, place: _Place) -> None:
        """Quantity, Time, IntOrString: types that read themselves, whose errors name no field."""
        if name.endswith(".Quantity"):
            try:
                if isinstance(value, bool | list | dict):
                    raise ValueError(_QUANTITY_WRONG)
                canonical(value)
            except ValueError as error:
                self.problem = str(error)
        elif name.endswith(".IntOrString"):
            if isinstance(value, str):
                return
            if type(value) is not int:
                shown = f"number {value}" if isinstance(value, float) else _json_name(value)
                self.problem = f"json: cannot unmarshal {shown} into Go value of type int32"
            elif not -(2**31) <= value < 2**31:
                self.problem = f"json: cannot unmarshal number {value} into Go value of type int32"
        else:
            self._visit_time(name, value)

    def _visit_time(self, name: str, value: Any) -> None:
        if not isinstance(value, str):
            self.problem = (
                f"json: cannot unmarshal {_json_name(value)} into Go value of type string"
            )
            return
        from datetime import datetime

        layout = "2006-01-02T15:04:05Z07:00"
        if name.endswith("MicroTime"):
            layout = "2006-01-02T15:04:05.000000Z07:00"
        try:
            when = datetime.fromisoformat(value)
            if when.tzinfo is not None and len(value) >= 20 and value[10] == "T":
                return
        except ValueError:
            pass
        rest, element = _time_rest(value)
        self.problem = f'parsing time "{value}" as "{layout}": cannot parse "{rest}" as "{element}"'

    def _mismatch(self, value: Any, place: _Place, go_type: str, shown: str = "") -> None:
        shown = shown or _json_name(value)
        where = f"Go struct field {place.struct}.{'.'.join(place.fields)} of type {go_type}"
        self.problem = f"json: cannot unmarshal {shown} into {where}"

    def _resolve(self, schema: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        ref = schema.get("$ref", "")
        if not ref:
            return "", schema
        name = ref[len(_PREFIX) :]
        return name, self._definitions[name]

    def _go_type(self, schema: Mapping[str, Any]) -> str:
        """The Go type that upstream would name for this schema."""
        ref = schema.get("$ref")
        if ref:
            matched = _GO_PACKAGE.search(ref)
            assert matched is not None
            return f"{matched[1]}.{matched[2]}"
        kind = _type_of(schema)
        if kind == "array":
            return "[]" + self._go_type(schema["items"])
        if kind == "object":
            values = schema.get("additionalProperties")
            if not isinstance(values, dict):
                return "map[string]interface {}"
            of = self._go_type(values)
            return "v1.ResourceList" if of == "resource.Quantity" else f"map[string]{of}"
        if kind == "string":
            return "[]uint8" if schema.get("format") == "byte" else "string"
        if kind == "integer":
            return str(schema.get("format", "int64"))
        return {"boolean": "bool", "number": "float64"}.get(kind, "interface {}")


class _Place:
    """Where the walk is: the innermost Go struct, the stack of field names, the path that strict
    errors show."""

    __slots__ = ("fields", "path", "struct")

    def __init__(self, struct: str, fields: tuple[str, ...], path: str) -> None:
        self.struct, self.fields, self.path = struct, fields, path

    @property
    def last(self) -> str:
        return self.fields[-1] if self.fields else ""

    def strict_child(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def field(self, struct: str, key: str) -> _Place:
        return _Place(struct, (*self.fields, key), self.strict_child(key))

    def index(self, i: int) -> _Place:
        return _Place(self.struct, self.fields, f"{self.path}[{i}]")

    def entry(self, key: str) -> _Place:
        return _Place(self.struct, self.fields, self.strict_child(key))


_TEXTUAL = (".Quantity", ".IntOrString", "meta.v1.Time", "meta.v1.MicroTime")
_QUANTITY_WRONG = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)


def _type_of(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "")
    return next((k for k in kind if k != "null"), "") if isinstance(kind, list) else str(kind)


def _json_name(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _number_text(value: float) -> str:
    return str(value)


def _base64_error(text: str) -> int | None:
    """Index of the first byte that base64.StdEncoding refuses, None if it refuses none."""
    body = text.rstrip("=")
    for i, char in enumerate(body):
        if char not in _BASE64_CHARS:
            return i
    if len(text) % 4 == 0 and len(text) - len(body) <= 2:
        return None
    if len(body) == len(text):
        return len(text) - len(text) % 4
    return len(body) if len(text) - len(body) > 2 else len(text)


def _time_rest(value: str) -> tuple[str, str]:
    """What Go's time.Parse could not read, and the layout element it wanted there."""
    at = 0
    for element, pattern in (
        ("2006", r"\d{4}"), ("-", "-"), ("01", r"\d\d"), ("-", "-"), ("02", r"\d\d"), ("T", "T"),
        ("15", r"\d\d"), (":", ":"), ("04", r"\d\d"), (":", ":"), ("05", r"\d\d"),
        ("Z07:00", r"(\.\d+)?(Z|[+-]\d\d:\d\d)$"),
    ):  # fmt: skip
        matched = re.compile(pattern).match(value, at)
        if matched is None:
            return value[at:], element
        at = matched.end()
    return value[at:], ""
