"""/stats/summary and /metrics/resource: what metrics-server reads.

Plays pkg/kubelet/server/stats. Usage is emulated: a container uses a tenth of its cpu request (5m
without one) and half of its memory request (16Mi without one), unless an annotation says otherwise:
kubestage.io/cpu.NAME and kubestage.io/memory.NAME.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.api.meta import Object, rfc3339
from cluster.api.quantity import milli_value, value
from cluster.kubelet.podstate import ContainerView

if TYPE_CHECKING:
    from cluster.kubelet.pool import KubeletPool
    from cluster.kubelet.worker import PodWorker


def usage(worker: PodWorker, view: ContainerView) -> tuple[float, int]:
    """Cores and bytes that a running container uses."""
    annotations = worker.state.pod["metadata"].get("annotations") or {}
    requests = (view.spec.get("resources") or {}).get("requests") or {}
    cpu = annotations.get(f"kubestage.io/cpu.{view.name}")
    memory = annotations.get(f"kubestage.io/memory.{view.name}")
    try:
        millis = float(milli_value(cpu)) if cpu else milli_value(requests["cpu"]) / 10
    except (KeyError, ValueError):
        millis = 5.0
    try:
        held = value(memory) if memory else value(requests["memory"]) // 2
    except (KeyError, ValueError):
        held = 16 << 20
    return millis / 1000, held


def summary(pool: KubeletPool, host: str) -> Object:
    """The Summary of the node whose address was asked, or of the only one."""
    address = host.rpartition(":")[0]
    agents = list(pool.agents.values())
    agent = next((a for a in agents if a.spec.ip == address), agents[0] if agents else None)
    if agent is None:
        return {"node": {}, "pods": []}
    now = rfc3339(pool.context.clock.now())
    pods: list[Object] = []
    cores, held = 0.0, 0
    for worker in agent.workers.values():
        listed = []
        for view in worker.state.views:
            if view.running and view.current is not None:
                cpu, memory = usage(worker, view)
                cores, held = cores + cpu, held + memory
                started = rfc3339(view.current.started_at)
                listed.append({"name": view.name, "startTime": started, **_used(now, cpu, memory)})
        if listed:
            reference = {
                "name": worker.state.name, "namespace": worker.state.namespace,
                "uid": worker.state.uid,
            }  # fmt: skip
            pods.append({"podRef": reference, "containers": listed})
    return {"node": {"nodeName": agent.name, **_used(now, cores, held)}, "pods": pods}


def resource_metrics(pool: KubeletPool) -> bytes:
    """Prometheus text of /metrics/resource for all nodes of the pool."""
    now = pool.context.clock.now()
    cpu = ["# TYPE container_cpu_usage_seconds_total counter"]
    memory = ["# TYPE container_memory_working_set_bytes gauge"]
    start = ["# TYPE container_start_time_seconds gauge"]
    total_cores, total_bytes = 0.0, 0
    for agent in pool.agents.values():
        for worker in agent.workers.values():
            state = worker.state
            for view in state.views:
                if not view.running or view.current is None:
                    continue
                cores, held = usage(worker, view)
                seconds = cores * (now - view.current.started_at)
                total_cores, total_bytes = total_cores + seconds, total_bytes + held
                label = (
                    f'{{container="{view.name}",namespace="{state.namespace}",pod="{state.name}"}}'
                )
                cpu.append(f"container_cpu_usage_seconds_total{label} {seconds:.6f}")
                memory.append(f"container_memory_working_set_bytes{label} {held}")
                at = view.current.started_at
                start.append(f"container_start_time_seconds{label} {at:.3f}")
    node = [
        "# TYPE node_cpu_usage_seconds_total counter",
        f"node_cpu_usage_seconds_total {total_cores:.6f}",
        "# TYPE node_memory_working_set_bytes gauge",
        f"node_memory_working_set_bytes {total_bytes}",
        "# TYPE resource_scrape_error gauge",
        "resource_scrape_error 0",
    ]
    return ("\n".join([*cpu, *memory, *start, *node]) + "\n").encode()


def _used(now: str, cores: float, held: int) -> Object:
    return {
        "cpu": {"time": now, "usageNanoCores": int(cores * 1e9)},
        "memory": {"time": now, "usageBytes": held, "workingSetBytes": held},
    }
