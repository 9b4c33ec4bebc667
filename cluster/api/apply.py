"""Who set which field: managedFields, and server-side apply on top of them.

Plays k8s.io/apimachinery/pkg/util/managedfields and structured-merge-diff's merge.Updater. `track`
is called for every create, update and patch, so it looks only at what changed; `apply` merges a
configuration, takes away what its manager no longer applies, and refuses to overwrite what others
set unless forced.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import orjson

from cluster.api.errors import BadRequest, Conflict
from cluster.api.fieldsets import (
    FieldSet,
    difference,
    intersection,
    path_text,
    paths,
    union,
    without_below,
)
from cluster.api.fieldtypes import (
    Comparison,
    Node,
    Types,
    compare,
    field_set,
    merge,
    remove_items,
    with_parents,
)
from cluster.api.meta import Object, rfc3339
from cluster.api.schema import Schemas

MAX_UPDATE_MANAGERS = 10
"""Beyond this many Update entries the oldest are folded into one named ancient-changes."""

BEFORE_FIRST_APPLY = "before-first-apply"
KUBECTL = "kubectl"
"""The manager of `kubectl apply --server-side`, which may take over from client-side apply."""

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_ANCIENT = "ancient-changes"

_UNTRACKED_ROOT = frozenset({"apiVersion", "kind"})
_UNTRACKED: FieldSet = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {
        "f:name": {}, "f:namespace": {}, "f:creationTimestamp": {}, "f:selfLink": {}, "f:uid": {},
        "f:clusterName": {}, "f:generation": {}, "f:managedFields": {}, "f:resourceVersion": {},
        "f:deletionTimestamp": {}, "f:deletionGracePeriodSeconds": {},
    },
}  # fmt: skip
_UNTRACKED_META = frozenset(
    key[2:] for key in _UNTRACKED["f:metadata"] if not key.startswith("f:deletion")
)
_STATUS: FieldSet = {"f:status": {}}
_BUT_STATUS: FieldSet = {"f:spec": {}}

_types: WeakKeyDictionary[Schemas, Types] = WeakKeyDictionary()


def types_of(schemas: Schemas) -> Types:
    """The compiled merge types of a version's schemas."""
    found = _types.get(schemas)
    if found is None:
        found = _types[schemas] = Types(schemas)
    return found


def manager_name(field_manager: str, user_agent: str) -> str:
    """The manager of a request that names none: the first word of its user agent."""
    if field_manager:
        return field_manager
    name = "".join(char for char in user_agent.split("/")[0] if char.isprintable())
    return name[:128]


def track(
    schemas: Schemas,
    schema_name: str,
    old: Object | None,
    new: Object,
    *,
    manager: str,
    operation: str = "Update",
    subresource: str = "",
    now: float,
) -> None:
    """Set `new`'s managedFields after a create (old is None), update or patch by `manager`.

    An object that has no managedFields stays without them: tracking can be switched off by never
    starting it.
    """
    meta = new["metadata"]
    entries = _entries(old, new, subresource)
    if old is not None and not entries:
        meta.pop("managedFields", None)
        return
    node = types_of(schemas).root(schema_name)
    difference_ = _comparison(node, old or {}, new)
    ignored = _ignored(node, subresource)
    taken = union(difference_.modified, difference_.added)
    lost = union(taken, difference_.removed)
    changed = [_without(entry, lost) for entry in entries] if lost else entries
    kept = [entry for entry in changed if entry is not None]
    own = without_below(taken, ignored) if taken else taken
    if own:
        kept = _with_own(kept, own, _entry(manager, operation, new["apiVersion"], subresource, now))
    _store(meta, _capped(kept))


def apply(
    schemas: Schemas,
    schema_name: str,
    live: Object | None,
    applied: Object,
    *,
    manager: str,
    force: bool,
    subresource: str = "",
    now: float,
) -> Object:
    """The object after `manager` applied its configuration. Raises Conflict, BadRequest. Changes no
    argument.

    The result shares parts with `live` and `applied`; it is neither defaulted nor validated.
    """
    if applied["metadata"].get("managedFields"):
        raise BadRequest("metadata.managedFields must be nil")
    node = types_of(schemas).root(schema_name)
    base = _bare(live) if live is not None else {}
    entries = _live_entries(node, live, base, now)
    config = _bare(applied)
    merged = merge(node, base, config)
    mine = _entry(manager, "Apply", applied["apiVersion"], subresource, now)
    last = next((e["fieldsV1"] for e in entries if _same(e, mine)), None)
    others = [e for e in entries if not _same(e, mine)]
    ignored = _ignored(node, subresource)
    named = without_below(field_set(node, config), ignored)
    claimed = difference(named, _UNTRACKED)
    result = _pruned(node, merged, last, [*others, {**mine, "fieldsV1": named}])
    change = _comparison(node, base, result)
    handed_over = _last_applied_fields(node, base) if manager == KUBECTL and not force else {}
    others = _settle(others, change, force, handed_over)
    after = [*others, {**mine, "fieldsV1": claimed}] if claimed else others
    if live is not None and result == base and last == claimed:
        return {**live, "metadata": dict(live["metadata"])}
    result = {**result, "metadata": dict(result.get("metadata") or {})}
    _store(result["metadata"], _capped(after))
    if manager == KUBECTL and _last_applied(result):
        _renew_last_applied(result["metadata"], config)
    return result


