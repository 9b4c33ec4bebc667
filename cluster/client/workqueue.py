"""Keys to reconcile: each at most once at a time, again if it changed meanwhile, later if it
failed.

Plays k8s.io/client-go/util/workqueue (dedup, delaying and rate limiting queues, default limits:
5 ms * 2**n up to 1,000 s an item, together with 10 a second and a burst of 100 overall).
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from cluster.api.errors import Conflict, StatusError
from cluster.api.meta import Clock
from cluster.metrics.client import WorkQueueMetrics

log = logging.getLogger(__name__)

BASE_SECONDS, MAX_SECONDS = 0.005, 1000.0
BUCKET_RATE, BUCKET_BURST = 10.0, 100.0

Reconcile = Callable[[str], Awaitable[float | None]]
"""None: done, forget its failures. A number: again after so many seconds. Raises: again with
back-off."""


class ShutDown(Exception):
    """The queue is shut down and empty: the worker ends."""


class RateLimiter:
    """When to try an item again: the later of its own back-off and the common token bucket."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[str, int] = {}
        self._tokens = BUCKET_BURST
        self._filled_at = clock.monotonic()

    def when(self, key: str) -> float:
        """Seconds until the next try; counts a failure."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        own = min(MAX_SECONDS, BASE_SECONDS * 2.0 ** min(failures, 60))
        now = self._clock.monotonic()
        self._tokens = min(BUCKET_BURST, self._tokens + (now - self._filled_at) * BUCKET_RATE)
        self._filled_at = now
        self._tokens -= 1
        common = 0.0 if self._tokens >= 0 else -self._tokens / BUCKET_RATE
        return max(own, common)

    def forget(self, key: str) -> None:
        self._failures.pop(key, None)

    def num_requeues(self, key: str) -> int:
        return self._failures.get(key, 0)


class WorkQueue:
    """A queue of keys. Everything but `get` is synchronous; use it inside one event loop."""

    def __init__(self, name: str, clock: Clock, metrics: WorkQueueMetrics | None = None) -> None:
        self.name = name
        self._clock = clock
        self._limiter = RateLimiter(clock)
        self._queue: deque[str] = deque()
        self._dirty: set[str] = set()
        self._processing: dict[str, float] = {}
        self._added_at: dict[str, float] = {}
        self._getters: deque[asyncio.Future[None]] = deque()
        self._heap: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._shut_down = False
        self._metrics = _Children(metrics, name) if metrics is not None else None
        if metrics is not None:
            metrics.depth.labels(name).set_function(lambda: float(len(self._queue)))
            metrics.unfinished_seconds.labels(name).set_function(self._unfinished)
            metrics.longest_seconds.labels(name).set_function(self._longest)

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """Nothing waits, nothing is being reconciled, nothing is delayed."""
        return not (self._queue or self._processing or self._due)

    def add(self, key: str) -> None:
        """Mark as needing work. A key that is being worked on is queued again when it is done."""
        if self._shut_down or key in self._dirty:
            return
        self._dirty.add(key)
        if self._metrics is not None:
            self._metrics.adds.inc()
            self._added_at.setdefault(key, self._clock.monotonic())
        if key in self._processing:
            return
        self._queue.append(key)
        self._wake()

    def add_after(self, key: str, seconds: float) -> None:
        """Add later; of several the soonest counts."""
        if self._shut_down:
            return
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + seconds
        if due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, key))
        if self._heap[0] == (due, key):
            self._arm()

    def add_rate_limited(self, key: str) -> None:
        """Add after the back-off of its failures so far."""
        if self._metrics is not None:
            self._metrics.retries.inc()
        self.add_after(key, self._limiter.when(key))

    def forget(self, key: str) -> None:
        """Its failures no longer count."""
        self._limiter.forget(key)

    def num_requeues(self, key: str) -> int:
        return self._limiter.num_requeues(key)

    async def get(self) -> str:
        """The next key; `done` must follow. Raises ShutDown."""
        while not self._queue:
            if self._shut_down:
                raise ShutDown(self.name)
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if getter.done() and not getter.cancelled():
                    self._wake()  # the wake-up was ours: hand it on
                raise
        return self.get_nowait()

    def get_nowait(self) -> str:
        """The next key. Raises IndexError when there is none."""
        key = self._queue.popleft()
        self._dirty.discard(key)
        now = self._clock.monotonic()
        self._processing[key] = now
        if self._metrics is not None:
            self._metrics.queue_seconds.observe(now - self._added_at.pop(key, now))
        return key

    def done(self, key: str) -> None:
        started = self._processing.pop(key, None)
        if started is not None and self._metrics is not None:
            self._metrics.work_seconds.observe(self._clock.monotonic() - started)
        if key in self._dirty:
            self._queue.append(key)
            self._wake()

    def shut_down(self) -> None:
        """No more keys are taken in; workers end when the queue is empty."""
        self._shut_down = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._heap.clear()
        self._due.clear()
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)

    def _wake(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, self._heap[0][0] - self._clock.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._clock.monotonic() + 0.0005
        while self._heap and self._heap[0][0] <= now:
            due, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        if self._heap:
            self._arm()

    def _unfinished(self) -> float:
        now = self._clock.monotonic()
        return sum(now - started for started in self._processing.values())

    def _longest(self) -> float:
        now = self._clock.monotonic()
        return max((now - started for started in self._processing.values()), default=0.0)


class _Children:
    """The labelled children, looked up once: `labels()` costs more than `inc()`."""

    def __init__(self, metrics: WorkQueueMetrics, name: str) -> None:
        self.adds = metrics.adds.labels(name)
        self.retries = metrics.retries.labels(name)
        self.queue_seconds = metrics.queue_seconds.labels(name)
        self.work_seconds = metrics.work_seconds.labels(name)


async def run_workers(queue: WorkQueue, reconcile: Reconcile, workers: int) -> None:
    """Reconcile keys with so many at once until the queue is shut down or this is cancelled."""
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(_work(queue, reconcile))


async def _work(queue: WorkQueue, reconcile: Reconcile) -> None:
    while True:
        try:
            key = await queue.get()
        except ShutDown:
            return
        await reconcile_one(queue, reconcile, key)


async def reconcile_one(queue: WorkQueue, reconcile: Reconcile, key: str) -> None:
    """One turn of a worker: reconcile `key` and settle what becomes of it."""
    try:
        again = await reconcile(key)
    except StatusError as error:
        level = logging.DEBUG if isinstance(error, Conflict) else logging.WARNING
        log.log(level, "%s %s: %s: %s", queue.name, key, error.reason, error)
        queue.add_rate_limited(key)
    except Exception:
        log.exception("%s %s: reconcile failed", queue.name, key)
        queue.add_rate_limited(key)
    else:
        queue.forget(key)
        if again is not None:
            queue.add_after(key, again)
    finally:
        queue.done(key)
