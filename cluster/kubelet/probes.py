"""Liveness, readiness and startup probes: thresholds decided here, questions asked by handlers.py.

Plays pkg/kubelet/prober. A probe is one timer on the loop; between two questions it costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from cluster.api.meta import Object
from cluster.kubelet.handlers import Verdict

ProbeType = Literal["liveness", "readiness", "startup"]
SPEC_FIELDS: dict[ProbeType, str] = {
    "startup": "startupProbe",
    "readiness": "readinessProbe",
    "liveness": "livenessProbe",
}


@dataclass(slots=True)
class Tally:
    """Results of one probe in a row; `value` is what they amount to (None: nothing known yet)."""

    success_threshold: int
    failure_threshold: int
    value: bool | None = None
    last: bool | None = None
    row: int = 0

    def handle_result(self, ok: bool) -> bool:
        """Count one; True if `value` changed."""
        self.row = self.row + 1 if self.last == ok else 1
        self.last = ok
        needed = self.success_threshold if ok else self.failure_threshold
        if self.row < needed or self.value == ok:
            return False
        self.value = ok
        return True


Ask = Callable[[Object, float], Awaitable[Verdict]]
"""Runs a probe's handler within seconds."""
Tell = Callable[[ProbeType, bool, Verdict, bool], None]
"""Told of every result: type, the tally's value (True unless failed), the verdict, whether it
changed."""


class Prober:
    """One probe of one running container."""

    __slots__ = (
        "_ask", "_handle", "_initial", "_period", "_spec", "_task", "_tell", "_timeout", "tally",
        "type",
    )  # fmt: skip

    def __init__(self, type_: ProbeType, spec: Object, ask: Ask, tell: Tell) -> None:
        self.type = type_
        self._spec = spec
        self._ask = ask
        self._tell = tell
        self._period = float(spec.get("periodSeconds") or 10)
        self._timeout = float(spec.get("timeoutSeconds") or 1)
        self._initial = float(spec.get("initialDelaySeconds") or 0)
        self._handle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.tally = Tally(spec.get("successThreshold") or 1, spec.get("failureThreshold") or 3)

    def start(self, running_seconds: float) -> None:
        """First question once the container has run for the initial delay."""
        delay = max(0.0, self._initial - running_seconds)
        self._handle = asyncio.get_running_loop().call_later(delay, self._fire)

    def stop(self) -> None:
        """Idempotent. A question under way is dropped."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _fire(self) -> None:
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(self._period, self._fire)
        if self._task is None:
            self._task = loop.create_task(self._run())

    async def _run(self) -> None:
        verdict = await self._ask(self._spec, self._timeout)
        self._task = None
        if self._handle is None:
            return
        if verdict.unknown:
            self._tell(self.type, self.tally.value is not False, verdict, False)
            return
        changed = self.tally.handle_result(verdict.ok)
        self._tell(self.type, self.tally.value is not False, verdict, changed)
