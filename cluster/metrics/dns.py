"""Metrics of the cluster DNS, under CoreDNS's names (github.com/coredns/coredns/plugin/metrics,
cache, forward)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = tuple(0.00025 * 2**i for i in range(16))
_BYTES = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16e3, 32e3, 48e3, 64e3)


class DnsMetrics:
    """One a process; `registry` is the process's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "coredns_dns_requests",
            "Counter of DNS requests made per zone, protocol and family.",
            ["server", "zone", "view", "proto", "family", "type"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "coredns_dns_request_duration_seconds",
            "Histogram of the time (in seconds) each request took per zone.",
            ["server", "zone", "view", "type"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.request_bytes = Histogram(
            "coredns_dns_request_size_bytes",
            "Size of the EDNS0 UDP buffer in bytes (64K for TCP) per zone and protocol.",
            ["server", "zone", "view", "proto"],
            registry=registry,
            buckets=_BYTES,
        )
        self.response_bytes = Histogram(
            "coredns_dns_response_size_bytes",
            "Size of the returned response in bytes.",
            ["server", "zone", "view", "proto"],
            registry=registry,
            buckets=_BYTES,
        )
        self.responses = Counter(
            "coredns_dns_responses",
            "Counter of response status codes.",
            ["server", "zone", "view", "rcode", "plugin"],
            registry=registry,
        )
        self.panics = Counter(
            "coredns_panics", "A metrics that counts the number of panics.", registry=registry
        )
        self.cache_entries = Gauge(
            "coredns_cache_entries",
            "The number of elements in the cache.",
            ["server", "type", "zones", "view"],
            registry=registry,
        )
        self.cache_hits = Counter(
            "coredns_cache_hits",
            "The count of cache hits.",
            ["server", "type", "zones", "view"],
            registry=registry,
        )
        self.cache_misses = Counter(
            "coredns_cache_misses",
            "The count of cache misses.",
            ["server", "zones", "view"],
            registry=registry,
        )
        self.cache_requests = Counter(
            "coredns_cache_requests",
            "The count of cache requests.",
            ["server", "zones", "view"],
            registry=registry,
        )
        self.forward_requests = Counter(
            "coredns_forward_requests",
            "Counter of requests made per upstream.",
            ["to"],
            registry=registry,
        )
        self.forward_seconds = Histogram(
            "coredns_forward_request_duration_seconds",
            "Histogram of the time each request took.",
            ["to", "rcode"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.programming_seconds = Histogram(
            "coredns_kubernetes_dns_programming_duration_seconds",
            "Histogram of the time (in seconds) it took to program a dns instance.",
            ["service_kind"],
            registry=registry,
            buckets=tuple(0.001 * 2**i for i in range(20)),
        )
