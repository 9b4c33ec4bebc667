"""Metrics of the scheduler, under kube-scheduler's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


def _doubling(start: float, count: int) -> tuple[float, ...]:
    return tuple(start * 2**n for n in range(count))


class SchedulerMetrics:
    """One a scheduler; `registry` is the process's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter(
            "scheduler_schedule_attempts",
            "Number of attempts to schedule pods, by the result.",
            ["result", "profile"],
            registry=registry,
        )
        self.attempt_seconds = Histogram(
            "scheduler_scheduling_attempt_duration_seconds",
            "Scheduling attempt latency in seconds (scheduling algorithm + binding).",
            ["result", "profile"],
            registry=registry,
            buckets=_doubling(0.001, 15),
        )
        self.algorithm_seconds = Histogram(
            "scheduler_scheduling_algorithm_duration_seconds",
            "Scheduling algorithm latency in seconds.",
            registry=registry,
            buckets=_doubling(0.001, 15),
        )
        self.sli_seconds = Histogram(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "E2e latency for a pod being scheduled, from first attempt to bound.",
            ["attempts"],
            registry=registry,
            buckets=_doubling(0.01, 20),
        )
        self.pod_attempts = Histogram(
            "scheduler_pod_scheduling_attempts",
            "Number of attempts to successfully schedule a pod.",
            registry=registry,
            buckets=(1, 2, 4, 8, 16),
        )
        self.incoming = Counter(
            "scheduler_queue_incoming_pods",
            "Number of pods added to scheduling queues by event and queue type.",
            ["queue", "event"],
            registry=registry,
        )
        self.pending = Gauge(
            "scheduler_pending_pods",
            "Number of pending pods, by the queue type.",
            ["queue"],
            registry=registry,
        )
        self.extension_seconds = Histogram(
            "scheduler_framework_extension_point_duration_seconds",
            "Latency for running all plugins of a specific extension point; Filter and Score are "
            "one here, and looked at once for a run of pods of one shape.",
            ["extension_point", "status", "profile"],
            registry=registry,
            buckets=_doubling(0.0001, 12),
        )
        self.preemption_attempts = Counter(
            "scheduler_preemption_attempts",
            "Total preemption attempts in the cluster till now",
            registry=registry,
        )
        self.preemption_victims = Histogram(
            "scheduler_preemption_victims",
            "Number of selected preemption victims",
            registry=registry,
            buckets=_doubling(1, 7),
        )
        self.unschedulable = Gauge(
            "scheduler_unschedulable_pods",
            "The number of unschedulable pods broken down by plugin name.",
            ["plugin", "profile"],
            registry=registry,
        )
        self.cache_size = Gauge(
            "scheduler_scheduler_cache_size",
            "Number of nodes, pods, and assumed (bound) pods in the scheduler cache.",
            ["type"],
            registry=registry,
        )
        self.run_pods = Histogram(
            "kubestage_scheduler_run_pods",
            "Pods of one shape that were placed in one run.",
            registry=registry,
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
        )

    def watch_queue(self, sizes: Callable[[], Mapping[str, int]]) -> None:
        """Read the queue's sizes at each scrape."""
        for queue in ("active", "backoff", "unschedulable", "gated"):
            self.pending.labels(queue).set_function(partial(_size_of, sizes, queue))

    def watch_cache(self, kinds: Mapping[str, Callable[[], int]]) -> None:
        """Read the cache's sizes at each scrape."""
        for kind, size in kinds.items():
            self.cache_size.labels(kind).set_function(size)


def _size_of(sizes: Callable[[], Mapping[str, int]], queue: str) -> float:
    return float(sizes()[queue])
