"""Compiled decoders: one closure per definition, and the slow pass that words what was wrong.

Plays sigs.k8s.io/json. A decoder takes a value and answers 0 (fine), UNKNOWN (an unknown field
somewhere below), DROP (empty: leave it out, as omitempty does), or a 1-tuple with the value in its
canonical form; it raises Mismatch where the JSON type is wrong. Exact type tests and dict look-ups
only: 15 us for an ordinary pod.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from cluster.api.gotypes import absent_zeros
from cluster.api.quantity import canonical

UNKNOWN = 1
DROP = 2

Outcome = Any
Decoder = Callable[[Any], Outcome]
Definitions = Mapping[str, Mapping[str, Any]]

_PREFIX = "#/$defs/"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.Time"
_MICRO_TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"

_TIME_TEXT = re.compile(r"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\dZ")
_MICRO_TEXT = re.compile(r"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\d\.\d{6}Z")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


class Mismatch(Exception):
    """A value of the wrong JSON type, or one that its type cannot read."""


def compile_definition(name: str, definitions: Definitions, made: dict[str, Decoder]) -> Decoder:
    """The decoder of a definition and, through references, of what it contains. `made` is filled
    and reused."""
    found = made.get(name)
    if found is not None:
        return found
    special = _SPECIAL.get(name)
    if special is not None:
        made[name] = special
        return special
    made[name] = lambda value: made[name](value)  # until the real one is there: recursive types
    made[name] = _compile(definitions[name], definitions, made, absent_zeros(name))
    return made[name]


def _compile(
    schema: Mapping[str, Any],
    definitions: Definitions,
    made: dict[str, Decoder],
    zeros: frozenset[str] = frozenset(),
) -> Decoder:
    ref = schema.get("$ref")
    if ref:
        return compile_definition(ref[len(_PREFIX) :], definitions, made)
    properties = schema.get("properties")
    if properties is not None:
        return _struct(schema, zeros, definitions, made)
    kind = json_type(schema)
    if kind == "array":
        return _list(_field(schema["items"], definitions, made), schema)
    if kind == "object":
        values = schema.get("additionalProperties")
        if isinstance(values, dict):
            return _map(_field(values, definitions, made))
        return _opaque
    return _SCALARS.get((kind, schema.get("format", "")), _SCALARS.get((kind, ""), _anything))


def json_type(schema: Mapping[str, Any]) -> str:
    """The one type of a schema, without the "null" that kubernetes-validate adds; '' if it has
    none."""
    kind = schema.get("type", "")
    if isinstance(kind, list):
        return next((str(each) for each in kind if each != "null"), "")
    return str(kind)


def _field(
    schema: Mapping[str, Any], definitions: Definitions, made: dict[str, Decoder]
) -> Decoder | type:
    """A decoder, or just the Python type where an exact type test is all there is to do."""
    if "$ref" not in schema:
        kind = json_type(schema)
        if kind == "string" and "format" not in schema:
            return str
        if kind == "boolean":
            return bool
    return _compile(schema, definitions, made)


def _struct(
    schema: Mapping[str, Any],
    zeros: frozenset[str],
    definitions: Definitions,
    made: dict[str, Decoder],
) -> Decoder:
    required = frozenset(schema.get("required") or ())
    zeros -= required
    fields: dict[str, Any] = {}
    for name, child in schema["properties"].items():
        decoder = _field(child, definitions, made)
        if isinstance(decoder, type):
            fields[name] = decoder
        elif name in required:
            fields[name] = _kept(decoder)
        else:
            fields[name] = _without_zero(decoder) if name in zeros else decoder
    look_up = fields.get

    def decode(value: Any) -> Outcome:
        if type(value) is not dict:
            raise Mismatch
        flags = 0
        dropped: list[str] | None = None
        for key, child in value.items():
            decoder = look_up(key)
            if decoder is type(child):
                if not child and key in zeros:
                    dropped = [key] if dropped is None else [*dropped, key]
                continue
            if decoder is None:
                flags = UNKNOWN
            elif child is None:
                dropped = [key] if dropped is None else [*dropped, key]
            elif decoder is str or decoder is bool:
                raise Mismatch
            else:
                outcome = decoder(child)
                if outcome == 0:
                    continue
                if outcome == 1:
                    flags = UNKNOWN
                elif outcome == 2:
                    dropped = [key] if dropped is None else [*dropped, key]
                else:
                    value[key] = outcome[0]
        if dropped is not None:
            for key in dropped:
                del value[key]
        return flags

    return decode


def _kept(decoder: Decoder) -> Decoder:
    """Required fields are printed even when empty."""

    def decode(value: Any) -> Outcome:
        outcome = decoder(value)
        return 0 if outcome == DROP else outcome

    return decode


def _without_zero(decoder: Decoder) -> Decoder:
    """An optional number that is no pointer: its zero is left out."""

    def decode(value: Any) -> Outcome:
        return decoder(value) or (0 if value else DROP)

    return decode


def _list(item: Decoder | type, schema: Mapping[str, Any]) -> Decoder:
    if isinstance(item, type):
        return _list_of_scalars(item)
    empty: Any = {} if "$ref" in schema["items"] else None

    def decode(value: Any) -> Outcome:
        if type(value) is not list:
            raise Mismatch
        if not value:
            return DROP
        flags = 0
        for i, child in enumerate(value):
            if child is None:
                if empty is not None:
                    value[i] = {}
                continue
            outcome = item(child)
            if outcome == 1:
                flags = UNKNOWN
            elif outcome != 0 and outcome != 2:
                value[i] = outcome[0]
        return flags

    return decode


def _list_of_scalars(item: type) -> Decoder:
    zero = item()

    def decode(value: Any) -> Outcome:
        if type(value) is not list:
            raise Mismatch
        if not value:
            return DROP
        for i, child in enumerate(value):
            if type(child) is not item:
                if child is not None:
                    raise Mismatch
                value[i] = zero
        return 0

    return decode


def _map(item: Decoder | type) -> Decoder:
    if isinstance(item, type):
        return _map_of_scalars(item)

    def decode(value: Any) -> Outcome:
        if type(value) is not dict:
            raise Mismatch
        if not value:
            return DROP
        flags = 0
        for key, child in value.items():
            if child is None:
                continue
            outcome = item(child)
            if outcome == 1:
                flags = UNKNOWN
            elif outcome != 0 and outcome != 2:
                value[key] = outcome[0]
        return flags

    return decode


def _map_of_scalars(item: type) -> Decoder:
    zero = item()

    def decode(value: Any) -> Outcome:
        if type(value) is not dict:
            raise Mismatch
        if not value:
            return DROP
        for key, child in value.items():
            if type(child) is not item:
                if child is not None:
                    raise Mismatch
                value[key] = zero
        return 0

    return decode


def _opaque(value: Any) -> Outcome:
    """RawExtension, FieldsV1, JSON: any object, kept as it is."""
    return 0


def _anything(value: Any) -> Outcome:
    return 0


def _string(value: Any) -> Outcome:
    if type(value) is not str:
        raise Mismatch
    return 0


def _boolean(value: Any) -> Outcome:
    if type(value) is not bool:
        raise Mismatch
    return 0


def _int32(value: Any) -> Outcome:
    if type(value) is not int or not -2147483648 <= value <= 2147483647:
        raise Mismatch
    return 0


def _int64(value: Any) -> Outcome:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise Mismatch
    return 0


def _number(value: Any) -> Outcome:
    if type(value) is not int and type(value) is not float:
        raise Mismatch
    return 0


def _bytes(value: Any) -> Outcome:
    if type(value) is not str or not _BASE64.fullmatch(value):
        raise Mismatch
    return 0


def _quantity(value: Any) -> Outcome:
    if type(value) is bool or not isinstance(value, str | int | float):
        raise Mismatch
    try:
        text = canonical(value)
    except ValueError:
        raise Mismatch from None
    return 0 if text == value else (text,)


def _int_or_string(value: Any) -> Outcome:
    if type(value) is str:
        return 0
    return _int32(value)


def _time(value: Any) -> Outcome:
    return (
        0 if type(value) is str and _TIME_TEXT.fullmatch(value) else _other_time(value, "seconds")
    )


def _micro_time(value: Any) -> Outcome:
    return 0 if type(value) is str and _MICRO_TEXT.fullmatch(value) else _other_time(value, "micro")


def _other_time(value: Any, precision: str) -> Outcome:
    """A time in another zone or precision, brought to upstream's form."""
    if type(value) is not str:
        raise Mismatch
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        raise Mismatch from None
    if when.tzinfo is None or len(value) < 20 or value[10] != "T":
        raise Mismatch
    shape = "%Y-%m-%dT%H:%M:%SZ" if precision == "seconds" else "%Y-%m-%dT%H:%M:%S.%fZ"
    return (when.astimezone(UTC).strftime(shape),)


_SCALARS: dict[tuple[str, str], Decoder] = {
    ("string", ""): _string,
    ("string", "byte"): _bytes,
    ("string", "date-time"): _time,
    ("boolean", ""): _boolean,
    ("integer", "int32"): _int32,
    ("integer", "int64"): _int64,
    ("integer", ""): _int64,
    ("number", ""): _number,
}
_SPECIAL: dict[str, Decoder] = {
    _QUANTITY: _quantity,
    _INT_OR_STRING: _int_or_string,
    _TIME: _time,
    _MICRO_TIME: _micro_time,
}


def explain(name: str, definitions: Definitions, obj: Any) -> tuple[str | None, list[str]]:
    """Say what the fast pass stumbled over: Go's words for the first wrong type, and `unknown
    field` for every unknown one, which is deleted."""
    from cluster.api.explaining import Explainer

    explainer = Explainer(definitions)
    explainer.visit_definition(name, obj)
    return explainer.problem, explainer.unknown
