"""The taints that a node's conditions call for. Pure functions over nodes."""

from __future__ import annotations

from cluster.api.meta import Object, rfc3339
from cluster.controllers.conditions import find_condition

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_BY_CONDITION: dict[tuple[str, str], str] = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
}
_KEPT = frozenset((*_BY_CONDITION.values(), UNSCHEDULABLE))


def ready_status(node: Object) -> str:
    """True, False or Unknown (also when the node never reported)."""
    condition = find_condition((node.get("status") or {}).get("conditions"), "Ready")
    return str(condition["status"]) if condition is not None else "Unknown"


def plan_no_schedule(node: Object, now: float) -> list[Object] | None:
    """spec.taints with NoSchedule taints as the conditions say (doNoScheduleTaintingPass); None if
    right."""
    taints = node.get("spec", {}).get("taints") or []
    conditions = (node.get("status") or {}).get("conditions") or ()
    wanted = {
        key
        for c in conditions
        if (key := _BY_CONDITION.get((str(c["type"]), str(c["status"])))) is not None
    }
    if node.get("spec", {}).get("unschedulable"):
        wanted.add(UNSCHEDULABLE)
    held = {t["key"] for t in taints if t["effect"] == "NoSchedule" and t["key"] in _KEPT}
    if wanted == held:
        return None
    kept = [t for t in taints if t["effect"] != "NoSchedule" or t["key"] not in _KEPT - wanted]
    added = [
        {"key": key, "effect": "NoSchedule", "timeAdded": rfc3339(now)}
        for key in sorted(wanted - held)
    ]
    return [*kept, *added]


def plan_no_execute(node: Object, wanted: str, now: float) -> list[Object] | None:
    """spec.taints with just `wanted` ('' for none) of the two NoExecute taints; None if right
    already."""
    taints = node.get("spec", {}).get("taints") or []
    mine = [
        t for t in taints if t["effect"] == "NoExecute" and t["key"] in (NOT_READY, UNREACHABLE)
    ]
    if [t["key"] for t in mine] == ([wanted] if wanted else []):
        return None
    others = [t for t in taints if t not in mine]
    if not wanted:
        return others
    held = next((t for t in mine if t["key"] == wanted), None)
    return [*others, held or {"key": wanted, "effect": "NoExecute", "timeAdded": rfc3339(now)}]


def has_no_execute(node: Object) -> bool:
    taints = node.get("spec", {}).get("taints") or ()
    return any(t["effect"] == "NoExecute" and t["key"] in (NOT_READY, UNREACHABLE) for t in taints)
