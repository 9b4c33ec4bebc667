"""Which webhooks there are, in order, and which a request concerns."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cluster.api.errors import StatusError
from cluster.api.meta import GVR, NAMESPACES, Object
from cluster.api.selectors import LabelSelector
from cluster.apiserver.attributes import AdmissionRequest, Operation, Registry

MUTATING = GVR("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations")
VALIDATING = GVR("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations")
log = logging.getLogger(__name__)
Kind = Literal["mutating", "validating"]

_CACHE_SIZE = 4_096
# No webhook sees these: configurations could lock everybody out, reviews are only questions.
_EXCLUDED = frozenset((MUTATING.plural, VALIDATING.plural))
_EXCLUDED_GROUPS = frozenset(("authentication.k8s.io", "authorization.k8s.io"))


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook of one configuration."""

    kind: Kind
    configuration: str
    name: str
    rules: tuple[Mapping[str, Any], ...]
    client: Mapping[str, Any]
    namespace_selector: LabelSelector
    object_selector: LabelSelector
    fail_open: bool
    timeout_seconds: int
    side_effects: str
    reinvoke: bool


class Hooks:
    """Kept current by the registry. What a kind of request concerns is remembered."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._by_configuration: dict[tuple[Kind, str], tuple[Hook, ...]] = {}
        self._all: tuple[Hook, ...] = ()
        self._concerned: dict[tuple[Operation, GVR, str], tuple[Hook, ...]] = {}
        self.generation = 0
        registry.subscribe(MUTATING, lambda old, new: self._handle("mutating", old, new))
        registry.subscribe(VALIDATING, lambda old, new: self._handle("validating", old, new))

    def concerned(self, operation: Operation, gvr: GVR, subresource: str) -> tuple[Hook, ...]:
        """The hooks whose rules match, without a look at the object."""
        if not self._all:
            return ()
        key = (operation, gvr, subresource)
        known = self._concerned.get(key)
        if known is None:
            known = ()
            if gvr.group not in _EXCLUDED_GROUPS and gvr.plural not in _EXCLUDED:
                known = tuple(hook for hook in self._all if _rules_match(hook.rules, *key))
            if len(self._concerned) >= _CACHE_SIZE:
                self._concerned.clear()
            self._concerned[key] = known
        return known

    def matching(self, kind: Kind, request: AdmissionRequest) -> list[Hook]:
        """The hooks to call for this very object, in order."""
        candidates = self.concerned(request.operation, request.gvr, request.subresource)
        return [
            hook
            for hook in candidates
            if hook.kind == kind
            and self._scope_matches(hook, request)
            and self._namespace_matches(hook, request)
            and _object_matches(hook, request)
        ]

    def _scope_matches(self, hook: Hook, request: AdmissionRequest) -> bool:
        scope = "Namespaced" if request.namespace and request.gvr != NAMESPACES else "Cluster"
        key = (request.operation, request.gvr, request.subresource)
        return any(
            rule.get("scope", "*") in ("*", scope)
            for rule in hook.rules
            if _rules_match((rule,), *key)
        )

    def _namespace_matches(self, hook: Hook, request: AdmissionRequest) -> bool:
        if hook.namespace_selector.empty():
            return True
        if request.gvr == NAMESPACES:
            labels = _labels(request.obj or request.old)
        elif not request.namespace:
            return True
        else:
            labels = _labels(self._registry.get(NAMESPACES, "", request.namespace))
        return hook.namespace_selector.matches(labels)

    def _handle(self, kind: Kind, old: Object | None, new: Object | None) -> None:
        configuration = new or old
        assert configuration is not None
        key: tuple[Kind, str] = (kind, configuration["metadata"]["name"])
        if new is None:
            self._by_configuration.pop(key, None)
        else:
            try:
                self._by_configuration[key] = tuple(
                    _hook(kind, key[1], webhook) for webhook in new.get("webhooks") or ()
                )
            except (StatusError, KeyError, TypeError, ValueError) as error:
                # Stored by somebody who does not validate; the registry's subscribers never raise.
                log.warning("webhook configuration %s cannot be used: %s", key[1], error)
                self._by_configuration.pop(key, None)
        self._all = tuple(
            hook for _, hooks in sorted(self._by_configuration.items()) for hook in hooks
        )
        self._concerned.clear()
        self.generation += 1


def _hook(kind: Kind, configuration: str, webhook: Mapping[str, Any]) -> Hook:
    return Hook(
        kind=kind,
        configuration=configuration,
        name=str(webhook.get("name", "")),
        rules=tuple(webhook.get("rules") or ()),
        client=webhook.get("clientConfig") or {},
        namespace_selector=LabelSelector.from_dict(webhook.get("namespaceSelector") or {}),
        object_selector=LabelSelector.from_dict(webhook.get("objectSelector") or {}),
        fail_open=webhook.get("failurePolicy") == "Ignore",
        timeout_seconds=int(webhook.get("timeoutSeconds") or 10),
        side_effects=str(webhook.get("sideEffects") or ""),
        reinvoke=webhook.get("reinvocationPolicy") == "IfNeeded",
    )


def _rules_match(
    rules: Sequence[Mapping[str, Any]], operation: Operation, gvr: GVR, subresource: str
) -> bool:
    return any(
        _one_of(rule.get("operations"), operation)
        and _one_of(rule.get("apiGroups"), gvr.group)
        and _one_of(rule.get("apiVersions"), gvr.version)
        and _resource_matches(rule.get("resources") or (), gvr.plural, subresource)
        for rule in rules
    )


def _one_of(values: Sequence[str] | None, wanted: str) -> bool:
    return values is not None and ("*" in values or wanted in values)


def _resource_matches(patterns: Sequence[str], plural: str, subresource: str) -> bool:
    """`*` is every resource without its subresources, `*/*` with them, `pods/*`, `*/scale`."""
    for pattern in patterns:
        resource, _, sub = pattern.partition("/")
        if resource in ("*", plural) and sub in (subresource, "*"):
            return True
    return False


def _object_matches(hook: Hook, request: AdmissionRequest) -> bool:
    """The object as it is, or as it was."""
    if hook.object_selector.empty():
        return True
    return any(
        hook.object_selector.matches(_labels(obj))
        for obj in (request.obj, request.old)
        if obj is not None
    )


def _labels(obj: Object | None) -> Mapping[str, str]:
    labels: Mapping[str, str] = ((obj or {}).get("metadata") or {}).get("labels") or {}
    return labels
