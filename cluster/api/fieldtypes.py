"""How each part of an object merges: field by field, item by item, or as one.

Plays sigs.k8s.io/structured-merge-diff/typed. `Types` compiles a definition into `Node`s once; the
functions compare, merge and prune values by them. An object that did not change in some branch
costs one C comparison there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.api.decoding import json_type
from cluster.api.fieldsets import FieldSet, is_member, key_element, value_element
from cluster.api.gotypes import embedded_structs
from cluster.api.schema import Schemas

LEAF, STRUCT, MAP, LIST_MAP, LIST_SET = range(5)

_PREFIX = "#/$defs/"
_MISSING: Any = object()
_KEY_DEFAULTS = {"protocol": "TCP"}


class Node:
    """One type. `fields` of a struct; `child` of maps and lists; `keys` of an associative list.

    `embedded`: as a field it is a Go value (or a required list): there even if nobody set it.
    """

    __slots__ = ("child", "embedded", "fields", "keys", "kind")

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.fields: dict[str, Node] = {}
        self.child: Node | None = None
        self.keys: tuple[str, ...] = ()
        self.embedded = False

    def of_field(self, name: str) -> Node:
        return self.fields.get(name) or self.child or _ANY


class Types:
    """Compiled nodes of the definitions of one version."""

    def __init__(self, schemas: Schemas) -> None:
        self._definitions = schemas.definitions
        self._made: dict[str, Node] = {}

    def root(self, schema_name: str) -> Node:
        return self._definition(schema_name)

    def forget(self, schema_name: str) -> None:
        """A custom definition has changed."""
        self._made.pop(schema_name, None)

    def _definition(self, name: str) -> Node:
        node = self._made.get(name)
        if node is None:
            node = self._made[name] = Node(LEAF)
            self._fill(node, self._definitions[name], embedded_structs(name))
        return node

    def _fill(
        self, node: Node, schema: Mapping[str, Any], embedded: frozenset[str] = frozenset()
    ) -> None:
        if schema.get("x-kubernetes-map-type") == "atomic":
            return
        properties = schema.get("properties")
        kind = json_type(schema)
        if properties is not None:
            node.kind = STRUCT
            required = schema.get("required") or ()
            for name, child in properties.items():
                made = self._field(child)
                if (name in required or name in embedded) and made.kind != LEAF:
                    made = _embedded(made)
                node.fields[name] = made
        elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
            node.kind = MAP
            node.child = self._field(schema["additionalProperties"])
        elif kind == "array":
            self._fill_list(node, schema)

    def _fill_list(self, node: Node, schema: Mapping[str, Any]) -> None:
        relation = schema.get("x-kubernetes-list-type")
        if relation == "map":
            node.kind = LIST_MAP
            node.keys = tuple(sorted(schema.get("x-kubernetes-list-map-keys") or ()))
            node.child = self._field(schema["items"])
        elif relation == "set":
            node.kind = LIST_SET

    def _field(self, schema: Mapping[str, Any]) -> Node:
        ref = schema.get("$ref")
        if schema.get("x-kubernetes-map-type") == "atomic":
            return _ANY
        if not ref:
            node = Node(LEAF)
            self._fill(node, schema)
            return node
        return self._definition(ref[len(_PREFIX) :])


_ANY = Node(LEAF)


def _embedded(node: Node) -> Node:
    """The same type, seen through a field that is always there. Shares what is filled in later."""
    twin = Node(node.kind)
    twin.fields, twin.child, twin.keys, twin.embedded = node.fields, node.child, node.keys, True
    return twin


def element_of(node: Node, item: Any) -> str:
    """The path element of a list's item."""
    if node.kind == LIST_SET or not isinstance(item, dict):
        return value_element(item)
    return key_element(node.keys, tuple(item.get(k, _KEY_DEFAULTS.get(k)) for k in node.keys))


def everything(node: Node, value: Any, *, embedded: bool = False) -> FieldSet | None:
    """All paths of a value that was not there before (or is no longer). `embedded`: its place was
    there, empty.

    None where nothing was added: an empty value in a place that was there.
    """
    if node.kind == LEAF or not value or not isinstance(value, dict | list):
        return None if embedded and not value and node.kind != LEAF else {}
    out: FieldSet = {} if embedded else {".": {}}
    if isinstance(value, dict):
        for key, child in value.items():
            of = node.of_field(key)
            below = everything(of, child, embedded=embedded and of.embedded)
            if below is not None:
                out["f:" + key] = below
    else:
        for item in value:
            below = everything(node.child or _ANY, item)
            if below is not None:
                out[element_of(node, item)] = below
    return out


class Comparison:
    """What differs between two values: three sets of paths."""

    __slots__ = ("added", "modified", "removed")

    def __init__(self, added: FieldSet, modified: FieldSet, removed: FieldSet) -> None:
        self.added, self.modified, self.removed = added, modified, removed


def compare(node: Node, old: Any, new: Any, skip: frozenset[str] = frozenset()) -> Comparison:
    """How to get from `old` to `new`. `skip`: top-level fields that are not looked at."""
    out: tuple[FieldSet, FieldSet, FieldSet] = ({}, {}, {})
    if skip:
        old = {k: v for k, v in old.items() if k not in skip}
        new = {k: v for k, v in new.items() if k not in skip}
    _compare(node, old, new, out)
    return Comparison(*out)


def _compare(node: Node, old: Any, new: Any, out: tuple[FieldSet, FieldSet, FieldSet]) -> None:
    if node.kind <= MAP:
        _compare_maps(node, old, new, out)
    else:
        _compare_lists(node, old, new, out)


