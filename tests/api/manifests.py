"""Small valid manifests, and the way of an object through the strategies."""

from __future__ import annotations

import functools
from typing import Any

from cluster.api import strategy
from cluster.api.catalogue import Catalogue, Resource
from cluster.api.errors import FieldError
from cluster.api.meta import Object
from cluster.api.schema import Schemas

NOW = 1_767_225_600.0


@functools.cache
def catalogue() -> Catalogue:
    return Catalogue(Schemas())


def resource_of(obj: Object) -> Resource:
    found = catalogue().of_kind(obj["apiVersion"], obj["kind"])
    assert found is not None, (obj["apiVersion"], obj["kind"])
    return found


def manifest(api_version: str, kind: str, spec: Object | None = None, **rest: Any) -> Object:
    obj: Object = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, **rest}
    if resource_of(obj).namespaced:
        obj["metadata"]["namespace"] = "default"
    if spec is not None:
        obj["spec"] = spec
    return obj


def container(**extra: Any) -> Object:
    return {"name": "c", "image": "nginx", **extra}


def pod(name: str = "x", **spec: Any) -> Object:
    return manifest("v1", "Pod", {"containers": [container()], **spec}) | {
        "metadata": {"name": name, "namespace": "default"}
    }


def template(**spec: Any) -> Object:
    return {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [container()], **spec},
    }


def workload(api_version: str, kind: str, **spec: Any) -> Object:
    body = {"selector": {"matchLabels": {"app": "x"}}, "template": template(), **spec}
    return manifest(api_version, kind, body)


def deployment(**spec: Any) -> Object:
    return workload("apps/v1", "Deployment", **spec)


def service(*ports: int, **spec: Any) -> Object:
    named = [{"name": f"p{n}", "port": n} for n in ports or (80,)]
    return manifest("v1", "Service", {"ports": named, **spec})


def default(obj: Object) -> Object:
    resource = resource_of(obj)
    strategy.default((resource.group, resource.version, resource.kind), obj)
    return obj


def create(obj: Object) -> tuple[Object, list[FieldError]]:
    """The stored form of a new object and what is wrong with it."""
    resource = resource_of(obj)
    default(obj)
    obj["metadata"].setdefault("uid", "uid-1")
    obj["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
    strategy.prepare_create(resource, obj, now=NOW, new_uid=lambda: "uid-2")
    return obj, strategy.validate_create(resource, obj)


def stored(obj: Object) -> Object:
    made, errors = create(obj)
    assert not errors, [str(e) for e in errors]
    made["metadata"]["resourceVersion"] = "1"
    return made


def update(new: Object, old: Object, subresource: str = "") -> list[str]:
    """Messages of updating `old` to `new`, which is defaulted and prepared in place."""
    resource = resource_of(new)
    default(new)
    strategy.prepare_update(resource, new, old, subresource)
    return [str(e) for e in strategy.validate_update(resource, new, old, subresource)]


def complaints(obj: Object) -> list[str]:
    return [str(e) for e in create(obj)[1]]
