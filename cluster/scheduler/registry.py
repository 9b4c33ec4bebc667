"""From names in a configuration to plugins: the scheduler's own composition root.

Plays pkg/scheduler/framework/plugins/registry.go and runtime.NewFramework.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.api.meta import Object
from cluster.client import Client
from cluster.scheduler.cache import Cache
from cluster.scheduler.config import ConfigurationError, ProfileConfig
from cluster.scheduler.framework import Plugin
from cluster.scheduler.plugins.basic import (
    DefaultBinder,
    ImageLocality,
    NodeName,
    NodePorts,
    NodeUnschedulable,
    PrioritySort,
    SchedulingGates,
)
from cluster.scheduler.plugins.interpodaffinity import InterPodAffinity
from cluster.scheduler.plugins.nodeaffinity import NodeAffinity
from cluster.scheduler.plugins.noderesources import BalancedAllocation, Fit, Strategy
from cluster.scheduler.plugins.podtopologyspread import PodTopologySpread
from cluster.scheduler.plugins.preemption import DefaultPreemption
from cluster.scheduler.plugins.refusal import Refusal
from cluster.scheduler.plugins.tainttoleration import TaintToleration
from cluster.scheduler.plugins.volumebinding import (
    BIND_SECONDS,
    Storage,
    VolumeBinding,
    VolumeRestrictions,
)
from cluster.scheduler.profile import Profile, Run
from cluster.scheduler.shape import Shape

Args = Mapping[str, Any]

METHODS = {
    "preEnqueue": "pre_enqueue",
    "preFilter": "pre_filter",
    "filter": "filter",
    "postFilter": "post_filter",
    "score": "score",
    "reserve": "reserve",
    "permit": "permit",
    "preBind": "pre_bind",
}


@dataclass(frozen=True, slots=True)
class Handle:
    """What plugins may use. `listed` gives the objects of a resource by plural name."""

    client: Client
    cache: Cache
    rng: random.Random
    listed: Callable[[str], Iterable[Object]]
    storage: Storage
    selector_of: Callable[[Shape], Mapping[str, Any] | None]
    run_of: Callable[[Shape], Run]


def build_profile(config: ProfileConfig, handle: Handle) -> Profile:
    """Raises ConfigurationError for a plugin that does not exist."""
    wanted = dict(config.plugins)
    for names in config.points.values():
        for name in names:
            wanted.setdefault(name, 0)
    made: dict[str, Plugin] = {}
    for name in wanted:
        factory = FACTORIES.get(name)
        if factory is None:
            raise ConfigurationError(f"plugins: there is no plugin {name!r}")
        made[name] = factory(handle, config.args.get(name, {}))

    def at(point: str) -> Sequence[Any]:
        names = config.points.get(point, tuple(name for name, _ in config.plugins))
        method = METHODS[point]
        return tuple(made[name] for name in names if hasattr(made[name], method))

    def first(point: str, method: str) -> Any:
        names = config.points.get(point, tuple(wanted))
        return next((made[n] for n in names if hasattr(made[n], method)), None)

    weights = {name: weight or 1 for name, weight in wanted.items()}
    weights.update(config.weights)
    return Profile(
        name=config.scheduler_name,
        pre_enqueue=at("preEnqueue"),
        queue_sort=first("queueSort", "sort_key"),
        pre_filter=at("preFilter"),
        filter=at("filter"),
        post_filter=at("postFilter"),
        score=at("score"),
        weights=weights,
        reserve=at("reserve"),
        permit=at("permit"),
        pre_bind=at("preBind"),
        bind=first("bind", "bind"),
        plugins=made,
    )


def _fit(handle: Handle, args: Args) -> Plugin:
    scoring = args.get("scoringStrategy") or {}
    kind = str(scoring.get("type") or "LeastAllocated")
    if kind not in ("LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"):
        raise ConfigurationError(f"scoringStrategy.type: {kind!r} is not known")
    points = (scoring.get("requestedToCapacityRatio") or {}).get("shape") or ()
    return Fit(
        Strategy(
            kind,
            _resources(scoring.get("resources")),
            tuple((int(p.get("utilization") or 0), int(p.get("score") or 0)) for p in points),
        ),
        tuple(args.get("ignoredResources") or ()),
        tuple(args.get("ignoredResourceGroups") or ()),
        handle.cache.nodes,
    )


def _resources(listed: Sequence[Args] | None) -> tuple[tuple[str, int], ...]:
    if not listed:
        return (("cpu", 1), ("memory", 1))
    return tuple((str(r["name"]), int(r.get("weight") or 1)) for r in listed)


FACTORIES: Mapping[str, Callable[[Handle, Args], Plugin]] = {
    "SchedulingGates": lambda handle, args: SchedulingGates(),
    "PrioritySort": lambda handle, args: PrioritySort(),
    "NodeUnschedulable": lambda handle, args: NodeUnschedulable(),
    "NodeName": lambda handle, args: NodeName(),
    "TaintToleration": lambda handle, args: TaintToleration(),
    "NodeAffinity": lambda handle, args: NodeAffinity(args.get("addedAffinity")),
    "NodePorts": lambda handle, args: NodePorts(),
    "NodeResourcesFit": _fit,
    "NodeResourcesBalancedAllocation": lambda handle, args: BalancedAllocation(
        _resources(args.get("resources"))
    ),
    "ImageLocality": lambda handle, args: ImageLocality(),
    "DefaultPreemption": lambda handle, args: DefaultPreemption(
        handle.run_of, lambda: handle.listed("poddisruptionbudgets"), handle.rng
    ),
    "DefaultBinder": lambda handle, args: DefaultBinder(handle.client),
    "VolumeRestrictions": lambda handle, args: VolumeRestrictions(
        handle.storage.claims, handle.cache.pods.values
    ),
    "VolumeBinding": lambda handle, args: VolumeBinding(
        handle.client, handle.storage, float(args.get("bindTimeoutSeconds") or BIND_SECONDS)
    ),
    "DynamicResources": lambda handle, args: Refusal(
        "DynamicResources", "resource claims in pods", lambda shape: shape.resource_claims
    ),
    "PodTopologySpread": lambda handle, args: PodTopologySpread(
        tuple(args.get("defaultConstraints") or ()),
        None if args.get("defaultingType") == "List" else handle.selector_of,
    ),
    "InterPodAffinity": lambda handle, args: InterPodAffinity(
        lambda: handle.listed("namespaces"), int(args.get("hardPodAffinityWeight", 1))
    ),
}
