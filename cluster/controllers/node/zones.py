"""How fast nodes of a zone may be tainted NoExecute: slower when much of it is sick, not at all
when all is.

Plays ComputeZoneState, handleDisruption and RateLimitedTimedQueue of pkg/controller/nodelifecycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.api.meta import Object

NORMAL, PARTIAL, FULL, INITIAL = "Normal", "PartialDisruption", "FullDisruption", "Initial"


@dataclass(frozen=True, slots=True)
class Rates:
    """Nodes a second and zone; thresholds as upstream's flags of those names."""

    primary: float = 0.1
    secondary: float = 0.01
    unhealthy_threshold: float = 0.55
    large_zone: int = 50


def zone_of(node: Object) -> str:
    """Region and zone of a node as one key, '' for a node without."""
    labels = node["metadata"].get("labels") or {}
    region = labels.get("topology.kubernetes.io/region", "")
    zone = labels.get("topology.kubernetes.io/zone", "")
    return f"{region}:\x00:{zone}" if region or zone else ""


def zone_state(ready: int, not_ready: int, rates: Rates) -> str:
    """The verdict on one zone of so many nodes."""
    total = ready + not_ready
    if not ready and not_ready > 0:
        return FULL
    if not_ready > 2 and not_ready / total >= rates.unhealthy_threshold:
        return PARTIAL
    return NORMAL


def zone_rates(zones: Mapping[str, tuple[int, int]], rates: Rates) -> dict[str, float]:
    """Taints a second for every zone of (ready, not ready) nodes.

    All zones fully sick: nobody is evicted anywhere, the fault is ours. One zone fully sick among
    others: as normal.
    """
    states = {zone: zone_state(ready, sick, rates) for zone, (ready, sick) in zones.items()}
    if states and all(s == FULL for s in states.values()):
        return dict.fromkeys(states, 0.0)
    found: dict[str, float] = {}
    for zone, state in states.items():
        if state == PARTIAL:
            found[zone] = rates.secondary if sum(zones[zone]) > rates.large_zone else 0.0
        else:
            found[zone] = rates.primary
    return found


@dataclass(slots=True)
class Bucket:
    """Nodes of a zone waiting to be tainted, let through at a rate (burst 1)."""

    waiting: dict[str, None] = field(default_factory=dict)
    rate: float = 0.1
    tokens: float = 1.0
    filled_at: float | None = None

    def take(self, now: float) -> str | None:
        """The next node that may be tainted now, if any."""
        if self.filled_at is not None:
            self.tokens = min(1.0, self.tokens + (now - self.filled_at) * self.rate)
        self.filled_at = now
        if not self.waiting or self.rate <= 0 or self.tokens < 1.0:
            return None
        self.tokens -= 1.0
        node = next(iter(self.waiting))
        del self.waiting[node]
        return node
