"""Columns of custom resources: additionalPrinterColumns with their simple JSON paths.

Plays apiextensions-apiserver's tableconvertor.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from cluster.api.meta import Object
from cluster.api.table.columns import AGE, NAME, Layout, column
from cluster.api.table.durations import age, since

_STEP = re.compile(r"\.([^.\[\]]+)|\['([^']*)'\]|\[\"([^\"]*)\"\]|\[(\*|-?\d+)\]|\[\?\(([^)]*)\)\]")
_FILTER = re.compile(r"@\.([\w.\-/]+)\s*==\s*[\"']([^\"']*)[\"']")
_DEFAULT_DESCRIPTION = "Custom resource definition column (in JSONPath format): "


def custom_layout(columns: list[Object] | None) -> Layout:
    """Name and the declared columns; name and age where none are declared."""
    if not columns:
        return Layout((NAME, AGE), lambda obj, now: [obj["metadata"]["name"], age(obj, now)])
    declared = tuple(
        {
            **column(c["name"], c.get("type", "string"), form=c.get("format", "")),
            "description": c.get("description") or _DEFAULT_DESCRIPTION + c["jsonPath"],
            "priority": c.get("priority", 0),
        }
        for c in columns
    )
    paths = [(c["jsonPath"], c.get("type", "string")) for c in columns]

    def cells(obj: Object, now: float) -> list[Any]:
        values = [_cell(find_path(obj, path), kind, now) for path, kind in paths]
        return [obj["metadata"]["name"], *values]

    return Layout((NAME, *declared), cells)


def find_path(obj: Any, path: str) -> list[Any]:
    """Every value at a JSON path such as `.spec.replicas` or
    `.status.conditions[?(@.type=="Ready")].status`."""
    found = [obj]
    text = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    if text and not text.startswith((".", "[")):
        text = "." + text
    at = 0
    while at < len(text):
        matched = _STEP.match(text, at)
        if matched is None:
            return []
        found = [value for each in found for value in _step(each, matched)]
        at = matched.end()
    return found


def _step(value: Any, matched: re.Match[str]) -> list[Any]:
    key = next((g.replace("\\.", ".") for g in matched.groups()[:3] if g is not None), None)
    if key is not None:
        return [value[key]] if isinstance(value, dict) and key in value else []
    if matched[4] is not None:
        return _indexed(value, matched[4])
    condition = _FILTER.match(matched[5])
    if condition is None or not isinstance(value, list):
        return []
    return [item for item in value if condition[2] in find_path(item, "." + condition[1])]


def _indexed(value: Any, index: str) -> list[Any]:
    if index == "*":
        return list(value.values()) if isinstance(value, dict) else list(value or ())
    if not isinstance(value, list) or not -len(value) <= int(index) < len(value):
        return []
    return [value[int(index)]]


def _cell(found: list[Any], kind: str, now: float) -> Any:
    if not found:
        return None
    value = found[0]
    match kind:
        case "date":
            return since(value, now) if isinstance(value, str) else "<invalid>"
        case "integer":
            return int(value) if isinstance(value, int | float) else None
        case "number":
            return float(value) if isinstance(value, int | float) else None
        case "boolean":
            return value if isinstance(value, bool) else None
    if len(found) > 1:
        return ",".join(_text(each) for each in found)
    return _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
