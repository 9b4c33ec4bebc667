"""Strategic merge patch: merges lists by their key, as `kubectl apply`, `kubectl edit` and
client-go send it.

Plays k8s.io/apimachinery/pkg/util/strategicpatch. Merge keys and strategies come out of the
schemas. Directives: `$patch: replace|delete|merge`, `$retainKeys`, `$setElementOrder/LIST`,
`$deleteFromPrimitiveList/LIST`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from cluster.api.errors import BadRequest, InternalError
from cluster.api.meta import Object
from cluster.api.patch import rejected
from cluster.api.schema import Schemas

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_DELETE_FROM = "$deleteFromPrimitiveList/"
_SET_ORDER = "$setElementOrder/"

Schema = Mapping[str, Any]


def strategic_merge(obj: Object, patch: object, schemas: Schemas, schema_name: str) -> Object:
    """`obj` with `patch` merged into it. Raises BadRequest, Invalid. Changes neither argument."""
    if not isinstance(patch, dict):
        raise BadRequest("error decoding patch: the patch must be a JSON object")
    merge = _Merge(schemas)
    return merge.maps(_copy(obj), _copy(patch), schemas.definition(schema_name))


class _Merge:
    """One merge; owns (and changes) the copies it was given."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas

    def maps(
        self, original: dict[str, Any], patch: dict[str, Any], schema: Schema
    ) -> dict[str, Any]:
        directive = patch.pop(_PATCH, None)
        if directive == "replace":
            replaced: dict[str, Any] = _without_nulls(patch)
            return replaced
        if directive == "delete":
            return {}
        if directive not in (None, "merge"):
            raise BadRequest(f"Unknown patch type: {directive}")
        _retain_keys(original, patch)
        self._ordered_lists(original, patch, schema)
        for key, value in patch.items():
            self._field(original, key, value, schema)
        return original

    def _field(self, original: dict[str, Any], key: str, value: Any, schema: Schema) -> None:
        deleting = key.startswith(_DELETE_FROM)
        if deleting:
            key = key[len(_DELETE_FROM) :]
            if not isinstance(value, list):
                raise BadRequest("invalid patch format of primitive list")
        if value is None:
            original.pop(key, None)
            return
        current = original.get(key)
        if type(current) is not type(value) or current is None:
            if not deleting:
                original[key] = _without_nulls(value)
            return
        child = self._child(schema, key)
        if isinstance(value, dict):
            if "replace" in _strategies(child):
                original[key] = _without_nulls(value)
            else:
                original[key] = self.maps(current, value, self._schemas.resolve(child))
        elif isinstance(value, list):
            original[key] = self._lists(current, value, child, deleting)
        else:
            original[key] = value

    def _child(self, schema: Schema, key: str) -> Schema:
        child = (schema.get("properties") or {}).get(key)
        if child is None:
            child = schema.get("additionalProperties")
        return child if isinstance(child, dict) else {}

    def _lists(
        self, original: list[Any], patch: list[Any], schema: Schema, deleting: bool
    ) -> list[Any]:
        if "merge" not in _strategies(schema):
            return [_without_nulls(item) for item in patch]
        return self._merged_list(original, patch, schema, deleting)

    def _merged_list(
        self, original: list[Any], patch: list[Any], schema: Schema, deleting: bool
    ) -> list[Any]:
        first = (original or patch or [None])[0]
        if isinstance(first, list):
            raise rejected()
        if not isinstance(first, dict):
            if deleting:
                return [item for item in original if item not in patch]
            merged = list(dict.fromkeys([*original, *patch]))
            return _in_order(merged, patch, original, "")
        key = schema.get("x-kubernetes-patch-merge-key", "")
        if not key:
            raise rejected()
        original, patch, replaced = _special_items(original, patch, key)
        if replaced:
            return patch
        merged = self._merged_items(original, patch, key, schema)
        return _in_order(merged, patch, original, key)

    def _merged_items(
        self, original: list[Any], patch: list[Any], key: str, schema: Schema
    ) -> list[Any]:
        merged = list(original)
        item_schema = self._schemas.resolve(schema.get("items") or {})
        for item in patch:
            wanted = _key_of(item, key)
            at = next((i for i, each in enumerate(merged) if _key_of(each, key) == wanted), None)
            if at is None:
                merged.append(_without_nulls(_copy(item)))
            else:
                merged[at] = self.maps(merged[at], _copy(item), item_schema)
        return merged

    def _ordered_lists(
        self, original: dict[str, Any], patch: dict[str, Any], schema: Schema
    ) -> None:
        """Carry out every `$setElementOrder/LIST` and take the directive and its list out of the
        patch."""
        for directive in [key for key in patch if key.startswith(_SET_ORDER)]:
            name = directive[len(_SET_ORDER) :]
            order = patch.pop(directive)
            if not isinstance(order, list):
                raise BadRequest("invalid patch format of setElementOrder list")
            child = self._child(schema, name)
            key = str(child.get("x-kubernetes-patch-merge-key", ""))
            live = original.get(name)
            given = patch.pop(name, None) if name in patch and patch[name] is not None else None
            if name in patch:
                continue  # null: the list goes
            if not isinstance(live, list) and not isinstance(given, list):
                continue
            merged = self._combined(live, given, child)
            listed = all(isinstance(item, dict) for item in (*merged, *order)) and bool(key)
            original[name] = _in_order(merged, order, live or [], key if listed else "")

    def _combined(self, live: Any, given: Any, child: Schema) -> list[Any]:
        if isinstance(live, list) and isinstance(given, list):
            return self._lists(live, given, child, deleting=False)
        if isinstance(given, list):
            return [_without_nulls(item) for item in given if not _is_deletion(item)]
        return list(live)


