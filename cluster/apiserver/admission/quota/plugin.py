"""The plugin and its ledger: charge in memory at once, write status soon after.

There is no task of its own: a flush is scheduled when something has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from cluster.api import quantity
from cluster.api.errors import Forbidden, NotFound, StatusError
from cluster.api.meta import GVR, RESOURCEQUOTAS, Clock, Object
from cluster.apiserver.admission.chain import Plugin
from cluster.apiserver.admission.quota.scopes import selects
from cluster.apiserver.admission.quota.usage import Usage, resource_types, usage_of
from cluster.apiserver.attributes import AdmissionRequest, Operation, Registry
from cluster.apiserver.authz.messages import forbidden_resource

FLUSH_SECONDS = 0.2
PENDING_SECONDS = 10.0
_REQUIRED = ("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory")
_UPDATED = frozenset(("services", "persistentvolumeclaims"))
_BINARY = ("memory", "storage")


@dataclass(slots=True)
class _Ledger:
    """One quota. `used` is None until somebody needs it, and again when an object has gone."""

    quota: Object
    hard: dict[str, Fraction]
    types: set[tuple[str, str]]
    used: Usage | None = None


@dataclass(slots=True)
class _Pending:
    """An object that was admitted and may not be in the registry yet."""

    gvr: GVR
    obj: Object
    deadline: float


@dataclass(slots=True)
class _Namespace:
    ledgers: dict[str, _Ledger] = field(default_factory=dict)
    pending: dict[tuple[str, str], _Pending] = field(default_factory=dict)


class ResourceQuota(Plugin):
    name = "ResourceQuota"

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._namespaces: dict[str, _Namespace] = {}
        self._followed: set[tuple[str, str]] = set()
        self._dirty: set[tuple[str, str]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        registry.subscribe(RESOURCEQUOTAS, self._handle_quota)

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        if operation == "CREATE":
            return not subresource
        if operation != "UPDATE" or gvr.group:
            return False
        if gvr.plural == "pods":
            return subresource == "resize"
        return gvr.plural in _UPDATED and not subresource

    def validate(self, request: AdmissionRequest) -> None:
        """Raises Forbidden when the object would exceed a quota; charges it otherwise."""
        namespace = self._namespaces.get(request.namespace)
        obj = request.obj
        if namespace is None or not namespace.ledgers or obj is None:
            return
        gvr = request.gvr
        charges: list[tuple[_Ledger, Usage]] = []
        for ledger in namespace.ledgers.values():
            if (gvr.group, gvr.plural) not in ledger.types:
                continue
            if not selects(ledger.quota, gvr, obj):
                continue
            if gvr.plural == "pods":
                _check_specified(request, ledger, obj)
            delta = self._delta(request, ledger, obj)
            if delta:
                charges.append((ledger, delta))
        for ledger, delta in charges:
            self._check(request, namespace, ledger, delta)
        if request.dry_run or not charges:
            return
        for ledger, delta in charges:
            self._charge(ledger, delta)
        self._remember(namespace, request, obj)

    async def close(self) -> None:
        """Write what is still unwritten; nothing is scheduled any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)

    async def flush(self) -> None:
        """Write every changed quota's status once."""
        dirty, self._dirty = self._dirty, set()
        writes = [self._write(namespace, name) for namespace, name in sorted(dirty)]
        for result in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, StatusError):
                raise result

    async def _write(self, namespace: str, name: str) -> None:
        entry = self._namespaces.get(namespace)
        ledger = entry.ledgers.get(name) if entry is not None else None
        if entry is None or ledger is None:
            return
        used = self._used(entry, ledger)
        status = {
            "hard": dict((ledger.quota.get("spec") or {}).get("hard") or {}),
            "used": {key: _text(key, used.get(key, Fraction(0))) for key in ledger.hard},
        }

        def change(quota: Object) -> Object | None:
            if quota.get("status") == status:
                return None
            quota["status"] = status
            return quota

        try:
            await self._registry.update(RESOURCEQUOTAS, namespace, name, change)
        except NotFound:
            return

    def _delta(self, request: AdmissionRequest, ledger: _Ledger, obj: Object) -> Usage:
        """What the request adds to what the quota counts; growth only."""
        now = self._clock.now()
        new = usage_of(request.gvr, obj, now)
        old: Usage = {}
        if request.operation == "UPDATE" and request.old is not None:
            old = usage_of(request.gvr, request.old, now)
        return {
            name: amount - old.get(name, Fraction(0))
            for name, amount in new.items()
            if name in ledger.hard and amount > old.get(name, Fraction(0))
        }

    def _check(
        self, request: AdmissionRequest, namespace: _Namespace, ledger: _Ledger, delta: Usage
    ) -> None:
        used = self._used(namespace, ledger)
        over = sorted(
            name
            for name, amount in delta.items()
            if used.get(name, Fraction(0)) + amount > ledger.hard[name]
        )
        if not over:
            return

        def listed(amounts: Mapping[str, Fraction]) -> str:
            return ",".join(f"{k}={_text(k, amounts.get(k, Fraction(0)))}" for k in over)

        name = ledger.quota["metadata"]["name"]
        raise _refuse(
            request,
            f"exceeded quota: {name}, requested: {listed(delta)}, used: {listed(used)},"
            f" limited: {listed(ledger.hard)}",
        )

    def _charge(self, ledger: _Ledger, delta: Usage) -> None:
        used = ledger.used
        if used is not None:
            for name, amount in delta.items():
                used[name] = used.get(name, Fraction(0)) + amount
        self._mark(ledger)

    def _remember(self, namespace: _Namespace, request: AdmissionRequest, obj: Object) -> None:
        name = obj["metadata"].get("name") or request.name
        if not name or request.operation != "CREATE":
            return
        deadline = self._clock.now() + PENDING_SECONDS
        namespace.pending[request.gvr.plural, name] = _Pending(request.gvr, obj, deadline)

    def _used(self, namespace: _Namespace, ledger: _Ledger) -> Usage:
        """What is used now: counted anew if an object has gone since."""
        if ledger.used is not None:
            return ledger.used
        now = self._clock.now()
        total: Usage = {}
        name = ledger.quota["metadata"]["namespace"]
        seen: set[tuple[str, str]] = set()
        for group, plural in ledger.types:
            gvr = GVR(group, "", plural)
            for obj in self._registry.list(gvr, name):
                seen.add((plural, obj["metadata"]["name"]))
                _count(total, ledger, gvr, obj, now)
        for key, pending in list(namespace.pending.items()):
            if key in seen or now > pending.deadline:
                del namespace.pending[key]
            elif (pending.gvr.group, pending.gvr.plural) in ledger.types:
                _count(total, ledger, pending.gvr, pending.obj, now)
        ledger.used = total
        return total

    def _mark(self, ledger: _Ledger) -> None:
        metadata = ledger.quota["metadata"]
        self._dirty.add((metadata["namespace"], metadata["name"]))
        self._schedule()

    def _schedule(self) -> None:
        """Flush soon, together with whatever else changes until then."""
        if self._timer is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # decided outside of a loop: whoever does that calls flush
        self._timer = loop.call_later(FLUSH_SECONDS, self._start_flush)

    def _start_flush(self) -> None:
        self._timer = None
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.get_running_loop().create_task(self.flush())
        else:
            self._schedule()

    def _handle_quota(self, old: Object | None, new: Object | None) -> None:
        quota = new or old
        assert quota is not None
        metadata = quota["metadata"]
        namespace = self._namespaces.setdefault(metadata["namespace"], _Namespace())
        if new is None:
            namespace.ledgers.pop(metadata["name"], None)
            if not namespace.ledgers:
                del self._namespaces[metadata["namespace"]]
            return
        known = namespace.ledgers.get(metadata["name"])
        if known is not None and known.quota.get("spec") == new.get("spec"):
            known.quota = new
            return
        listed = (new.get("spec") or {}).get("hard") or {}
        hard = _amounts(listed)
        ledger = _Ledger(new, hard, resource_types(hard))
        namespace.ledgers[metadata["name"]] = ledger
        for group, plural in ledger.types - self._followed:
            self._followed.add((group, plural))
            self._follow(GVR(group, "v1", plural))
        self._mark(ledger)

    def _follow(self, gvr: GVR) -> None:
        """Hear of objects that go or change, so that what they used is counted anew."""

        def handle(old: Object | None, new: Object | None) -> None:
            obj = new or old
            assert obj is not None
            namespace = self._namespaces.get(obj["metadata"].get("namespace", ""))
            if namespace is None or (old is None and self._expected(namespace, gvr, obj)):
                return
            if old is not None and new is not None and self._same(gvr, old, new):
                return
            for ledger in namespace.ledgers.values():
                if (gvr.group, gvr.plural) in ledger.types:
                    ledger.used = None
                    self._mark(ledger)

        self._registry.subscribe(gvr, handle)

    def _same(self, gvr: GVR, old: Object, new: Object) -> bool:
        """Does the object use what it used before? Most updates are of a pod's status."""
        if old.get("spec") == new.get("spec") and _phase(old) == _phase(new):
            return True
        now = self._clock.now()
        return usage_of(gvr, old, now) == usage_of(gvr, new, now)

    def _expected(self, namespace: _Namespace, gvr: GVR, obj: Object) -> bool:
        """A new object that was charged when it was admitted."""
        return namespace.pending.pop((gvr.plural, obj["metadata"]["name"]), None) is not None


