"""Sets of field paths, as managedFields writes them.

Plays sigs.k8s.io/structured-merge-diff/fieldpath. A set is the very JSON of FieldsV1, a trie: keys
are path elements (`f:NAME`, `k:{KEYS}`, `v:VALUE`), `{}` is a member, `.` marks a member that has
members below it. Functions never change their arguments and share what they can, so that tracking a
small change in a large object costs little.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson

FieldSet = dict[str, Any]

MEMBER: FieldSet = {}


def is_member(node: FieldSet) -> bool:
    """Does the path that leads to `node` itself belong to the set?"""
    return not node or "." in node


def union(a: FieldSet, b: FieldSet) -> FieldSet:
    """Paths of the roots `a` and `b` (a root is no member itself)."""
    if not a or not b:
        return a or b
    out = dict(a)
    for element, theirs in b.items():
        if element == ".":
            continue
        ours = out.get(element)
        out[element] = theirs if ours is None else _united(ours, theirs)
    return out


def _united(a: FieldSet, b: FieldSet) -> FieldSet:
    """Of two nodes: a member if one of them is."""
    if a is b or not b:
        return a if a is b or is_member(a) else {".": {}, **a}
    if not a:
        return b if is_member(b) else {".": {}, **b}
    out = union(a, b)
    return {".": {}, **out} if "." in b and "." not in out else out


def difference(a: FieldSet, b: FieldSet) -> FieldSet:
    """Paths of `a` that are not in `b`, exactly: a member of b takes nothing below it along."""
    if not a or not b:
        return a
    out = a
    for element, theirs in b.items():
        ours = a.get(element)
        if ours is None or element == ".":
            continue
        left = _less(ours, theirs)
        if left is ours:
            continue
        if out is a:
            out = dict(a)
        if left is None:
            del out[element]
        else:
            out[element] = left
    return out


def _less(a: FieldSet, b: FieldSet) -> FieldSet | None:
    member = is_member(a)
    children = difference(a, b) if a and b else a
    stays = member and not is_member(b)
    if children is a and stays == member:
        return a
    below = {k: v for k, v in children.items() if k != "."}
    if stays:
        return {".": {}, **below} if below else {}
    return below or None


def without_below(a: FieldSet, b: FieldSet) -> FieldSet:
    """`a` less every member of `b` and all that lies below it (RecursiveDifference)."""
    out = a
    for element, theirs in b.items():
        ours = a.get(element)
        if ours is None or element == ".":
            continue
        left: FieldSet | None = None
        if not is_member(theirs):
            below = without_below(ours, theirs)
            left = None if not below and ours else below
        if out is a:
            out = dict(a)
        if left is None:
            del out[element]
        else:
            out[element] = left
    return out


def intersection(a: FieldSet, b: FieldSet) -> FieldSet:
    """Paths in both roots."""
    out: FieldSet = {}
    small, large = (a, b) if len(a) <= len(b) else (b, a)
    for element, ours in small.items():
        theirs = large.get(element)
        if theirs is None or element == ".":
            continue
        both = is_member(ours) and is_member(theirs)
        below = intersection(ours, theirs) if ours and theirs else {}
        if both:
            out[element] = {".": {}, **below} if below else {}
        elif below:
            out[element] = below
    return out


def paths(node: FieldSet, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every member as a tuple of path elements, in upstream's order (members of a level before what
    is below)."""
    children = sorted((k for k in node if k != "."), key=_order)
    for element in children:
        if is_member(node[element]):
            yield (*prefix, element)
    for element in children:
        yield from paths(node[element], (*prefix, element))


def _order(element: str) -> tuple[int, str]:
    return "fkvi".index(element[0]), element


def path_text(path: tuple[str, ...]) -> str:
    """`.spec.template.spec.containers[name="nginx"].image`."""
    return "".join(_element_text(element) for element in path)


def _element_text(element: str) -> str:
    kind, body = element[0], element[2:]
    if kind == "f":
        return f".{body}"
    if kind == "k":
        keys = orjson.loads(body)
        return "[" + ",".join(f"{k}={orjson.dumps(v).decode()}" for k, v in keys.items()) + "]"
    return f"[={body}]" if kind == "v" else f"[{body}]"


@lru_cache(maxsize=16384)
def key_element(names: tuple[str, ...], values: tuple[Any, ...]) -> str:
    """`k:{"name":"nginx"}`; names are sorted, keys without a value left out."""
    keys = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    return "k:" + orjson.dumps(keys).decode()


@lru_cache(maxsize=4096)
def value_element(value: Any) -> str:
    """`v:"finalizer"`."""
    return "v:" + orjson.dumps(value).decode()