def _last_applied(obj: Object) -> str:
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(LAST_APPLIED) or "")


def _last_applied_fields(node: Node, live: Object) -> FieldSet:
    """What client-side apply left behind and live still has: kubectl may take that over."""
    try:
        config = orjson.loads(_last_applied(live) or "{}")
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(config, dict) or not config:
        return {}
    left = field_set(node, config)
    apart = compare(node, config, live)
    for differing in (apart.modified, apart.added, apart.removed):
        left = difference(left, differing)
    return left


def _renew_last_applied(meta: Object, config: Object) -> None:
    """Keep kubectl's annotation true, so that client-side apply can take over again."""
    own_meta = dict(config["metadata"])
    own = {k: v for k, v in (own_meta.get("annotations") or {}).items() if k != LAST_APPLIED}
    own_meta["annotations"] = own
    text = orjson.dumps({**config, "metadata": own_meta}, option=orjson.OPT_SORT_KEYS).decode()
    meta["annotations"] = {**meta["annotations"], LAST_APPLIED: text + "\n"}


def _live_entries(node: Node, live: Object | None, base: Object, now: float) -> list[Object]:
    if live is None:
        return []
    entries = list(live["metadata"].get("managedFields") or ())
    if entries:
        return entries
    everything = _comparison(node, {}, base)
    entry = _entry(BEFORE_FIRST_APPLY, "Update", live["apiVersion"], "", now)
    return [{**entry, "fieldsV1": everything.added}] if everything.added else []


def _settle(
    others: list[Object], change: Comparison, force: bool, handed_over: FieldSet
) -> list[Object]:
    """Take what changed away from other managers, or raise Conflict. `handed_over` may be taken."""
    taken = union(change.modified, change.added)
    lost = union(taken, change.removed)
    if not lost:
        return others
    conflicts = [
        (entry, path)
        for entry in others
        for path in paths(difference(intersection(entry.get("fieldsV1") or {}, taken), handed_over))
    ]
    if conflicts and not force:
        raise _conflict(conflicts)
    settled = (_without(entry, lost) for entry in others)
    return [entry for entry in settled if entry is not None]


def _conflict(conflicts: list[tuple[Object, tuple[str, ...]]]) -> Conflict:
    conflicts.sort(key=lambda c: (_identity(c[0]), path_text(c[1])))
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f"conflict with {_shown(entry)}",
            "field": path_text(path),
        }
        for entry, path in conflicts
    ]
    if len(conflicts) == 1:
        entry, path = conflicts[0]
        text = f"Apply failed with 1 conflict: conflict with {_shown(entry)}: {path_text(path)}"
        return Conflict(text, details={"causes": causes})
    lines: list[str] = []
    for entry, path in conflicts:
        heading = f"conflicts with {_shown(entry)}:"
        if heading not in lines:
            lines.append(heading)
        lines.append(f"- {path_text(path)}")
    joined = "\n".join(lines)
    return Conflict(
        f"Apply failed with {len(conflicts)} conflicts: {joined}", details={"causes": causes}
    )


def _shown(entry: Object) -> str:
    text = orjson.dumps(entry.get("manager", "")).decode()
    if entry.get("subresource"):
        text += f' with subresource "{entry["subresource"]}"'
    if entry.get("operation") == "Update":
        text += f" using {entry.get('apiVersion', '')}"
    return text


def _pruned(node: Node, merged: Object, last: FieldSet | None, managers: list[Object]) -> Object:
    """`merged` without what was applied last time, is not applied now, and nobody else claims."""
    if not last:
        return merged
    wanted = with_parents(node, last)
    whole = with_parents(node, field_set(node, merged))
    once = remove_items(node, merged, wanted) or {}
    managed: FieldSet = {}
    for entry in managers:
        managed = union(managed, entry.get("fieldsV1") or {})
    kept = union(with_parents(node, field_set(node, once)), with_parents(node, managed))
    twice = remove_items(node, merged, difference(whole, kept)) or {}
    gone = difference(whole, with_parents(node, field_set(node, twice)))
    result = remove_items(node, merged, intersection(gone, wanted)) or {}
    return dict(result)


