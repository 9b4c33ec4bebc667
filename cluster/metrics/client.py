"""Metrics of API clients: client-go's rest client and work queue names, and our batches."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_REST_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
_QUEUE_BUCKETS = (1e-08, 1e-07, 1e-06, 1e-05, 1e-04, 1e-03, 1e-02, 1e-01, 1.0, 10.0)


class ClientMetrics:
    """One a process; `registry` is the process's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "rest_client_requests",
            "Number of HTTP requests, partitioned by status code, method, and host.",
            ["code", "method", "host"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "rest_client_request_duration_seconds",
            "Request latency in seconds. Broken down by verb, and host.",
            ["verb", "host"],
            registry=registry,
            buckets=_REST_BUCKETS,
        )
        self.retries = Counter(
            "rest_client_request_retries",
            "Number of request retries, partitioned by status code, verb, and host.",
            ["code", "verb", "host"],
            registry=registry,
        )
        self.batch_items = Histogram(
            "kubestage_client_batch_items",
            "Requests that travelled in one batch.",
            registry=registry,
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
        )
        self.events_dropped = Counter(
            "kubestage_client_events_dropped",
            "Events not written: the recorder's buffer was full, or the server refused them.",
            ["reason"],
            registry=registry,
        )
        self.relists = Counter(
            "kubestage_client_informer_lists",
            "Full lists by informers.",
            ["resource"],
            registry=registry,
        )

    def count(self, method: str, status: int, host: str, amount: int = 1) -> None:
        """`amount` requests were answered with `status`."""
        self.requests.labels(str(status), method, host).inc(amount)


class WorkQueueMetrics:
    """The families that every queue of a process shares; client-go's names."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.depth = Gauge(
            "workqueue_depth", "Current depth of workqueue.", ["name"], registry=registry
        )
        self.adds = Counter(
            "workqueue_adds", "Total number of adds handled by workqueue.", ["name"],
            registry=registry,
        )  # fmt: skip
        self.retries = Counter(
            "workqueue_retries", "Total number of retries handled by workqueue.", ["name"],
            registry=registry,
        )  # fmt: skip
        self.queue_seconds = Histogram(
            "workqueue_queue_duration_seconds",
            "How long in seconds an item stays in workqueue before being requested.",
            ["name"],
            registry=registry,
            buckets=_QUEUE_BUCKETS,
        )
        self.work_seconds = Histogram(
            "workqueue_work_duration_seconds",
            "How long in seconds processing an item from workqueue takes.",
            ["name"],
            registry=registry,
            buckets=_QUEUE_BUCKETS,
        )
        self.unfinished_seconds = Gauge(
            "workqueue_unfinished_work_seconds",
            "How many seconds of work has been done that is in progress and hasn't been observed "
            "by work_duration.",
            ["name"],
            registry=registry,
        )
        self.longest_seconds = Gauge(
            "workqueue_longest_running_processor_seconds",
            "How many seconds has the longest running processor for workqueue been running.",
            ["name"],
            registry=registry,
        )
