"""Canonical quantities in resource lists: `1000m` is stored as `1`, nothing finer than milli."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cluster.api import quantity

_PLAIN = frozenset("0123456789")


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """The form Kubernetes stores; text that is no quantity stays, for validation to name it."""
    try:
        shown = quantity.canonical(text)
        if shown[-1] in "nu":
            return quantity.canonical(f"{quantity.milli_value(text)}m")
    except ValueError:
        return text
    return shown


def canonicalize(quantities: dict[str, Any] | None) -> None:
    """Rewrite the values of a resource list in place."""
    if not quantities:
        return
    for name, value in quantities.items():
        quantities[name] = canonical(value if type(value) is str else str(value))


def copy_missing(target: dict[str, Any], source: dict[str, Any] | None) -> None:
    for name, value in (source or {}).items():
        if name not in target:
            target[name] = value
