"""Which ReplicaSet carries a Deployment's template, and the annotations that number and describe
it.

Plays pkg/controller/deployment/util. Functions return changed copies; what they are given stays as
it was.
"""

from __future__ import annotations

import orjson

from cluster.api.meta import Object
from cluster.controllers.deployment.sizes import max_surge, replicas_of
from cluster.controllers.hashing import fnv1a, safe_encode

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = frozenset(
    (
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
        "deprecated.deployment.rollback.to",
    )
)
_HISTORY_LIMIT = 2000  # characters of the revision history annotation


def template_hash(template: Object, collision_count: int = 0) -> str:
    """The pod-template-hash of a template."""
    return safe_encode(fnv1a(orjson.dumps(template, option=orjson.OPT_SORT_KEYS), collision_count))


def by_creation(replica_set: Object) -> tuple[str, str]:
    """Sort key: older first, then by name."""
    meta = replica_set["metadata"]
    return str(meta.get("creationTimestamp", "")), str(meta["name"])


def find_new(deployment: Object, replica_sets: list[Object]) -> Object | None:
    """The oldest ReplicaSet whose template is the Deployment's, the hash label aside."""
    wanted = _without_hash(deployment["spec"]["template"])
    for replica_set in sorted(replica_sets, key=by_creation):
        if _without_hash(replica_set["spec"]["template"]) == wanted:
            return replica_set
    return None


def revision_of(obj: Object) -> int:
    try:
        return int((obj["metadata"].get("annotations") or {}).get(REVISION, "0"))
    except ValueError:
        return 0


def max_revision(replica_sets: list[Object]) -> int:
    return max((revision_of(r) for r in replica_sets), default=0)


def new_replica_set(deployment: Object, replicas: int, revision: int) -> Object:
    """The ReplicaSet to create for the Deployment's template."""
    meta, spec = deployment["metadata"], deployment["spec"]
    collisions = int((deployment.get("status") or {}).get("collisionCount") or 0)
    digest = template_hash(spec["template"], collisions)
    template = spec["template"]
    labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: digest}
    selector = dict(spec["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: digest}
    wanted: Object = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta['name']}-{digest}",
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "replicas": replicas,
            "selector": selector,
            "template": {
                **template,
                "metadata": {**(template.get("metadata") or {}), "labels": labels},
            },
        },
    }
    if spec.get("minReadySeconds"):
        wanted["spec"]["minReadySeconds"] = spec["minReadySeconds"]
    wanted["metadata"]["annotations"] = {
        **_copied_annotations(deployment),
        REVISION: str(revision),
        **replicas_annotations(deployment),
    }
    return wanted


def replicas_annotations(deployment: Object) -> dict[str, str]:
    """Desired and greatest number of pods, so that scaling can be told from rolling."""
    desired = replicas_of(deployment)
    return {DESIRED_REPLICAS: str(desired), MAX_REPLICAS: str(desired + max_surge(deployment))}


def renumbered(deployment: Object, replica_set: Object, revision: int) -> Object:
    """The existing ReplicaSet of the wanted template with the Deployment's annotations and at least
    `revision`.

    The same object if there is nothing to change.
    """
    old = replica_set["metadata"].get("annotations") or {}
    annotations = {**old, **_copied_annotations(deployment)}
    current = revision_of(replica_set)
    if current < revision:
        annotations[REVISION] = str(revision)
        if REVISION in old:
            annotations[REVISION_HISTORY] = _longer_history(
                old.get(REVISION_HISTORY, ""), old[REVISION]
            )
    min_ready = deployment["spec"].get("minReadySeconds", 0)
    if annotations == old and replica_set["spec"].get("minReadySeconds", 0) == min_ready:
        return replica_set
    changed = {**replica_set, "metadata": {**replica_set["metadata"], "annotations": annotations}}
    changed["spec"] = {**replica_set["spec"], "minReadySeconds": min_ready}
    return changed


def resized(deployment: Object, replica_set: Object, replicas: int) -> Object:
    """A copy with another size and fresh replicas annotations."""
    meta = replica_set["metadata"]
    annotations = {**(meta.get("annotations") or {}), **replicas_annotations(deployment)}
    return {
        **replica_set,
        "metadata": {**meta, "annotations": annotations},
        "spec": {**replica_set["spec"], "replicas": replicas},
    }


def desired_annotation(replica_set: Object) -> int | None:
    return _annotated(replica_set, DESIRED_REPLICAS)


def max_annotation(replica_set: Object) -> int | None:
    return _annotated(replica_set, MAX_REPLICAS)


def _annotated(replica_set: Object, name: str) -> int | None:
    text = (replica_set["metadata"].get("annotations") or {}).get(name)
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _copied_annotations(deployment: Object) -> dict[str, str]:
    held = deployment["metadata"].get("annotations") or {}
    return {k: v for k, v in held.items() if k not in _NOT_COPIED}


def _longer_history(history: str, revision: str) -> str:
    past = [p for p in history.split(",") if p] + [revision]
    while len(past) > 1 and len(",".join(past)) > _HISTORY_LIMIT:
        past.pop(0)
    return ",".join(past)


def _without_hash(template: Object) -> Object:
    meta = dict(template.get("metadata") or {})
    labels = {k: v for k, v in (meta.get("labels") or {}).items() if k != HASH_LABEL}
    meta["labels"] = labels
    return {**template, "metadata": meta}
