"""What JSON schemas do not tell about upstream's Go types: which fields are pointers.

A Go field that is a value, not a pointer, has its zero where nobody set it: a zero that a client
sends is dropped (omitempty), and an embedded struct is there before anyone fills it. The facts are
those of protobuf_fields.json, where protobuf.py describes the form.
"""

from __future__ import annotations

import functools
from importlib.resources import files

import orjson

Message = dict[str, list[str]]

_SCALARS = frozenset("sitf")


def absent_zeros(definition: str) -> frozenset[str]:
    """Fields of a definition whose zero value ("" or 0 or false) is the same as not being set."""
    return frozenset(
        name for name, kind in _fields(message_name(definition)).items() if kind in _SCALARS
    )


def embedded_structs(definition: str) -> frozenset[str]:
    """Fields of a definition that are structs by value: they exist, empty, before being set."""
    return frozenset(
        name for name, kind in _fields(message_name(definition)).items() if kind == "m"
    )


def message_name(definition: str) -> str:
    """`io.k8s.api.core.v1.Pod` as the table calls it: `core/v1.Pod`."""
    parts = definition.split(".")
    return f"{parts[-3]}/{parts[-2]}.{parts[-1]}" if len(parts) > 3 else definition


@functools.cache
def _table() -> dict[str, Message]:
    path = files("cluster.api").joinpath("protobuf_fields.json")
    table: dict[str, Message] = orjson.loads(path.read_bytes())
    return table


def _fields(name: str) -> dict[str, str]:
    """Kind of each JSON field; fields of inlined structs belong to the struct around them."""
    found: dict[str, str] = {}
    for field in _table().get(name, {}).values():
        if field[0]:
            found[field[0]] = field[1]
        elif len(field) > 2:
            found.update(_fields(field[2]))
    return found
