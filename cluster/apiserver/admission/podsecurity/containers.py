"""What the checks share: every container of a pod, and how violations list them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cluster.api.meta import Object

Violation = tuple[str, str]
"""(forbidden reason, detail)"""


def containers_of(spec: Object) -> Iterator[Object]:
    for key in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(key) or ()


def context_of(holder: Object) -> Object:
    """A pod spec's or a container's securityContext, {} if none."""
    context: Object = holder.get("securityContext") or {}
    return context


def quote_all(names: Sequence[object]) -> str:
    """`"a", "b"`"""
    return ", ".join(f'"{name}"' for name in names)


def listed(noun: str, names: Sequence[str]) -> str:
    """`container "a"` or `containers "a", "b"`"""
    return f"{noun if len(names) == 1 else noun + 's'} {quote_all(names)}"


def setters(pod: bool, names: Sequence[str], joint: str = "and") -> str:
    """`pod`, `container "a"`, `pod and containers "a", "b"`"""
    parts = ["pod"] if pod else []
    if names:
        parts.append(listed("container", names))
    return f" {joint} ".join(parts)


def is_windows(spec: Object) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"