def _amounts(listed: Mapping[str, Any]) -> dict[str, Fraction]:
    """What can be read of a stored quota; the registry's subscribers never raise."""
    amounts = {}
    for name, text in listed.items():
        with contextlib.suppress(ValueError):
            amounts[name] = quantity.parse(text)
    return amounts


def _phase(obj: Object) -> object:
    return (obj.get("status") or {}).get("phase"), obj["metadata"].get("deletionTimestamp")


def _count(total: Usage, ledger: _Ledger, gvr: GVR, obj: Object, now: float) -> None:
    if not selects(ledger.quota, gvr, obj):
        return
    for name, amount in usage_of(gvr, obj, now).items():
        if name in ledger.hard:
            total[name] = total.get(name, Fraction(0)) + amount


def _check_specified(request: AdmissionRequest, ledger: _Ledger, pod: Object) -> None:
    """A quota over cpu or memory wants every container to say how much it needs."""
    missing: dict[str, list[str]] = {}
    for key in ("containers", "initContainers"):
        for container in (pod.get("spec") or {}).get(key) or ():
            resources = container.get("resources") or {}
            for name in _REQUIRED:
                if name not in ledger.hard:
                    continue
                side, _, resource = name.rpartition(".")
                if resource not in (resources.get(side or "requests") or {}):
                    missing.setdefault(name, []).append(container.get("name", ""))
    if missing:
        listed = "; ".join(
            f"{name} for: {','.join(sorted(set(missing[name])))}" for name in sorted(missing)
        )
        name = ledger.quota["metadata"]["name"]
        raise _refuse(request, f"failed quota: {name}: must specify {listed}")


def _refuse(request: AdmissionRequest, message: str) -> Forbidden:
    return forbidden_resource(request.gvr.group, request.gvr.plural, request.name, message)


def _text(name: str, amount: Fraction) -> str:
    """The canonical text: binary for bytes, decimal for everything else."""
    if amount.denominator == 1 and any(part in name for part in _BINARY):
        return quantity.format_value(int(amount), binary=True)
    return quantity.format_milli(int(-(-amount * 1000 // 1)))