def _comparison(node: Node, old: Object, new: Object) -> Comparison:
    """The difference in tracked fields only."""
    before, after = _tracked(old), _tracked(new)
    return compare(node, before, after)


def _tracked(obj: Object) -> Object:
    out = {k: v for k, v in obj.items() if k not in _UNTRACKED_ROOT}
    meta = obj.get("metadata") or {}
    out["metadata"] = {
        k: v for k, v in meta.items() if k not in _UNTRACKED_META and not k.startswith("deletion")
    }
    return out


def _bare(obj: Object) -> Object:
    """A shallow copy without managedFields."""
    meta = {k: v for k, v in obj["metadata"].items() if k != "managedFields"}
    return {**obj, "metadata": meta}


def _ignored(node: Node, subresource: str) -> FieldSet:
    """Fields that a request to this (sub)resource cannot set, and so cannot own."""
    if subresource == "status":
        return _BUT_STATUS
    return _STATUS if not subresource and "status" in node.fields else {}


def _entries(old: Object | None, new: Object, subresource: str) -> list[Object]:
    """The entries to start from: the request's own, live's where the request has none or may not
    set them."""
    live = list((old or {}).get("metadata", {}).get("managedFields") or ())
    sent = new["metadata"].get("managedFields") or []
    if subresource or not sent:
        return live
    if len(sent) == 1 and not sent[0]:
        return []
    valid = all(e.get("fieldsType") == "FieldsV1" and e.get("operation") for e in sent)
    return list(sent) if valid else live


def _entry(manager: str, operation: str, api_version: str, subresource: str, now: float) -> Object:
    entry: Object = {
        "manager": manager or "unknown",
        "operation": operation,
        "apiVersion": api_version,
        "time": rfc3339(now),
        "fieldsType": "FieldsV1",
    }
    if subresource:
        entry["subresource"] = subresource
    return entry


def _identity(entry: Object) -> tuple[str, str, str, str]:
    version = "" if entry.get("operation") == "Apply" else entry.get("apiVersion", "")
    operation, manager = entry.get("operation", ""), entry.get("manager", "")
    return operation, manager, version, entry.get("subresource", "")


def _same(a: Object, b: Object) -> bool:
    return _identity(a) == _identity(b)


def _without(entry: Object, lost: FieldSet) -> Object | None:
    fields = entry.get("fieldsV1") or {}
    left = difference(fields, lost)
    if left is fields:
        return entry
    return {**entry, "fieldsV1": left} if left else None


def _with_own(entries: list[Object], own: FieldSet, mine: Object) -> list[Object]:
    kept = []
    for entry in entries:
        if _same(entry, mine):
            own = union(entry.get("fieldsV1") or {}, own)
        else:
            kept.append(entry)
    subresource = mine.pop("subresource", "")
    mine["fieldsV1"] = own
    if subresource:
        mine["subresource"] = subresource
    return [*kept, mine]


def _capped(entries: list[Object]) -> list[Object]:
    """Fold the oldest Update managers into one when there are too many."""
    updates = [e for e in entries if e.get("operation") == "Update"]
    surplus = len(updates) - MAX_UPDATE_MANAGERS
    if surplus <= 0:
        return entries
    updates.sort(key=_age_order)
    ancient = updates[: surplus + 1]
    kept = [e for e in entries if not any(e is old for old in ancient)]
    for version in dict.fromkeys(e.get("apiVersion", "") for e in ancient):
        group = [e for e in ancient if e.get("apiVersion", "") == version]
        fields: FieldSet = {}
        for entry in group:
            fields = union(fields, entry.get("fieldsV1") or {})
        folded = {**group[-1], "manager": _ANCIENT, "fieldsV1": fields}
        folded.pop("subresource", None)
        kept.append(folded)
    return kept


def _age_order(entry: Object) -> tuple[str, str]:
    return str(entry.get("time") or ""), str(entry.get("manager") or "")


def _store(meta: Object, entries: Iterable[Object]) -> None:
    ordered = sorted(entries, key=_sort_key)
    if ordered:
        meta["managedFields"] = ordered
    else:
        meta.pop("managedFields", None)


def _sort_key(entry: Object) -> tuple[str, ...]:
    keys: tuple[Any, ...] = ("operation", "time", "manager", "apiVersion", "subresource")
    return tuple(str(entry.get(key) or "") for key in keys)
