"""KubeSchedulerConfiguration: profiles, which plugins, their weights and arguments.

Plays pkg/scheduler/apis/config. What is not emulated is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.api.errors import NotEmulated

DEFAULT_PLUGINS: tuple[tuple[str, int], ...] = (
    ("SchedulingGates", 0),
    ("PrioritySort", 0),
    ("NodeUnschedulable", 0),
    ("NodeName", 0),
    ("TaintToleration", 3),
    ("NodeAffinity", 2),
    ("NodePorts", 0),
    ("NodeResourcesFit", 1),
    ("VolumeRestrictions", 0),
    ("VolumeBinding", 0),
    ("PodTopologySpread", 2),
    ("InterPodAffinity", 2),
    ("DynamicResources", 0),
    ("DefaultPreemption", 0),
    ("NodeResourcesBalancedAllocation", 1),
    ("ImageLocality", 1),
    ("DefaultBinder", 0),
)
"""Upstream's multiPoint order and weights."""
TOLERATED = frozenset({"NodeVolumeLimits", "VolumeZone", "GangScheduling"})
"""Upstream's defaults without an effect here: no volume is attached to anything."""

EXTENSION_POINTS = (
    "preEnqueue", "queueSort", "preFilter", "filter", "postFilter", "preScore", "score",
    "reserve", "permit", "preBind", "bind", "postBind",
)  # fmt: skip


class ConfigurationError(Exception):
    """The configuration cannot be used; the message names the field."""


@dataclass(frozen=True, slots=True)
class ProfileConfig:
    """`plugins` is (name, weight) in order; `points` holds what differs at single extension points:
    the names enabled there, in order."""

    scheduler_name: str = "default-scheduler"
    plugins: tuple[tuple[str, int], ...] = DEFAULT_PLUGINS
    points: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)
    args: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """`max_binding` bounds the bindings in flight: past it, pods wait in the active queue."""

    profiles: tuple[ProfileConfig, ...] = (ProfileConfig(),)
    initial_backoff_seconds: float = 1.0
    max_backoff_seconds: float = 10.0
    assumed_seconds: float = 0.0
    max_binding: int = 1000
    run_pods: int = 200

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SchedulerConfig:
        """Out of a KubeSchedulerConfiguration. Raises ConfigurationError, NotEmulated."""
        kind = document.get("kind", "KubeSchedulerConfiguration")
        if kind != "KubeSchedulerConfiguration":
            raise ConfigurationError(f'kind: "{kind}" is not KubeSchedulerConfiguration')
        if document.get("extenders"):
            raise NotEmulated("scheduler extenders")
        listed: Sequence[Mapping[str, Any]] = document.get("profiles") or ({},)
        profiles = tuple(_profile(p) for p in listed)
        names = [p.scheduler_name for p in profiles]
        if len(set(names)) != len(names):
            raise ConfigurationError("profiles: schedulerName must be unique")
        return cls(
            profiles=profiles,
            initial_backoff_seconds=float(document.get("podInitialBackoffSeconds") or 1),
            max_backoff_seconds=float(document.get("podMaxBackoffSeconds") or 10),
        )


def _profile(document: Mapping[str, Any]) -> ProfileConfig:
    plugins: Mapping[str, Any] = document.get("plugins") or {}
    unknown = set(plugins) - {"multiPoint", *EXTENSION_POINTS}
    if unknown:
        raise ConfigurationError(f"plugins: unknown extension point {sorted(unknown)[0]}")
    order = _changed(DEFAULT_PLUGINS, plugins.get("multiPoint") or {})
    points: dict[str, tuple[str, ...]] = {}
    weights: dict[str, int] = {}
    for point in EXTENSION_POINTS:
        if point in plugins:
            changed = _changed(order, plugins[point] or {})
            points[point] = tuple(name for name, _ in changed)
            if point == "score":
                weights.update({name: weight for name, weight in changed if weight})
    args = {
        str(each.get("name")): dict(each.get("args") or {})
        for each in document.get("pluginConfig") or ()
    }
    return ProfileConfig(
        scheduler_name=str(document.get("schedulerName") or "default-scheduler"),
        plugins=order,
        points=points,
        weights=weights,
        args=args,
    )


def _changed(
    order: Iterable[tuple[str, int]], change: Mapping[str, Any]
) -> tuple[tuple[str, int], ...]:
    """Disabled ones out ('*' all), enabled ones re-weighted in place or put at the end."""
    disabled = {str(each.get("name")) for each in change.get("disabled") or ()}
    kept = [(n, w) for n, w in order if "*" not in disabled and n not in disabled]
    weights = dict(kept)
    for each in change.get("enabled") or ():
        name, weight = str(each.get("name")), int(each.get("weight") or 0)
        if name in TOLERATED:
            continue
        if name in weights:
            kept = [(n, weight or w) if n == name else (n, w) for n, w in kept]
        else:
            kept.append((name, weight))
        weights[name] = weight
    return tuple(kept)
