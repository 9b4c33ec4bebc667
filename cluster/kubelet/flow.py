"""Reports of stage times to the API server's flow log (`kubestage flow`): best effort, few a
second.

# Unlike Kubernetes: it has nothing of the kind. Pods past RATE a second are left out, so that a
storm of pods is not slowed by being described.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from cluster.api.meta import Clock, Object
from cluster.client import Client

PATH = "/apis/kubestage.io/v1/flow"
RATE = 20.0
BURST = 60.0


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
        for stage, (start, end) in marks.items():
            self._pending.append(
                {"namespace": namespace, "pod": pod, "stage": stage, "start": start, "end": end,
                 "detail": detail}
            )  # fmt: skip
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(0.05, self._send)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _send(self) -> None:
        self._timer = None
        pending, self._pending = self._pending, []
        flight = self._client.submit("POST", PATH, pending, answer="none")
        flight.add_done_callback(lambda f: f.cancelled() or f.exception())
