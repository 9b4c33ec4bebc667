"""The scheduler: from the informers' changes to bindings.

Plays pkg/scheduler (scheduler.go, schedule_one.go). `events` takes the changes in, `schedule_run`
decides, both synchronous; `run` is the shell. A pod is assumed on its node
before its binding is sent and forgotten if the API server refuses it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import partial

from cluster.api.errors import NotFound, StatusError
from cluster.api.meta import (
    GVR,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODDISRUPTIONBUDGETS,
    PODS,
    Clock,
    Object,
)
from cluster.client import Client, EventRecorder, FlowReporter, InformerFactory
from cluster.metrics.scheduler import SchedulerMetrics
from cluster.scheduler.cache import Cache, PodInfo
from cluster.scheduler.config import SchedulerConfig
from cluster.scheduler.eventhandlers import EventHandlers
from cluster.scheduler.events import ClusterEvent
from cluster.scheduler.framework import NO_NODES, Diagnosis, PostFilterResult, Status
from cluster.scheduler.owners import Owners
from cluster.scheduler.plugins.volumebinding import Storage
from cluster.scheduler.profile import Profile, Run
from cluster.scheduler.registry import Handle, build_profile
from cluster.scheduler.scheduling_queue import QueuedPod, SchedulingQueue
from cluster.scheduler.shape import Shape, Shapes
from cluster.scheduler.status import PodStatusWriter

log = logging.getLogger(__name__)

STORAGECLASSES = GVR("storage.k8s.io", "v1", "storageclasses")
POD_SELECTOR = "status.phase!=Succeeded,status.phase!=Failed"
FLUSH_UNSCHEDULABLE_SECONDS = 30.0
MAX_RUNS = 16
UNSCHEDULABLE, SCHEDULER_ERROR = "Unschedulable", "SchedulerError"


class Scheduler:
    """One a cluster (or a name of scheduler)."""

    def __init__(
        self,
        client: Client,
        config: SchedulerConfig,
        clock: Clock,
        rng: random.Random,
        recorder: EventRecorder,
        metrics: SchedulerMetrics,
        informers: InformerFactory | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._own_informers = informers is None
        self._informers = informers or InformerFactory(client, clock=clock, rng=rng)
        self.cache = Cache(Shapes(), assumed_seconds=config.assumed_seconds)
        self._budgets = self._informers.informer(PODDISRUPTIONBUDGETS)
        self._namespaces = self._informers.informer(NAMESPACES)
        self._status = PodStatusWriter(client, recorder, clock)
        self._flow = FlowReporter(client, clock)
        storage = Storage(
            self._informers.informer(PERSISTENTVOLUMECLAIMS),
            self._informers.informer(PERSISTENTVOLUMES),
            self._informers.informer(STORAGECLASSES),
        )
        self.storage = storage
        self.owners = Owners(self._informers, self.cache.nodes)
        handle = Handle(
            client, self.cache, rng, self._listed, storage, self.owners.selector_of, self._run_of
        )
        self.profiles: dict[str, Profile] = {
            p.scheduler_name: build_profile(p, handle) for p in config.profiles
        }
        self.queue = SchedulingQueue(
            self.profiles,
            initial_backoff_seconds=config.initial_backoff_seconds,
            max_backoff_seconds=config.max_backoff_seconds,
            incoming=self._count_incoming,
            refused=self._count_refused,
        )
        self._runs: OrderedDict[bytes, Run] = OrderedDict()
        self._wake = asyncio.Event()
        self.events = EventHandlers(self.cache, self.queue, self.profiles, clock, self._wake)
        self._timer: asyncio.TimerHandle | None = None
        self._binding = 0
        self._tasks: set[asyncio.Task[None]] = set()
        metrics.watch_queue(self.queue.pending)
        metrics.watch_cache(
            {
                "nodes": lambda: self.cache.nodes.count,
                "pods": lambda: len(self.cache.pods),
                "assumed_pods": lambda: len([*self.cache.assumed]),
            }
        )

    # The shell

    async def run(self) -> None:
        """Schedule until cancelled."""
        self._subscribe()
        if self._own_informers:
            self._informers.start()
        flusher = asyncio.ensure_future(self._flush_for_ever())
        try:
            await self._informers.wait_synced()
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self.queue.has_ready and self._binding < self._config.max_binding:
                    self.schedule_run()
                    await asyncio.sleep(0)
                self._arm()
        finally:
            flusher.cancel()
            self._flow.close()
            if self._timer is not None:
                self._timer.cancel()
            for task in self._tasks:
                task.cancel()
            if self._own_informers:
                await self._informers.stop()

    def _subscribe(self) -> None:
        events, informers = self.events, self._informers
        for kind, informer in (
            ("PersistentVolumeClaim", self.storage.claims),
            ("PersistentVolume", self.storage.volumes),
            ("StorageClass", self.storage.classes),
        ):
            informer.add_handler_batch(partial(events.handle_storage, kind))
        self._namespaces.add_handler_batch(events.handle_namespaces)
        informers.informer(NODES).add_handler_batch(events.handle_nodes)
        pods = informers.informer(PODS, field_selector=POD_SELECTOR)
        pods.add_handler_batch(events.handle_pods)

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_UNSCHEDULABLE_SECONDS)
            now = self._clock.monotonic()
            self.queue.flush_unschedulable(now)
            for pod in self.cache.expire(now):
                log.warning("assumed pod %s expired: its binding was never seen", pod.key)
            self._wake.set()

    def _arm(self) -> None:
        """Wake when the next back-off is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.queue.next_due()
        if due is not None:
            delay = max(0.0, due - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.queue.flush(self._clock.monotonic() + 0.001)
        self._wake.set()

    # Decisions

    def schedule_run(self) -> int:
        """Take the next pods of one shape and place each. Returns how many were taken."""
        started = self._clock.monotonic()
        taken = self.queue.pop_run(self._config.run_pods, started)
        waiting = [q for q in taken if not self._skips(q)]
        if not waiting:
            return len(taken)
        profile = self.profiles[waiting[0].pod.shape.scheduler_name]
        if self.cache.nodes.count == 0:
            for queued in waiting:
                self._fail(profile, queued, NO_NODES, frozenset(), started)
            return len(taken)
        nominated = self._nominated(waiting)
        for row, shape in nominated:
            self.cache.nodes.reserve(row, shape)
        try:
            self._place_all(profile, waiting, started)
        finally:
            for row, shape in nominated:
                self.cache.nodes.release(row, shape)
        self._metrics.run_pods.observe(len(waiting))
        return len(taken)

    def _place_all(self, profile: Profile, waiting: Sequence[QueuedPod], started: float) -> None:
        run = self._current_run(profile, waiting[0].pod.shape)
        chosen: list[tuple[QueuedPod, str]] = []
        refused: Sequence[QueuedPod] = ()
        for place, queued in enumerate(waiting):
            row = None if run.rejection is not None else run.pick(self._preferred(queued.pod))
            if row is None:
                refused = waiting[place:]
                break
            node = self.cache.nodes.name_of(row)
            self.cache.assume(queued.pod, node)
            queued.decided = self._clock.monotonic()
            run = self._current_run(profile, queued.pod.shape)
            chosen.append((queued, node))
        each = (self._clock.monotonic() - started) / len(waiting)
        for _ in waiting:
            self._metrics.algorithm_seconds.observe(each)
        for queued, node in chosen:
            self._bind(profile, queued, node, started)
        if refused:
            self._refuse_all(profile, run, refused, started)

    def _current_run(self, profile: Profile, shape: Shape) -> Run:
        """The run kept for this shape if the nodes are what they were, else a new one."""
        run = self._runs.get(shape.key)
        if run is not None and run.current and run.profile is profile:
            self._runs.move_to_end(shape.key)
            run.catch_up()
            return run
        clock = self._clock.monotonic
        began = clock()
        run = self._runs[shape.key] = Run(profile, shape, self.cache.nodes, self._rng)
        self._metrics.extension_seconds.labels("Filter", "Success", profile.name).observe(
            clock() - began
        )
        self._runs.move_to_end(shape.key)
        if len(self._runs) > MAX_RUNS:
            self._runs.popitem(last=False)
        return run

    def _refuse_all(
        self, profile: Profile, run: Run, refused: Sequence[QueuedPod], started: float
    ) -> None:
        diagnosis = run.diagnose()
        reserved: list[int] = []
        for queued in refused:
            result = diagnosis.post_filtered
            if result is None or result.victims or _nomination(queued.pod):
                result = self._post_filter(profile, queued.pod, diagnosis)
                diagnosis.post_filtered = result
            if result.victims and result.nominated_node:
                reserved += self._preempt(queued, result.nominated_node, result.victims)
            self._fail(
                profile, queued, diagnosis.message(), diagnosis.plugins, started,
                nominate=result.nominated_node,
            )  # fmt: skip

        for row in reserved:
            self.cache.nodes.release(row, run.shape)

    def _preempt(self, queued: QueuedPod, node: str, victims: Sequence[PodInfo]) -> list[int]:
        """Make room on `node`, held for this pod while the others of the run are looked at."""
        self._metrics.preemption_victims.observe(len(victims))
        self._status.preempt(queued.pod, node, victims)
        obj = queued.pod.obj
        queued.pod.obj = {**obj, "status": {**(obj.get("status") or {}), "nominatedNodeName": node}}
        row = self.cache.nodes.row_of(node)
        assert row is not None, node
        self.cache.nodes.reserve(row, queued.pod.shape)
        return [row]

    def _post_filter(
        self, profile: Profile, pod: PodInfo, diagnosis: Diagnosis
    ) -> PostFilterResult:
        result = PostFilterResult()
        for plugin in profile.post_filter:
            self._metrics.preemption_attempts.inc()
            result = plugin.post_filter(pod, self.cache.nodes, diagnosis)
        return result

    def _skips(self, queued: QueuedPod) -> bool:
        """A pod that is being deleted is not scheduled."""
        if not queued.pod.obj["metadata"].get("deletionTimestamp"):
            return False
        self._status.skipped(queued.pod)
        return True

    def _preferred(self, pod: PodInfo) -> int | None:
        name = _nomination(pod)
        return self.cache.nodes.row_of(name) if name else None

    def _nominated(self, waiting: Sequence[QueuedPod]) -> list[tuple[int, Shape]]:
        """Other pods, at least as important, for whom room was made on a node: it is theirs."""
        priority = waiting[0].pod.priority
        ours = {q.key for q in waiting}
        found = []
        for queued in self.queue.nominated():
            name = _nomination(queued.pod)
            if name and queued.pod.priority >= priority and queued.key not in ours:
                row = self.cache.nodes.row_of(name)
                if row is not None:
                    found.append((row, queued.pod.shape))
        return found

    # Effects

    def _bind(self, profile: Profile, queued: QueuedPod, node: str, started: float) -> None:
        for plugin in profile.reserve:
            status = plugin.reserve(queued.pod, node, {}, self.cache.nodes)
            if status is not None:
                self._binding_failed(profile, queued, node, started, status.message)
                return
        if any(plugin.wants(queued.pod.shape) for plugin in profile.pre_bind):
            task = asyncio.get_running_loop().create_task(
                self._pre_bind(profile, queued, node, started)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        self._send_binding(profile, queued, node, started)

    async def _pre_bind(
        self, profile: Profile, queued: QueuedPod, node: str, started: float
    ) -> None:
        try:
            for plugin in profile.pre_bind:
                status: Status | None = await plugin.pre_bind(queued.pod, node, {})
                if status is not None:
                    self._binding_failed(profile, queued, node, started, status.message)
                    return
        except StatusError as error:
            self._binding_failed(profile, queued, node, started, error.message)
            return
        self._send_binding(profile, queued, node, started)

    def _send_binding(self, profile: Profile, queued: QueuedPod, node: str, started: float) -> None:
        assert profile.bind is not None, f"profile {profile.name} has no Bind plugin"
        self._binding += 1
        future: asyncio.Future[Object] = profile.bind.bind(queued.pod, node)
        future.add_done_callback(partial(self._bound, profile, queued, node, started))

    def _bound(
        self,
        profile: Profile,
        queued: QueuedPod,
        node: str,
        started: float,
        future: asyncio.Future[Object],
    ) -> None:
        self._binding -= 1
        self._wake.set()
        if future.cancelled():
            return
        error = future.exception()
        if isinstance(error, StatusError):
            message = f'binding rejected: running Bind plugin "DefaultBinder": {error.message}'
            self._binding_failed(
                profile, queued, node, started, message, gone=isinstance(error, NotFound)
            )
            return
        if error is not None:
            raise error
        now = self._clock.monotonic()
        self.cache.finish_binding(queued.key, now)
        self._status.scheduled(queued.pod, node)
        self._report_flow(queued, node, now, started)
        metrics = self._metrics
        metrics.attempts.labels("scheduled", profile.name).inc()
        metrics.attempt_seconds.labels("scheduled", profile.name).observe(now - started)
        metrics.pod_attempts.observe(queued.attempts)
        label = "15+" if queued.attempts >= 15 else str(queued.attempts)
        metrics.sli_seconds.labels(label).observe(now - queued.initial_attempt)

    def _report_flow(self, queued: QueuedPod, node: str, now: float, started: float) -> None:
        """For `kubestage flow`: waiting in the queue, deciding, binding."""
        wall = self._clock.now() - now
        marks = {
            "queued": (queued.timestamp + wall, started + wall),
            "scheduled": (started + wall, queued.decided + wall),
            "binding": (queued.decided + wall, now + wall),
        }
        detail = {"node": node, "attempts": queued.attempts, "nodes": self.cache.nodes.count}
        self._flow.report(queued.pod.namespace, queued.pod.name, marks, detail)

    def _binding_failed(
        self,
        profile: Profile,
        queued: QueuedPod,
        node: str,
        started: float,
        message: str,
        *,
        gone: bool = False,
    ) -> None:
        for plugin in profile.reserve:
            plugin.unreserve(queued.pod, node, {})
        forgotten = self.cache.forget(queued.key)
        if forgotten is None or gone:
            return  # the informer has seen it bound or deleted meanwhile
        now = self._clock.monotonic()
        self._metrics.attempts.labels("error", profile.name).inc()
        self._metrics.attempt_seconds.labels("error", profile.name).observe(now - started)
        self.queue.add_failed(queued, now)
        self._status.failed(queued.pod, SCHEDULER_ERROR, message)
        self.events.happened([ClusterEvent("AssignedPod", "Delete", queued.pod.obj, None)])

    def _fail(
        self,
        profile: Profile,
        queued: QueuedPod,
        message: str,
        plugins: frozenset[str],
        started: float,
        *,
        nominate: str | None = None,
    ) -> None:
        now = self._clock.monotonic()
        self._metrics.attempts.labels("unschedulable", profile.name).inc()
        self._metrics.attempt_seconds.labels("unschedulable", profile.name).observe(now - started)
        self.queue.add_unschedulable(queued, plugins, now)
        self._status.failed(queued.pod, UNSCHEDULABLE, message, nominate=nominate)

    # For plugins and metrics

    def _run_of(self, shape: Shape) -> Run:
        return Run(self.profiles[shape.scheduler_name], shape, self.cache.nodes, self._rng)

    def _listed(self, plural: str) -> Iterable[Object]:
        informer = {"poddisruptionbudgets": self._budgets, "namespaces": self._namespaces}[plural]
        return informer.list()

    def _count_refused(self, scheduler_name: str, plugins: Iterable[str], amount: int) -> None:
        for plugin in plugins:
            self._metrics.unschedulable.labels(plugin, scheduler_name).inc(amount)

    def _count_incoming(self, queue: str, event: str, amount: int) -> None:
        self._metrics.incoming.labels(queue, event).inc(amount)


def _nomination(pod: PodInfo) -> str:
    """The node where room was made for the pod, or ''."""
    return str((pod.obj.get("status") or {}).get("nominatedNodeName") or "")
