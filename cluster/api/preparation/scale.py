"""The scale subresource: autoscaling/v1 Scale of anything that has replicas."""

from __future__ import annotations

from cluster.api.meta import Object
from cluster.api.preparation.kinds import Kinded

_META = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(resource: Kinded, obj: Object) -> Object:
    """The Scale of `obj`: a Deployment, ReplicaSet, StatefulSet or ReplicationController."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    replicas = spec.get("replicas", 1)
    scale_status: Object = {"replicas": status.get("replicas") or 0}
    selector = _selector_text(spec.get("selector"), plain=resource.kind == "ReplicationController")
    if selector:
        scale_status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {k: obj["metadata"][k] for k in _META if k in obj["metadata"]},
        "spec": {"replicas": replicas} if replicas else {},
        "status": scale_status,
    }


def apply_scale(resource: Kinded, obj: Object, scale: Object) -> None:
    """Write the Scale's wish into `obj`; a resourceVersion in it must hold for `obj` too."""
    obj["spec"]["replicas"] = (scale.get("spec") or {}).get("replicas") or 0
    version = (scale.get("metadata") or {}).get("resourceVersion")
    if version:
        obj["metadata"]["resourceVersion"] = version


def _selector_text(selector: Object | None, *, plain: bool) -> str:
    """labels.Selector.String(): requirements sorted by key, joined by commas."""
    if not selector:
        return ""
    labels = selector if plain else selector.get("matchLabels") or {}
    parts = [(key, f"{key}={value}") for key, value in labels.items()]
    for requirement in () if plain else selector.get("matchExpressions") or ():
        key, operator = requirement["key"], requirement["operator"]
        values = ",".join(sorted(requirement.get("values") or ()))
        text = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }[operator]
        parts.append((key, text))
    return ",".join(text for _, text in sorted(parts, key=lambda part: part[0]))
