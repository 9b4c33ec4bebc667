"""Which Services select which pods, asked per label set instead of per pod, and which Services a
change touches."""

from __future__ import annotations

from cluster.api.meta import Object
from cluster.api.selectors import LabelSelector
from cluster.controllers.podindex import LabelsKey, PodChange, PodIndex, is_ready


def selector_of(service: Object) -> LabelSelector | None:
    """None for a Service whose endpoints nobody computes (no selector, ExternalName)."""
    spec = service["spec"]
    if not spec.get("selector") or spec.get("type") == "ExternalName":
        return None
    return LabelSelector.from_map(spec["selector"])


class Selection:
    """Services by namespace; the answer for each label set is kept until a Service changes."""

    def __init__(self) -> None:
        self._selectors: dict[
            str, dict[str, LabelSelector]
        ] = {}  # namespace -> service key -> selector
        self._matches: dict[str, dict[LabelsKey, tuple[str, ...]]] = {}

    def handle_service(self, key: str, service: Object | None) -> None:
        """Take in a Service's new state (None: deleted)."""
        namespace = key.partition("/")[0]
        selector = selector_of(service) if service is not None else None
        held = self._selectors.setdefault(namespace, {})
        if selector is None:
            held.pop(key, None)
        else:
            held[key] = selector
        self._matches.pop(namespace, None)

    def services_of(self, namespace: str, labels: LabelsKey) -> tuple[str, ...]:
        """Keys of the Services that select pods with these labels."""
        selectors = self._selectors.get(namespace)
        if not selectors:
            return ()
        known = self._matches.setdefault(namespace, {})
        found = known.get(labels)
        if found is None:
            mapping = dict(labels)
            found = known[labels] = tuple(k for k, s in selectors.items() if s.matches(mapping))
        return found

    def pods_of(self, key: str, pods: PodIndex) -> list[str]:
        """Keys of the pods that a Service selects."""
        namespace = key.partition("/")[0]
        return [
            pod
            for labels, keys in pods.label_sets(namespace).items()
            if key in self.services_of(namespace, labels)
            for pod in keys
        ]

    def touched(self, change: PodChange) -> tuple[str, ...]:
        """Services whose endpoints a pod's change may alter."""
        before, after = change.before, change.after
        facts = after or before
        assert facts is not None
        if facts.namespace not in self._selectors:
            return ()
        if before is None or after is None:
            return self.services_of(facts.namespace, facts.labels)
        if before.labels != after.labels:
            old = self.services_of(before.namespace, before.labels)
            return tuple({*old, *self.services_of(after.namespace, after.labels)})
        if before == after and not _endpoint_changed(change.old, change.new):
            return ()
        return self.services_of(after.namespace, after.labels)


def _endpoint_changed(old: Object | None, new: Object | None) -> bool:
    """Addresses, readiness or deletion changed (endpointsliceutil.podEndpointsChanged)."""
    if old is None or new is None:
        return True
    a, b = old.get("status") or {}, new.get("status") or {}
    return (
        a.get("podIP") != b.get("podIP")
        or a.get("podIPs") != b.get("podIPs")
        or ("deletionTimestamp" in old["metadata"]) != ("deletionTimestamp" in new["metadata"])
        or is_ready(old) != is_ready(new)
    )
