"""Controller references: who owns an object, and whether it should be adopted or let go.

Plays BaseControllerRefManager of pkg/controller/controller_ref_manager.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.api.errors import StatusError
from cluster.api.meta import Object
from cluster.api.selectors import LabelSelector

MATCHES, ADOPT, RELEASE, IGNORE = "matches", "adopt", "release", "ignore"


@dataclass(frozen=True, slots=True)
class Kind:
    """apiVersion and kind of a controller, as written into owner references."""

    api_version: str
    kind: str


def controller_ref(owner: Object, kind: Kind) -> Object:
    """metav1.NewControllerRef."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owner_uid(obj: Object) -> str:
    """UID of the controlling owner, '' if there is none."""
    for ref in obj["metadata"].get("ownerReferences") or ():
        if ref.get("controller"):
            return str(ref["uid"])
    return ""


def plan_claim(owner: Object, selector: LabelSelector, obj: Object) -> str:
    """What `owner` should do about `obj`: MATCHES (its own), ADOPT, RELEASE or IGNORE."""
    meta = obj["metadata"]
    holder = owner_uid(obj)
    matches = selector.matches(meta.get("labels") or {})
    deleting = "deletionTimestamp" in owner["metadata"]
    if holder:
        if holder != owner["metadata"]["uid"]:
            return IGNORE
        if matches:
            return MATCHES
        return IGNORE if deleting else RELEASE
    if deleting or not matches or "deletionTimestamp" in meta:
        return IGNORE
    return ADOPT


def adoption_patch(owner: Object, kind: Kind, obj: Object) -> Object:
    """Strategic merge patch that makes `owner` the controller of `obj`, unless `obj` was replaced
    meanwhile."""
    uid = obj["metadata"]["uid"]
    return {"metadata": {"ownerReferences": [controller_ref(owner, kind)], "uid": uid}}


def release_patch(owner: Object, obj: Object) -> Object:
    """Strategic merge patch that takes the owner's reference off `obj`."""
    reference = {"$patch": "delete", "uid": owner["metadata"]["uid"]}
    return {"metadata": {"ownerReferences": [reference], "uid": obj["metadata"]["uid"]}}


def has_cause(error: StatusError, reason: str) -> bool:
    """Does a refusal name this cause, e.g. NamespaceTerminating? (apierrors.HasStatusCause)"""
    return any(c.get("reason") == reason for c in (error.details or {}).get("causes") or ())
