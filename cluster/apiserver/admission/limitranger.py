"""LimitRanger: plugin/pkg/admission/limitranger. Defaults for containers that ask for nothing, and
bounds for containers, pods and claims, out of the namespace's LimitRanges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cluster.api import quantity
from cluster.api.meta import GVR, LIMITRANGES, Object
from cluster.apiserver.admission.chain import Plugin
from cluster.apiserver.attributes import AdmissionRequest, Operation, Registry
from cluster.apiserver.authz.messages import forbidden_resource

ANNOTATION = "kubernetes.io/limit-ranger"
Quantities = Mapping[str, Any]


class LimitRanger(Plugin):
    name = "LimitRanger"

    def __init__(self, registry: Registry) -> None:
        self._ranges: dict[str, dict[str, Object]] = {}
        registry.subscribe(LIMITRANGES, self._handle_range)

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        if gvr.group or subresource:
            return False
        if gvr.plural == "pods":
            return operation == "CREATE"
        return gvr.plural == "persistentvolumeclaims" and operation in ("CREATE", "UPDATE")

    def admit(self, request: AdmissionRequest) -> None:
        ranges = self._ranges.get(request.namespace)
        if not ranges or request.obj is None or request.gvr.plural != "pods":
            return
        for limit_range in ranges.values():
            _apply_defaults(request.obj, limit_range)

    def validate(self, request: AdmissionRequest) -> None:
        ranges = self._ranges.get(request.namespace)
        obj = request.obj
        if not ranges or obj is None or obj["metadata"].get("deletionTimestamp"):
            return
        for limit_range in ranges.values():
            errors = list(_violations(obj, limit_range, request.gvr.plural))
            if errors:
                message = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
                raise forbidden_resource("", request.gvr.plural, request.name, message)

    def _handle_range(self, old: Object | None, new: Object | None) -> None:
        limit_range = new or old
        assert limit_range is not None
        namespace, name = limit_range["metadata"]["namespace"], limit_range["metadata"]["name"]
        if new is not None:
            self._ranges.setdefault(namespace, {})[name] = new
            return
        ranges = self._ranges.get(namespace, {})
        ranges.pop(name, None)
        if not ranges:
            self._ranges.pop(namespace, None)


def _items(limit_range: Object, kind: str) -> Iterator[Object]:
    for item in (limit_range.get("spec") or {}).get("limits") or ():
        if item.get("type") == kind:
            yield item


def _apply_defaults(pod: Object, limit_range: Object) -> None:
    requests: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for item in _items(limit_range, "Container"):
        requests.update(item.get("defaultRequest") or {})
        limits.update(item.get("default") or {})
    if not requests and not limits:
        return
    set_: list[str] = []
    for key, label in (("containers", "container"), ("initContainers", "init container")):
        for container in pod.setdefault("spec", {}).get(key) or ():
            resources = container.get("resources") or {}
            for field, wanted in (("requests", requests), ("limits", limits)):
                have = resources.get(field) or {}
                added = {k: v for k, v in wanted.items() if k not in have}
                if added:
                    resources[field] = {**have, **added}
                    names = ", ".join(sorted(added))
                    set_.append(f"{names} {field[:-1]} for {label} {container.get('name', '')}")
            if resources:
                container["resources"] = resources
    if set_:
        annotations = pod["metadata"].get("annotations") or {}
        annotations[ANNOTATION] = "LimitRanger plugin set: " + "; ".join(set_)
        pod["metadata"]["annotations"] = annotations


def _violations(obj: Object, limit_range: Object, plural: str) -> Iterator[str]:
    if plural == "persistentvolumeclaims":
        requests = (obj.setdefault("spec", {}).get("resources") or {}).get("requests") or {}
        for item in _items(limit_range, "PersistentVolumeClaim"):
            for name, bound in (item.get("min") or {}).items():
                yield from _minimum("PersistentVolumeClaim", name, bound, requests, {})
            for name, bound in (item.get("max") or {}).items():
                yield from _maximum_request("PersistentVolumeClaim", name, bound, requests)
        return
    spec = obj.setdefault("spec", {})
    for item in _items(limit_range, "Container"):
        for key in ("containers", "initContainers"):
            for container in spec.get(key) or ():
                resources = container.get("resources") or {}
                yield from _bounds(
                    item, resources.get("requests") or {}, resources.get("limits") or {}
                )
    for item in _items(limit_range, "Pod"):
        yield from _bounds(item, _pod_sum(spec, "requests"), _pod_sum(spec, "limits"))


def _bounds(item: Object, requests: Quantities, limits: Quantities) -> Iterator[str]:
    kind = item["type"]
    for name, bound in (item.get("min") or {}).items():
        yield from _minimum(kind, name, bound, requests, limits)
    for name, bound in (item.get("max") or {}).items():
        yield from _maximum(kind, name, bound, requests, limits)
    for name, bound in (item.get("maxLimitRequestRatio") or {}).items():
        yield from _ratio(kind, name, bound, requests, limits)


def _minimum(
    kind: str, name: str, bound: Any, requests: Quantities, limits: Quantities
) -> Iterator[str]:
    head = f"minimum {name} usage per {kind} is {_text(bound)}"
    wanted = quantity.parse(bound)
    if name not in requests:
        yield f"{head}.  No request is specified"
    elif quantity.parse(requests[name]) < wanted:
        yield f"{head}, but request is {_text(requests[name])}"
    elif name in limits and quantity.parse(limits[name]) < wanted:
        yield f"{head}, but limit is {_text(limits[name])}"


def _maximum(
    kind: str, name: str, bound: Any, requests: Quantities, limits: Quantities
) -> Iterator[str]:
    head = f"maximum {name} usage per {kind} is {_text(bound)}"
    most = quantity.parse(bound)
    if name not in limits:
        yield f"{head}.  No limit is specified"
    elif quantity.parse(limits[name]) > most:
        yield f"{head}, but limit is {_text(limits[name])}"
    elif name in requests and quantity.parse(requests[name]) > most:
        yield f"{head}, but request is {_text(requests[name])}"


def _maximum_request(kind: str, name: str, bound: Any, requests: Quantities) -> Iterator[str]:
    head = f"maximum {name} usage per {kind} is {_text(bound)}"
    if name not in requests:
        yield f"{head}.  No request is specified"
    elif quantity.parse(requests[name]) > quantity.parse(bound):
        yield f"{head}, but request is {_text(requests[name])}"


def _ratio(
    kind: str, name: str, bound: Any, requests: Quantities, limits: Quantities
) -> Iterator[str]:
    head = f"{name} max limit to request ratio per {kind} is {_text(bound)}"
    request = quantity.parse(requests.get(name, 0))
    limit = quantity.parse(limits.get(name, 0))
    if not request:
        yield f"{head}, but no request is specified or request is 0"
    elif not limit:
        yield f"{head}, but no limit is specified or limit is 0"
    elif limit / request > quantity.parse(bound):
        yield f"{head}, but provided ratio is {float(limit / request):f}"


def _pod_sum(spec: Object, field: str) -> dict[str, str]:
    """What all containers together ask for, of the resources that each of them names; an init
    container counts where it asks for more than all others."""

    def lists(key: str) -> Iterable[Quantities]:
        return [(c.get("resources") or {}).get(field) or {} for c in spec.get(key) or ()]

    containers = list(lists("containers"))
    total = {
        name: sum(quantity.parse(c[name]) for c in containers)
        for name in (containers[0] if containers else {})
        if all(name in c for c in containers)
    }
    for init in lists("initContainers"):
        for name, asked in init.items():
            total[name] = max(total.get(name, quantity.parse(0)), quantity.parse(asked))
    return {
        name: quantity.canonical(quantity.format_milli(int(amount * 1000)))
        for name, amount in total.items()
    }


def _text(amount: Any) -> str:
    return quantity.canonical(amount)
