"""Cells that several kinds share: labels, selectors, containers, lists cut short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.api.meta import Object
from cluster.api.selectors import LabelSelector

NONE = "<none>"
UNSET = "<unset>"


def format_labels(labels: Mapping[str, str] | None) -> str:
    """`a=b,c=d` in order of key, `<none>` for none (labels.FormatLabels)."""
    return ",".join(f"{k}={v}" for k, v in sorted((labels or {}).items())) or NONE


def format_selector(selector: Mapping[str, Any] | None) -> str:
    """metav1.FormatLabelSelector."""
    if selector is None:
        return NONE
    return str(LabelSelector.from_dict(selector)) or NONE


def containers_and_images(template: Object) -> tuple[str, str]:
    """Names and images of a pod template's containers."""
    containers = (template.get("spec") or {}).get("containers") or ()
    names = ",".join(c.get("name", "") for c in containers)
    return names, ",".join(c.get("image", "") for c in containers)


def more(items: Sequence[str], limit: int) -> str:
    """The first few, and how many more there are."""
    listed = ",".join(items[:limit])
    extra = len(items) - limit
    return f"{listed} + {extra} more..." if extra > 0 else listed


def load_balancer(status: Object) -> str:
    """Addresses of a load balancer, sorted."""
    ingress = (status.get("loadBalancer") or {}).get("ingress") or ()
    return ",".join(sorted({e.get("ip") or e.get("hostname") or "" for e in ingress} - {""}))


def flag(value: bool | None) -> str:
    """A *bool: `<unset>`, `True` or `False`."""
    return UNSET if value is None else ("True" if value else "False")
