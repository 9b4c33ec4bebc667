"""Metrics of the controller manager, under upstream's names where it has one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from cluster.metrics.client import WorkQueueMetrics


class ControllerMetrics:
    """One a controller manager; `registry` is the process's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.workqueue = WorkQueueMetrics(registry)
        self.pods_created = Counter(
            "kubestage_controller_pods_created",
            "Pods that controllers created.",
            ["controller"],
            registry=registry,
        )
        self.pods_deleted = Counter(
            "kubestage_controller_pods_deleted",
            "Pods that controllers deleted.",
            ["controller"],
            registry=registry,
        )
        self.endpoint_slice_changes = Counter(
            "endpoint_slice_controller_changes",
            "Number of EndpointSlice changes.",
            ["operation"],
            registry=registry,
        )
        self.endpoint_slice_syncs = Counter(
            "endpoint_slice_controller_syncs",
            "Number of EndpointSlice syncs.",
            ["result"],
            registry=registry,
        )
        self.gc_graph_objects = Gauge(
            "kubestage_garbage_collector_graph_objects",
            "Objects in the owner graph.",
            registry=registry,
        )
        self.gc_deletions = Counter(
            "kubestage_garbage_collector_deletions",
            "Dependents that the garbage collector deleted.",
            ["propagation"],
            registry=registry,
        )
        self.node_evictions = Counter(
            "node_collector_evictions",
            "Nodes emptied (tainted NoExecute) since this node controller started.",
            ["zone"],
            registry=registry,
        )
        self.node_zone_size = Gauge(
            "node_collector_zone_size",
            "Gauge measuring number of registered Nodes per zones.",
            ["zone"],
            registry=registry,
        )
        self.node_zone_health = Gauge(
            "node_collector_zone_health",
            "Gauge measuring percentage of healthy nodes per zone.",
            ["zone"],
            registry=registry,
        )
        self.taint_deletions = Counter(
            "taint_eviction_controller_pod_deletions",
            "Total number of Pods deleted by TaintEvictionController since its start.",
            registry=registry,
        )
        self.pod_gc_deletions = Counter(
            "pod_gc_collector_force_delete_pods",
            "Number of pods that are being forcefully deleted since the Pod GC Controller started.",
            ["namespace", "reason"],
            registry=registry,
        )
        self.jobs_finished = Counter(
            "job_controller_jobs_finished",
            "The number of finished jobs.",
            ["completion_mode", "result", "reason"],
            registry=registry,
        )
