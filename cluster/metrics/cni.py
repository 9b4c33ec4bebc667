"""Metrics of the pod network's verbs (ADD, DEL). Upstream has no common name for them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.5, 1, 2, 5, 10)


class CniMetrics:
    """One a process; `registry` is the process's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "kubestage_cni_operation_duration_seconds",
            "Time to attach a pod to the network or detach it, by CNI verb.",
            ["verb"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.failures = Counter(
            "kubestage_cni_operation_errors",
            "CNI verbs that failed.",
            ["verb"],
            registry=registry,
        )
        self.attached = Gauge(
            "kubestage_cni_attached_pods", "Pods that have a network here.", registry=registry
        )
