"""Reports of stage times to the API server's flow log (`kubestage flow`), best effort.

# Unlike Kubernetes: it has nothing of the kind. Pods past RATE a second are left out, so that a
storm of pods is not slowed by being described.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from cluster.api.meta import Clock, Object
from cluster.client.rest import Client

PATH = "/apis/kubestage.io/v1/flow/"
"""A list of many pods' stages goes here. With the slash: reporters are allowed what is below it."""
RATE = 20.0
BURST = 60.0
GATHER_SECONDS = 0.05


class FlowReporter:
    """Gathers stages for a moment and posts them together."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._tokens = BURST
        self._filled = clock.monotonic()
        self._pending: list[Object] = []
        self._timer: asyncio.TimerHandle | None = None

    def report(
        self, namespace: str, pod: str, marks: Mapping[str, tuple[float, float]], detail: Object
    ) -> None:
        """Stages of one pod: name -> (start, end) in seconds since the epoch."""
        now = self._clock.monotonic()
        self._tokens = min(BURST, self._tokens + (now - self._filled) * RATE)
        self._filled = now
        if self._tokens < 1:
            return
        self._tokens -= 1
        about = {"namespace": namespace, "pod": pod, "detail": detail}
        for stage, (start, end) in marks.items():
            self._pending.append({**about, "stage": stage, "start": start, "end": end})
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._send)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self) -> None:
        self._timer = None
        pending, self._pending = self._pending, []
        flight = self._client.submit("POST", PATH, pending, answer="none")
        flight.add_done_callback(_forget)


def _forget(flight: asyncio.Future[Object]) -> None:
    if not flight.cancelled():
        flight.exception()
