"""Request bodies in Kubernetes' protobuf: `kubectl create` and Go controllers send built-in types
so.

Plays k8s.io/apimachinery/pkg/runtime/serializer/protobuf, the reading half; answers are JSON, which
every such client takes. The field numbers are in protobuf_fields.json, made by
scripts/protobuf_fields.py: message -> number -> [JSON name ('' is inlined), kind, message]. A kind
is s string, b bytes, i integer, t bool, d float, m message, after * (a pointer or always written:
its zero is a value), [ (repeated) or { (a map with string keys).
"""

from __future__ import annotations

import base64
import functools
import struct
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import orjson

from cluster.api.errors import BadRequest
from cluster.api.meta import Object, rfc3339, rfc3339_micro

MAGIC = b"k8s\x00"
CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
MAX_DEPTH = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_ZERO: tuple[object, ...] = ("", 0, False, 0.0)
Table = dict[str, dict[int, tuple[str, str, str]]]


def decode(body: bytes) -> Object:
    """The object in `body`. Raises BadRequest for anything malformed or unknown."""
    try:
        if not body.startswith(MAGIC):
            raise ValueError("provided data does not appear to be a protobuf message")
        api_version, kind, raw = _unknown(body[len(MAGIC) :])
        message = _message_name(api_version, kind)
        obj = _decode(raw, message, 0)
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise BadRequest(f"unable to decode the protobuf body: {error}") from error
    return {"apiVersion": api_version, "kind": kind, **obj}


@functools.cache
def _table() -> Table:
    document = orjson.loads((files("cluster.api") / "protobuf_fields.json").read_bytes())
    return {
        message: {
            int(number): (row[0], row[1], row[2] if len(row) > 2 else "")
            for number, row in rows.items()
        }
        for message, rows in document.items()
    }


def _unknown(data: bytes) -> tuple[str, str, bytes]:
    """runtime.Unknown: apiVersion, kind, the object's own bytes."""
    api_version = kind = ""
    raw = b""
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            parts = dict(_fields(value))
            api_version = bytes(parts.get(1, b"")).decode()
            kind = bytes(parts.get(2, b"")).decode()
        elif number == 2 and isinstance(value, bytes):
            raw = value
        elif number == 3 and value:
            raise ValueError("content encodings are not supported")
    return api_version, kind, raw


def _message_name(api_version: str, kind: str) -> str:
    """`apps/v1.Deployment` for apps/v1 Deployment; meta/v1 for what every group has."""
    group, _, version = api_version.rpartition("/")
    short = group.partition(".")[0] or "core"
    if group == "internal.apiserver.k8s.io":
        short = "apiserverinternal"
    for name in (f"{short}/{version}.{kind}", f"meta/v1.{kind}"):
        if name in _table():
            return name
    raise ValueError(f'no kind "{kind}" is registered for version "{api_version}"')


def _decode(data: bytes, message: str, depth: int) -> Object:
    if depth > MAX_DEPTH:
        raise ValueError("the message is nested too deeply")
    rows = _table()[message]
    out: Object = {}
    for number, value in _fields(data):
        row = rows.get(number)
        if row is None:
            continue
        name, kind, child = row
        match kind[0]:
            case "[":
                out.setdefault(name, []).extend(_items(value, kind[1:], child, depth))
            case "{":
                key, item = _entry(value, kind[1:], child, depth)
                out.setdefault(name, {})[key] = item
            case _:
                found = _value(value, kind, child, depth)
                if not name:
                    out.update(found)
                elif found is not None and not (kind[0] != "*" and found in _ZERO):
                    out[name] = found
    return out


def _value(value: int | bytes, kind: str, child: str, depth: int) -> Any:
    """One field's value; None where Go's JSON would write none."""
    match kind[-1]:
        case "m":
            special = _SPECIAL.get(child)
            data = _as_bytes(value)
            found = special(data) if special else _decode(data, child, depth + 1)
            return None if kind[0] != "*" and found in _ZERO else found
        case "s":
            return _as_bytes(value).decode()
        case "b":
            return base64.b64encode(_as_bytes(value)).decode()
        case "t":
            return bool(value)
        case "d":
            return struct.unpack("<d", int(value).to_bytes(8, "little"))[0]
        case _:
            return _signed(value)


def _items(value: int | bytes, kind: str, child: str, depth: int) -> list[Any]:
    """One element, or several packed integers."""
    if kind == "i" and isinstance(value, bytes):
        numbers, at = [], 0
        while at < len(value):
            number, at = _varint(value, at)
            numbers.append(_signed(number))
        return numbers
    return [_value(value, "*" + kind, child, depth)]


def _entry(value: int | bytes, kind: str, child: str, depth: int) -> tuple[str, Any]:
    """A map's entry: key 1, value 2; a value that is a list of strings is a message of its own."""
    parts = dict(_fields(_as_bytes(value)))
    key = _as_bytes(parts.get(1, b"")).decode()
    raw = parts.get(2, b"" if kind[-1] in "smb" else 0)
    if kind[0] == "[":
        return key, [_as_bytes(item).decode() for _, item in _fields(_as_bytes(raw))]
    return key, _value(raw, "*" + kind, child, depth)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and raw value of each field, in order."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _VARINT:
            number, at = _varint(data, at)
            yield tag >> 3, number
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"unexpected wire type {wire}")
        if at + size > end:
            raise ValueError("unexpected end of the message")
        chunk = data[at : at + size]
        at += size
        yield tag >> 3, chunk if wire == _BYTES else int.from_bytes(chunk, "little")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    raise ValueError("wrong wire type")


def _signed(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("wrong wire type")
    return value - (1 << 64) if value >= 1 << 63 else value


def _quantity(data: bytes) -> str:
    return _as_bytes(dict(_fields(data)).get(1, b"")).decode()


def _int_or_string(data: bytes) -> int | str:
    parts = dict(_fields(data))
    if parts.get(1):
        return _as_bytes(parts.get(3, b"")).decode()
    return _signed(parts.get(2, 0))


def _seconds(data: bytes) -> float:
    parts = dict(_fields(data))
    return _signed(parts.get(1, 0)) + _signed(parts.get(2, 0)) / 1e9


def _time(data: bytes) -> str:
    return rfc3339(_seconds(data)) if data else ""


def _micro_time(data: bytes) -> str:
    return rfc3339_micro(_seconds(data)) if data else ""


def _duration(data: bytes) -> str:
    """As Go prints a duration of whole seconds: metav1.Duration."""
    return f"{_signed(dict(_fields(data)).get(1, 0)) / 1e9:g}s"


def _raw_json(data: bytes) -> Any:
    raw = _as_bytes(dict(_fields(data)).get(1, b""))
    return orjson.loads(raw) if raw else None


_SPECIAL: dict[str, Callable[[bytes], Any]] = {
    "resource.Quantity": _quantity,
    "intstr.IntOrString": _int_or_string,
    "runtime.RawExtension": _raw_json,
    "meta/v1.Time": _time,
    "meta/v1.MicroTime": _micro_time,
    "meta/v1.Duration": _duration,
    "meta/v1.FieldsV1": _raw_json,
}
