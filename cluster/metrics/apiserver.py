"""Metrics of the API server, under kube-apiserver's names; our own start with kubestage_."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Sequence

_DURATIONS = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30,
    45, 60,
)  # fmt: skip
_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
_REQUEST = ("verb", "group", "version", "resource", "subresource", "scope", "component")


class ApiServerMetrics:
    """One an API server; `registry` is the process's. The children of labelled metrics are cached:
    looking one up costs more than counting."""

    def __init__(self, registry: CollectorRegistry, version: str = "") -> None:
        self.registry = registry
        self._request_metrics(registry)
        self._watch_metrics(registry)
        self._admission_metrics(registry)
        build = Gauge(
            "kubernetes_build_info", "Build information.", ["git_version"], registry=registry
        )
        build.labels(f"v{version}.0" if version else "").set(1)
        self._children: dict[tuple[str, ...], tuple[Any, ...]] = {}
        self._gauges: dict[tuple[str, ...], Any] = {}

    def _request_metrics(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "apiserver_request",
            "Counter of apiserver requests broken out for each verb, group, version, resource, "
            "scope, component and HTTP response code.",
            [*_REQUEST, "code", "dry_run"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, resource and scope.",
            [*_REQUEST, "dry_run"],
            buckets=_DURATIONS,
            registry=registry,
        )
        self.request_sli_seconds = Histogram(
            "apiserver_request_sli_duration_seconds",
            "Response latency distribution (not counting webhook duration) in seconds.",
            _REQUEST,
            buckets=_DURATIONS,
            registry=registry,
        )
        self.terminations = Counter(
            "apiserver_request_terminations",
            "Number of requests which apiserver terminated in self-defense.",
            [*_REQUEST, "code"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "apiserver_current_inflight_requests",
            "Requests being served, by kind: mutating or readOnly.",
            ["request_kind"],
            registry=registry,
        )
        self.longrunning = Gauge(
            "apiserver_longrunning_requests",
            "Gauge of all active long-running apiserver requests.",
            _REQUEST,
            registry=registry,
        )
        self.batch_items = Histogram(
            "kubestage_apiserver_batch_items",
            "Requests that arrived in one batch.",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
            registry=registry,
        )

    def _watch_metrics(self, registry: CollectorRegistry) -> None:
        kind = ["group", "version", "kind"]
        self.watch_events_total = Counter(
            "apiserver_watch_events",
            "Number of events sent in watch clients.",
            kind,
            registry=registry,
        )
        self.watch_events_sizes = Histogram(
            "apiserver_watch_events_sizes",
            "Watch event size distribution in bytes.",
            kind,
            buckets=(1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072),
            registry=registry,
        )
        self.registered_watchers = Gauge(
            "apiserver_registered_watchers",
            "Number of currently registered watchers.",
            kind,
            registry=registry,
        )
        self.terminated_watchers = Counter(
            "apiserver_terminated_watchers",
            "Counter of watchers closed due to unresponsiveness.",
            ["resource"],
            registry=registry,
        )
        self.storage_objects = Gauge(
            "apiserver_storage_objects",
            "Number of stored objects at the time of last check split by kind.",
            ["resource"],
            registry=registry,
        )
        self.resource_objects = Gauge(
            "apiserver_resource_objects",
            "Number of stored objects at the time of last check split by kind.",
            ["group", "resource"],
            registry=registry,
        )

    def _admission_metrics(self, registry: CollectorRegistry) -> None:
        self.admission_seconds = Histogram(
            "apiserver_admission_controller_admission_duration_seconds",
            "Admission controller latency histogram in seconds.",
            ["name", "operation", "rejected", "type"],
            buckets=(0.005, 0.025, 0.1, 0.5, 1.0, 2.5),
            registry=registry,
        )
        self.certificate_expiration = Histogram(
            "apiserver_client_certificate_expiration_seconds",
            "Distribution of the remaining lifetime on the certificate used to authenticate a "
            "request.",
            buckets=(0, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 345600, 604800, 2592000,
                     7776000, 15552000, 31104000),
            registry=registry,
        )  # fmt: skip

    # -- requests ----------

    def observe(
        self, labels: Sequence[str], code: int, seconds: float, *, dry_run: str = ""
    ) -> None:
        """One finished request; `labels` are verb, group, version, resource, subresource, scope."""
        key = (*labels, str(code), dry_run)
        children = self._children.get(key)
        if children is None:
            request = (*labels, "apiserver")
            children = self._children[key] = (
                self.requests.labels(*request, str(code), dry_run),
                self.request_seconds.labels(*request, dry_run),
                self.request_sli_seconds.labels(*request),
            )
        children[0].inc()
        children[1].observe(seconds)
        children[2].observe(seconds)

    def long_running(self, call: Any, by: int) -> None:
        """A watch, exec or log began (1) or ended (-1)."""
        resource = call.resource
        scope = "namespace" if call.namespace else "cluster"
        labels = (
            call.verb.upper(), resource.group, resource.version, resource.plural,
            call.subresource, scope, "apiserver",
        )  # fmt: skip
        gauge = self._gauges.get(labels)
        if gauge is None:
            gauge = self._gauges[labels] = self.longrunning.labels(*labels)
        gauge.inc(by)

    # -- what the watch caches report ----------

    def watch_events(self, resource: Any, events: int, size: int) -> None:
        key = ("events", resource.group, resource.plural)
        children = self._children.get(key)
        if children is None:
            labels = (resource.group, resource.version, resource.kind)
            children = self._children[key] = (
                self.watch_events_total.labels(*labels),
                self.watch_events_sizes.labels(*labels),
            )
        children[0].inc(events)
        children[1].observe(size / events)

    def terminated_watcher(self, resource: str) -> None:
        self.terminated_watchers.labels(resource).inc()

    def watchers(self, resource: Any, count: int) -> None:
        labels = (resource.group, resource.version, resource.kind)
        self.registered_watchers.labels(*labels).set(count)

    def objects(self, resource: Any, count: int) -> None:
        self.resource_objects.labels(resource.group, resource.plural).set(count)
        name = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
        self.storage_objects.labels(name).set(count)
