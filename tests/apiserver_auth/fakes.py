"""A registry in memory and a clock that stands still."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from cluster.api.errors import AlreadyExists, NotFound
from cluster.api.meta import GVR, Object
from cluster.apiserver.attributes import Attributes, UserInfo

START = 1_800_000_000.0
Handler = Callable[[Object | None, Object | None], None]


class FakeClock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class FakeRegistry:
    """attributes.Registry over dicts."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[tuple[str, str], Object]] = {}
        self.handlers: dict[tuple[str, str], list[Handler]] = {}
        self.writes = 0

    def get(self, gvr: GVR, namespace: str, name: str) -> Object | None:
        return self.objects.get((gvr.group, gvr.plural), {}).get((namespace, name))

    def list(self, gvr: GVR, namespace: str = "") -> Iterable[Object]:
        kind = self.objects.get((gvr.group, gvr.plural), {})
        return [o for (ns, _), o in sorted(kind.items()) if namespace in ("", ns)]

    def subscribe(self, gvr: GVR, handler: Handler) -> None:
        for obj in self.list(gvr):
            handler(None, obj)
        self.handlers.setdefault((gvr.group, gvr.plural), []).append(handler)

    async def create(self, gvr: GVR, namespace: str, obj: Object) -> Object:
        if self.get(gvr, namespace, obj["metadata"]["name"]) is not None:
            raise AlreadyExists(obj["metadata"]["name"])
        self.put(gvr, obj)
        return obj

    async def update(
        self, gvr: GVR, namespace: str, name: str, change: Callable[[Object], Object | None]
    ) -> Object:
        current = self.get(gvr, namespace, name)
        if current is None:
            raise NotFound(name)
        new = change(json.loads(json.dumps(current)))
        if new is None:
            return current
        self.put(gvr, new)
        return new

    def put(self, gvr: GVR, obj: Object) -> Object:
        """Store as it is and tell the subscribers."""
        self.writes += 1
        meta = obj["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        kind = self.objects.setdefault((gvr.group, gvr.plural), {})
        old = kind.get(key)
        kind[key] = obj
        for handler in self.handlers.get((gvr.group, gvr.plural), ()):
            handler(old, obj)
        return obj

    def remove(self, gvr: GVR, namespace: str, name: str) -> None:
        old = self.objects[gvr.group, gvr.plural].pop((namespace, name))
        for handler in self.handlers.get((gvr.group, gvr.plural), ()):
            handler(old, None)


def user(name: str, *groups: str) -> UserInfo:
    return UserInfo(name, (*groups, "system:authenticated"))


def node(name: str) -> UserInfo:
    return UserInfo(f"system:node:{name}", ("system:nodes", "system:authenticated"))


def asks(who: UserInfo, verb: str, resource: str, namespace: str = "", **more: Any) -> Attributes:
    """`resource` is RESOURCE[.GROUP][/SUBRESOURCE]."""
    resource, _, subresource = resource.partition("/")
    resource, _, group = resource.partition(".")
    return Attributes(
        user=who,
        verb=verb,
        path="",
        is_resource=True,
        group=group,
        version="v1",
        resource=resource,
        subresource=subresource,
        namespace=namespace,
        **more,
    )


def visits(who: UserInfo, path: str, verb: str = "get") -> Attributes:
    return Attributes(user=who, verb=verb, path=path, is_resource=False)


def named(name: str, namespace: str = "", uid: str = "", **fields: Any) -> Object:
    meta: Object = {"name": name, "uid": uid or f"uid-of-{name}"}
    if namespace:
        meta["namespace"] = namespace
    return {"metadata": meta, **fields}
