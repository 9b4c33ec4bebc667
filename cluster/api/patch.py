"""JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7386).

Plays gopkg.in/evanphx/json-patch as the API server uses it: negative indices count from the end,
and a patch that does not apply is answered 422 with upstream's one sentence. Neither function
changes its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from cluster.api.errors import BadRequest, Invalid, RequestEntityTooLarge, invalid
from cluster.api.meta import Object

MAX_OPERATIONS = 10_000
"""Operations of one JSON patch; more are refused (handlers.maxJSONPatchOperations)."""

_REJECTED = "the server rejected our request due to an error in our request"


def rejected() -> Invalid:
    """What upstream answers to a well-formed patch that does not apply."""
    return Invalid(_REJECTED, details={})


def undecodable(shown: str, problem: str) -> Invalid:
    """What upstream answers when the patched object does not decode. `shown` is the patched object
    as JSON, for a strategic merge patch `go_text` of the patch."""
    return Invalid.of("", "", "", [invalid("patch", shown, problem)])


def go_text(value: Any) -> str:
    """A JSON value as Go's %+v prints it: `map[spec:map[replicas:3]]`."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{go_text(v)}" for k, v in sorted(value.items())) + "]"
    if isinstance(value, list):
        return "[" + " ".join(go_text(item) for item in value) + "]"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def json_patch(obj: Object, operations: object) -> Object:
    """`obj` after the operations. Raises BadRequest (not a patch) or Invalid (does not apply)."""
    if not isinstance(operations, list):
        raise BadRequest(
            "error decoding patch: json: cannot unmarshal "
            f"{_json_name(operations)} into Go value of type jsonpatch.Patch"
        )
    if len(operations) > MAX_OPERATIONS:
        raise RequestEntityTooLarge(
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, "
            f"got {len(operations)}"
        )
    document: Any = _copy(obj)
    try:
        for operation in operations:
            document = _apply(document, operation)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise rejected() from error
    if not isinstance(document, dict):
        raise rejected()
    return document


def merge_patch(obj: Object, patch: object) -> Object:
    """`obj` with `patch` laid over it: null deletes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        raise BadRequest(
            f"error decoding patch: json: cannot unmarshal {_json_name(patch)} "
            "into Go value of type map[string]interface {}"
        )
    merged = _merged(_copy(obj), _copy(patch))
    assert isinstance(merged, dict)
    return merged


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = _merged(target.get(key), value)
    return target


def _apply(document: Any, operation: Any) -> Any:
    verb = operation["op"]
    path = _pointer(operation["path"])
    match verb:
        case "add":
            return _add(document, path, _copy(operation["value"]))
        case "remove":
            _take(document, path)
        case "replace":
            if not path:
                return _copy(operation["value"])
            _find(document, path)
            parent, key = _parent(document, path)
            parent[key] = _copy(operation["value"])
        case "move":
            return _add(document, path, _take(document, _pointer(operation["from"])))
        case "copy":
            return _add(document, path, _copy(_find(document, _pointer(operation["from"]))))
        case "test":
            _test(document, path, operation.get("value"))
        case _:
            raise ValueError(f"Unexpected kind: {verb}")
    return document


def _pointer(text: str) -> list[str]:
    if text == "":
        return []
    if not text.startswith("/"):
        raise ValueError(f"not a JSON pointer: {text}")
    return [step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/")]


def _find(document: Any, path: Sequence[str]) -> Any:
    for step in path:
        document = document[_key(document, step)]
    return document


def _parent(document: Any, path: Sequence[str]) -> tuple[Any, Any]:
    parent = _find(document, path[:-1])
    return parent, _key(parent, path[-1])


def _key(container: Any, step: str) -> str | int:
    """The key or index that `step` means in `container`."""
    if isinstance(container, dict):
        return step
    if not isinstance(container, list):
        raise TypeError("a scalar has no members")
    index = _index(step)
    if not -len(container) <= index < len(container):
        raise IndexError(step)
    return index


def _index(step: str) -> int:
    digits = step[1:] if step.startswith("-") else step
    if not digits.isdecimal() or not digits.isascii():
        raise ValueError(f"not an array index: {step}")
    return int(step)


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _find(document, path[:-1])
    step = path[-1]
    if isinstance(parent, dict):
        parent[step] = value
    elif isinstance(parent, list):
        _insert(parent, step, value)
    else:
        raise TypeError("a scalar has no members")
    return document


def _insert(items: list[Any], step: str, value: Any) -> None:
    if step == "-":
        items.append(value)
        return
    index = _index(step)
    size = len(items) + 1
    if not -size <= index < size:
        raise IndexError(step)
    items.insert(index + size if index < 0 else index, value)


def _take(document: Any, path: list[str]) -> Any:
    if not path:
        raise ValueError("the whole document cannot be removed")
    parent, key = _parent(document, path)
    return parent.pop(key)


def _test(document: Any, path: list[str], wanted: Any) -> None:
    try:
        actual = _find(document, path)
    except KeyError:
        actual = None
    if _canonical(actual) != _canonical(wanted):
        raise ValueError(f"testing path /{'/'.join(path)} failed")


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _copy(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value)) if isinstance(value, dict | list) else value


def _json_name(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    if value is None:
        return "null"
    return "array" if isinstance(value, list) else "object"