def _compare_maps(node: Node, old: Any, new: Any, out: tuple[FieldSet, FieldSet, FieldSet]) -> None:
    added, _, removed = out
    for key, value in new.items():
        before = old.get(key, _MISSING)
        if before is value or before == value:
            continue
        of = node.of_field(key)
        if before is _MISSING:
            below = everything(of, value, embedded=of.embedded)
            if below is not None and (below or not of.embedded or of.kind == LEAF):
                added["f:" + key] = below
        else:
            _descend(of, "f:" + key, before, value, out)
    for key, before in old.items():
        if key not in new:
            below = everything(node.of_field(key), before)
            removed["f:" + key] = below if below is not None else {}


def _compare_lists(
    node: Node, old: Any, new: Any, out: tuple[FieldSet, FieldSet, FieldSet]
) -> None:
    added, _, removed = out
    child = node.child or _ANY
    before = {element_of(node, item): item for item in old}
    now = {element_of(node, item): item for item in new}
    for element, item in now.items():
        previous = before.get(element, _MISSING)
        if previous is _MISSING:
            added[element] = everything(child, item) or {}
        elif previous != item:
            _descend(child, element, previous, item, out)
    for element, previous in before.items():
        if element not in now:
            removed[element] = everything(child, previous) or {}


def _descend(
    node: Node, element: str, old: Any, new: Any, out: tuple[FieldSet, FieldSet, FieldSet]
) -> None:
    if node.kind == LEAF or type(old) is not type(new) or not isinstance(new, dict | list):
        out[1][element] = {}
        return
    below: tuple[FieldSet, FieldSet, FieldSet] = ({}, {}, {})
    _compare(node, old, new, below)
    for whole, part in zip(out, below, strict=True):
        if part:
            whole[element] = part


def field_set(node: Node, value: Any) -> FieldSet:
    """What an applied configuration claims (ToFieldSet): leaves, list items, keys of maps."""
    out: FieldSet = {}
    if isinstance(value, dict):
        for key, child in value.items():
            of = node.of_field(key)
            claimed = _claimed(of, child)
            if claimed is None:
                continue
            if claimed and node.kind == MAP and "." not in claimed:
                claimed = {".": {}, **claimed}
            out["f:" + key] = claimed
    elif isinstance(value, list):
        for item in value:
            below = field_set(node.child or _ANY, item) if isinstance(item, dict) else {}
            out[element_of(node, item)] = {".": {}, **below} if below else {}
    return out


def _claimed(node: Node, value: Any) -> FieldSet | None:
    if node.kind == LEAF or value is None or value == {}:
        return {}
    if isinstance(value, dict | list):
        return field_set(node, value) or None
    return {}


def merge(node: Node, live: Any, config: Any) -> Any:
    """`live` with `config` merged over it: what config does not name stays."""
    if node.kind == LEAF or live is None or type(live) is not type(config):
        return config
    if isinstance(config, dict):
        out = dict(live)
        for key, value in config.items():
            out[key] = merge(node.of_field(key), live[key], value) if key in live else value
        return out
    if isinstance(config, list):
        return _merge_lists(node, live, config)
    return config


def _merge_lists(node: Node, live: list[Any], config: list[Any]) -> list[Any]:
    """Shared items in the order of `config`, live's others before the shared item that they
    preceded."""
    child = node.child or _ANY
    ours = {element_of(node, item): item for item in live}
    theirs = {element_of(node, item): item for item in config}
    out: list[Any] = []
    waiting, wanted = list(ours), list(theirs)
    i = j = 0
    emitted: set[str] = set()
    while i < len(waiting) or j < len(wanted):
        if i < len(waiting) and (waiting[i] not in theirs or waiting[i] in emitted):
            if waiting[i] not in emitted:
                out.append(ours[waiting[i]])
            i += 1
            continue
        if j == len(wanted):
            break
        element = wanted[j]
        mine = ours.get(element, _MISSING)
        item = theirs[element]
        out.append(item if mine is _MISSING else merge(child, mine, item))
        emitted.add(element)
        j += 1
    return out


def remove_items(node: Node, value: Any, doomed: FieldSet) -> Any:
    """`value` without the members of `doomed`; None where nothing is left."""
    if isinstance(value, dict):
        kept = {}
        for key, child in value.items():
            below = doomed.get("f:" + key)
            if below is not None and is_member(below):
                continue
            left = child if not below else remove_items(node.of_field(key), child, below)
            if left is not None:
                kept[key] = left
        return kept or None
    if isinstance(value, list) and node.kind in (LIST_MAP, LIST_SET):
        items = []
        for item in value:
            below = doomed.get(element_of(node, item))
            if below is not None and is_member(below):
                continue
            left = item if not below else remove_items(node.child or _ANY, item, below)
            if left is not None:
                items.append(left)
        return items or None
    return value


def with_parents(node: Node, fields: FieldSet) -> FieldSet:
    """`fields` with every struct field on the way to a member (EnsureNamedFieldsAreMembers)."""
    out: FieldSet = {}
    for element, below in fields.items():
        if element == ".":
            out[element] = below
            continue
        of_field = element.startswith("f:")
        child = node.of_field(element[2:]) if of_field else node.child or _ANY
        deeper = with_parents(child, below) if below else below
        if of_field and element[2:] in node.fields and deeper and "." not in deeper:
            deeper = {".": {}, **deeper}
        out[element] = deeper
    return out
