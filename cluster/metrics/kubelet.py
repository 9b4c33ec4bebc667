"""Metrics of the kubelet and its runtime, under upstream's names (pkg/kubelet/metrics,
component-base).

One set a process: the kubelets of one pool count together. Children of labelled metrics are kept: a
lookup by label costs more than the observation.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_DEFAULT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_START = (
    0.5,
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    10,
    20,
    30,
    45,
    60,
    120,
    180,
    240,
    300,
    360,
    480,
    600,
    900,
    1200,
    1800,
    2700,
    3600,
)


class RuntimeMetrics:
    """CRI calls. `registry` None: a private one that nobody scrapes."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry or CollectorRegistry()
        self.operations = Counter(
            "kubelet_runtime_operations",
            "Cumulative number of runtime operations by operation type.",
            ["operation_type"],
            registry=registry,
        )
        self.errors = Counter(
            "kubelet_runtime_operations_errors",
            "Cumulative number of runtime operation errors by operation type.",
            ["operation_type"],
            registry=registry,
        )
        self.seconds = Histogram(
            "kubelet_runtime_operations_duration_seconds",
            "Duration in seconds of runtime operations.",
            ["operation_type"],
            registry=registry,
            buckets=_DEFAULT,
        )
        self._children: dict[str, tuple[Counter, Histogram]] = {}

    def count(self, operation: str, seconds: float, *, failed: bool = False) -> None:
        """One CRI call."""
        children = self._children.get(operation)
        if children is None:
            children = (self.operations.labels(operation), self.seconds.labels(operation))
            self._children[operation] = children
        children[0].inc()
        children[1].observe(seconds)
        if failed:
            self.errors.labels(operation).inc()


class KubeletMetrics:
    """What a pool of kubelets counts."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry or CollectorRegistry()
        self.registry = registry
        self.nodes = Gauge(
            "kubelet_node_name", "The nodes of this process, always 1.", ["node"], registry=registry
        )
        self.running_pods = Gauge(
            "kubelet_running_pods",
            "Number of pods that have a running pod sandbox.",
            registry=registry,
        )
        self.running_containers = Gauge(
            "kubelet_running_containers",
            "Number of containers currently running.",
            ["container_state"],
            registry=registry,
        )
        self.desired_pods = Gauge(
            "kubelet_desired_pods",
            "The number of pods the kubelet is being instructed to run.",
            registry=registry,
        )
        self.pod_start_seconds = Histogram(
            "kubelet_pod_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod for the first time to the pod running.",
            registry=registry,
            buckets=_START,
        )
        self.pod_start_sli_seconds = Histogram(
            "kubelet_pod_start_sli_duration_seconds",
            "Duration in seconds from the creation of a pod to its running, without image pulls.",
            registry=registry,
            buckets=_START,
        )
        self.pod_worker_seconds = Histogram(
            "kubelet_pod_worker_duration_seconds",
            "Duration in seconds to sync a single pod.",
            ["operation_type"],
            registry=registry,
            buckets=_DEFAULT,
        )
        self.worker_start_seconds = Histogram(
            "kubelet_pod_worker_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod to starting a worker.",
            registry=registry,
            buckets=_DEFAULT,
        )
        self.status_seconds = Histogram(
            "kubelet_pod_status_sync_duration_seconds",
            "Duration in seconds to sync a pod status update.", registry=registry, buckets=_DEFAULT,
        )  # fmt: skip
        self.started_pods = Counter(
            "kubelet_started_pods", "Cumulative number of pods started.", registry=registry
        )
        self.started_pods_errors = Counter(
            "kubelet_started_pods_errors",
            "Cumulative number of errors when starting pods.",
            registry=registry,
        )
        self.started_containers = Counter(
            "kubelet_started_containers",
            "Cumulative number of containers started.",
            ["container_type"],
            registry=registry,
        )
        self.probes = Counter(
            "prober_probe", "Cumulative number of liveness, readiness or startup probes by result.",
            ["probe_type", "result"], registry=registry,
        )  # fmt: skip
        self.volumes = Histogram(
            "storage_operation_duration_seconds",
            "Storage operation duration.",
            ["operation_name", "volume_plugin"],
            registry=registry,
            buckets=_DEFAULT,
        )
        self.heartbeats = Counter(
            "kubestage_kubelet_heartbeats", "Lease renewals.", ["result"], registry=registry
        )
