"""How many requests may be under way. Plays k8s.io/apiserver/pkg/server/filters/maxinflight.go.

Heartbeats (leases, node status) pass even when everything else is refused: a busy server must not
make nodes look dead.
"""

from __future__ import annotations

from cluster.api.errors import TooManyRequests
from cluster.apiserver.call import Call
from cluster.metrics.apiserver import ApiServerMetrics

_READ = frozenset({"get", "list", "watch"})
_HEARTBEATS = frozenset({("coordination.k8s.io", "leases", ""), ("", "nodes", "status")})


class InFlight:
    """Counts of waiting requests; `enter` and `leave` come in pairs."""

    def __init__(self, mutating: int, reading: int, metrics: ApiServerMetrics) -> None:
        self._limits = (reading, mutating)
        self._counts = [0, 0]
        self._gauges = (
            metrics.in_flight.labels("readOnly"),
            metrics.in_flight.labels("mutating"),
        )

    def enter(self, call: Call) -> int:
        """Raises TooManyRequests. Gives what `leave` wants back."""
        kind = 0 if call.verb in _READ else 1
        if self._counts[kind] >= self._limits[kind]:
            route = call.route
            if (route.group, route.plural, route.subresource) not in _HEARTBEATS:
                raise TooManyRequests("too many requests, please try again later")
        self._counts[kind] += 1
        self._gauges[kind].set(self._counts[kind])
        return kind

    def leave(self, kind: int) -> None:
        self._counts[kind] -= 1
        self._gauges[kind].set(self._counts[kind])