def _strategies(schema: Schema) -> list[str]:
    return str(schema.get("x-kubernetes-patch-strategy", "")).split(",")


def _retain_keys(original: dict[str, Any], patch: dict[str, Any]) -> None:
    retained = patch.pop(_RETAIN, None)
    if retained is None:
        return
    if not isinstance(retained, list) or any(
        key not in retained for key in patch if not key.startswith("$") and patch[key] is not None
    ):
        raise BadRequest("invalid patch format of retainKeys")
    for key in [key for key in original if key not in retained]:
        del original[key]


def _special_items(
    original: list[Any], patch: list[Any], key: str
) -> tuple[list[Any], list[Any], bool]:
    """Carry out the `$patch` directives of list items: (original, patch without them, replaced)."""
    plain: list[Any] = []
    replace = False
    for item in patch:
        directive = item.get(_PATCH) if isinstance(item, dict) else None
        if directive is None:
            plain.append(item)
        elif directive == "delete":
            wanted = _key_of(item, key)
            original = [each for each in original if _key_of(each, key) != wanted]
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise InternalError("merging lists cannot yet be specified in the patch")
        else:
            raise BadRequest(f"unknown patch type: {directive}")
    return original, plain, replace


def _is_deletion(item: Any) -> bool:
    return isinstance(item, dict) and item.get(_PATCH) == "delete"


def _key_of(item: Any, key: str) -> Any:
    if not isinstance(item, dict) or key not in item:
        raise rejected()
    return item[key]


def _in_order(merged: list[Any], order: list[Any], server: list[Any], key: str) -> list[Any]:
    """Items named by `order` in that order, the rest in the server's, interleaved as the server had
    them."""

    def name(item: Any) -> Any:
        return item.get(key) if key else item

    wanted = {name(item): i for i, item in reversed(list(enumerate(order)))}
    place = {name(item): i for i, item in reversed(list(enumerate(server)))}
    right = sorted((m for m in merged if name(m) in wanted), key=lambda m: wanted[name(m)])
    left = sorted(
        (m for m in merged if name(m) not in wanted), key=lambda m: place.get(name(m), len(place))
    )
    result: list[Any] = []
    i = j = 0
    while i < len(left) and j < len(right):
        a, b = place.get(name(left[i])), place.get(name(right[j]))
        if a is not None and b is not None and a < b:
            result.append(left[i])
            i += 1
        else:
            result.append(right[j])
            j += 1
    return result + left[i:] + right[j:]


def _without_nulls(value: Any) -> Any:
    """A value that is new to the object: nulls and directives in it mean nothing."""
    if isinstance(value, dict):
        value.pop(_RETAIN, None)
        for key in [
            k for k, v in value.items() if v is None or k.startswith((_SET_ORDER, _DELETE_FROM))
        ]:
            del value[key]
        for key, child in value.items():
            value[key] = _without_nulls(child)
        return value
    if isinstance(value, list):
        return [_without_nulls(item) for item in value if not _is_deletion(item)]
    return value


def _copy(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))
