"""ControllerRevisions: the numbered template history of StatefulSets and DaemonSets.

Plays pkg/controller/history. A revision holds a strategic merge patch that sets spec.template;
equal templates share a revision, which only gets a higher number when it is rolled back to.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from cluster.api.meta import Object
from cluster.controllers.hashing import fnv1a, safe_encode
from cluster.controllers.ownership import Kind, controller_ref

HASH_LABEL = "controller.kubernetes.io/hash"


@dataclass(frozen=True, slots=True)
class History:
    """What `plan_history` found and wants."""

    current: Object  # the revision of the wanted template, with its number
    create: bool  # it must be created
    renumber: bool  # it exists but must get a higher number
    others: tuple[Object, ...]  # older revisions, oldest first


def template_patch(owner: Object) -> Object:
    """The data of a revision."""
    return {"spec": {"template": {**owner["spec"]["template"], "$patch": "replace"}}}


def plan_history(owner: Object, kind: Kind, revisions: list[Object]) -> History:
    """Find or make the revision of `owner`'s template among its `revisions`."""
    ordered = sorted(revisions, key=_order)
    patch = template_patch(owner)
    number = int(ordered[-1]["revision"]) + 1 if ordered else 1
    equal = [r for r in ordered if r.get("data") == patch]
    if not equal:
        return History(_new_revision(owner, kind, patch, number), True, False, tuple(ordered))
    found = equal[-1]
    others = tuple(r for r in ordered if r is not found)
    if found is ordered[-1]:
        return History(found, False, False, others)
    return History({**found, "revision": number}, False, True, others)


def plan_truncation(history: History, live: set[str], limit: int) -> list[Object]:
    """Revisions to delete: the oldest beyond `limit` that no pod and no status names."""
    spare = [r for r in history.others if r["metadata"]["name"] not in live]
    return spare[: max(0, len(spare) - limit)]


def revision_template(revision: Object) -> Object:
    """The pod template that a revision holds."""
    template = dict(revision["data"]["spec"]["template"])
    template.pop("$patch", None)
    return template


def _new_revision(owner: Object, kind: Kind, patch: Object, number: int) -> Object:
    meta = owner["metadata"]
    collisions = int((owner.get("status") or {}).get("collisionCount") or 0)
    digest = safe_encode(fnv1a(orjson.dumps(patch, option=orjson.OPT_SORT_KEYS), collisions))
    labels = dict((owner["spec"]["template"].get("metadata") or {}).get("labels") or {})
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{meta['name'][:223]}-{digest}",
            "namespace": meta["namespace"],
            "labels": {**labels, HASH_LABEL: digest},
            "annotations": dict(meta.get("annotations") or {}),
            "ownerReferences": [controller_ref(owner, kind)],
        },
        "data": patch,
        "revision": number,
    }


def _order(revision: Object) -> tuple[int, str, str]:
    meta = revision["metadata"]
    return int(revision["revision"]), str(meta.get("creationTimestamp", "")), str(meta["name"])
