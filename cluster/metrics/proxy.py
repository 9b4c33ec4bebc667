"""Metrics of the service proxy, under kube-proxy's names (k8s.io/kubernetes/pkg/proxy/metrics)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SYNC = tuple(0.001 * 2**i for i in range(15))
_PROGRAMMING = (
    0.25,
    0.5,
    *(float(i) for i in range(1, 60)),
    *(float(i) for i in range(60, 120, 5)),
    *(float(i) for i in range(120, 301, 30)),
)


class ProxyMetrics:
    """One a process; `registry` is the process's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, help_text: str, buckets: tuple[float, ...] = _SYNC) -> Histogram:
            return Histogram(f"kubeproxy_{name}", help_text, registry=registry, buckets=buckets)

        def counter(name: str, help_text: str) -> Counter:
            return Counter(f"kubeproxy_{name}", help_text, registry=registry)

        def gauge(name: str, help_text: str) -> Gauge:
            return Gauge(f"kubeproxy_{name}", help_text, registry=registry)

        self.sync_seconds = histogram(
            "sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds."
        )
        self.full_sync_seconds = histogram(
            "sync_full_proxy_rules_duration_seconds", "Latency of full resyncs in seconds."
        )
        self.partial_sync_seconds = histogram(
            "sync_partial_proxy_rules_duration_seconds", "Latency of partial syncs in seconds."
        )
        self.programming_seconds = histogram(
            "network_programming_duration_seconds",
            "In cluster network programming latency in seconds.",
            _PROGRAMMING,
        )
        self.last_sync = gauge(
            "sync_proxy_rules_last_timestamp_seconds",
            "The last time proxy rules were successfully synced.",
        )
        self.service_changes = counter(
            "sync_proxy_rules_service_changes", "Cumulative proxy rules Service changes."
        )
        self.service_changes_pending = gauge(
            "sync_proxy_rules_service_changes_pending", "Pending proxy rules Service changes."
        )
        self.endpoint_changes = counter(
            "sync_proxy_rules_endpoint_changes", "Cumulative proxy rules Endpoint changes."
        )
        self.endpoint_changes_pending = gauge(
            "sync_proxy_rules_endpoint_changes_pending", "Pending proxy rules Endpoint changes."
        )
        self.failures = counter(
            "sync_proxy_rules_nftables_sync_failures",
            "Cumulative proxy nftables sync failures.",
        )
