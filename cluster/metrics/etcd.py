"""Metrics of the store, under etcd's and the API server's names where the meaning is the same."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY = (
    0.001,
    0.002,
    0.004,
    0.008,
    0.016,
    0.032,
    0.064,
    0.128,
    0.256,
    0.512,
    1.024,
    2.048,
    4.096,
    8.192,
)


class StoreMetrics:
    """One a store; `registry` is the process's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.request_seconds = Histogram(
            "etcd_request_duration_seconds",
            "Store request latency for each operation.",
            ["operation", "type"],
            registry=registry,
            buckets=(
                0.005,
                0.025,
                0.05,
                0.1,
                0.2,
                0.4,
                0.6,
                0.8,
                1.0,
                1.25,
                1.5,
                2,
                3,
                4,
                5,
                6,
                8,
                10,
                15,
                20,
                30,
            ),
        )
        self.commit_seconds = Histogram(
            "etcd_disk_backend_commit_duration_seconds",
            "Time of one group commit, in seconds.",
            registry=registry,
            buckets=_LATENCY,
        )
        self.commit_writes = Histogram(
            "kubestage_store_commit_writes",
            "Writes that shared one commit.",
            registry=registry,
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
        )
        self.db_bytes = Gauge(
            "etcd_mvcc_db_total_size_in_bytes",
            "Size of the database file, in bytes.",
            registry=registry,
        )
        self.revision = Gauge(
            "etcd_debugging_mvcc_current_revision",
            "Current revision of the store.",
            registry=registry,
        )
        self.failed_writes = Counter(
            "kubestage_store_failed_writes",
            "Writes that the disk or etcd refused.",
            ["reason"],
            registry=registry,
        )
