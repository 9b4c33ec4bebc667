"""The smallest request that brings a pod's stored status to what the kubelet knows. Pure.

Plays PatchPodStatus of pkg/util/pod: a strategic merge patch of the difference.
"""

from __future__ import annotations

from cluster.api.meta import Object


def first_patch(pod: Object, status: Object) -> Object:
    """A merge patch that only lands on the version the kubelet has seen: a plain merge of the whole
    status is the cheapest for the API server, and the version makes it safe for others' conditions.
    """
    meta = pod["metadata"]
    return {
        "metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]},
        "status": status,
    }


def strategic_patch(uid: str, old: Object, new: Object) -> Object | None:
    """The difference as a strategic merge patch; None if there is none."""
    changed: Object = {}
    for key, value in new.items():
        if key in ("conditions", "podIPs"):
            continue
        if old.get(key) != value:
            before = old.get(key)
            changed[key] = value
            if isinstance(before, dict) and isinstance(value, dict):
                changed[key] = {**{k: None for k in before if k not in value}, **value}
    for key in old:
        if key not in new and key in ("reason", "message", "initContainerStatuses"):
            changed[key] = None
    _conditions(changed, old.get("conditions") or [], new.get("conditions") or [])
    if old.get("podIPs") != new.get("podIPs") and "podIPs" in new:
        gone = [ip for ip in old.get("podIPs") or () if ip not in new["podIPs"]]
        changed["podIPs"] = [*new["podIPs"], *({"$patch": "delete", **ip} for ip in gone)]
    return {"metadata": {"uid": uid}, "status": changed} if changed else None


def _conditions(changed: Object, old: list[Object], new: list[Object]) -> None:
    before = {c["type"]: c for c in old}
    items = []
    for condition in new:
        was = before.get(condition["type"])
        if was != condition:
            dropped = {k: None for k in was or () if k not in condition}
            items.append({**dropped, **condition})
    if items:
        changed["$setElementOrder/conditions"] = [{"type": c["type"]} for c in new]
        changed["conditions"] = items
