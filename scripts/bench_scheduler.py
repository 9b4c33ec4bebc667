"""CPU of the scheduler alone, a pod: queue, filter, score, assume; client and API are left out.

    python scripts/bench_scheduler.py [--nodes 100 5000] [--pods 2000]

Prints one line a case. Targets: 0.15 ms at 100 nodes, 0.4 ms at 5,000.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from typing import Any

from prometheus_client import CollectorRegistry

from cluster.api.meta import Object, SystemClock
from cluster.metrics.scheduler import SchedulerMetrics
from cluster.scheduler import Scheduler, SchedulerConfig


class NoClient:
    """Answers every write at once, with nothing."""

    def __getattr__(self, name: str) -> Any:
        def write(*args: object, **kwargs: object) -> asyncio.Future[Object]:
            future: asyncio.Future[Object] = asyncio.get_running_loop().create_future()
            future.set_result({})
            return future

        return write


class NoRecorder:
    def event(self, *args: object, **kwargs: object) -> None:
        pass


def make_node(number: int) -> Object:
    name = f"node-{number}"
    labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"z{number % 3}"}
    allocatable = {"cpu": "32", "memory": "256Gi", "pods": "250", "ephemeral-storage": "100Gi"}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {"allocatable": allocatable},
    }


def make_pod(number: int, **spec: Any) -> Object:
    resources = {"requests": {"cpu": "10m", "memory": "16Mi"}}
    container = {"name": "c", "image": "nginx", "resources": resources}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"web-{number}", "namespace": "default", "uid": str(number),
            "labels": {"app": "web"},
        },
        "spec": {"schedulerName": "default-scheduler", "containers": [container], **spec},
        "status": {"phase": "Pending"},
    }  # fmt: skip


CASES: dict[str, dict[str, Any]] = {
    "bare": {},
    "deployment": {},
    "spread": {
        "topologySpreadConstraints": [
            {
                "maxSkew": 5,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": "web"}},
            }
        ]
    },
    "anti-affinity": {
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 100,
                        "podAffinityTerm": {
                            "topologyKey": "kubernetes.io/hostname",
                            "labelSelector": {"matchLabels": {"app": "web"}},
                        },
                    }
                ]
            }
        }
    },
}


async def measure(nodes: int, pods: int, one_by_one: bool, case: str) -> float:
    """Milliseconds of CPU a pod."""
    scheduler = Scheduler(
        NoClient(),  # type: ignore[arg-type]
        SchedulerConfig(),
        SystemClock(),
        random.Random(1),
        NoRecorder(),  # type: ignore[arg-type]
        SchedulerMetrics(CollectorRegistry()),
    )
    scheduler.events.handle_nodes([(None, make_node(n)) for n in range(nodes)])
    waiting = [make_pod(n, **CASES[case]) for n in range(pods)]
    if case == "deployment":
        selector = {"matchLabels": {"app": "web"}}
        meta = {"name": "web", "namespace": "default"}
        owners = scheduler.owners.replicasets
        owners.replace([{"metadata": meta, "spec": {"selector": selector}}], "1")
        reference = {"kind": "ReplicaSet", "name": "web", "controller": True}
        for pod in waiting:
            pod["metadata"]["ownerReferences"] = [reference]
    size = 1 if one_by_one else 100
    started = time.process_time()
    for start in range(0, pods, size):
        scheduler.events.handle_pods([(None, p) for p in waiting[start : start + size]])
        while scheduler.queue.has_ready:
            scheduler.schedule_run()
        await asyncio.sleep(0)
    used = time.process_time() - started
    assert len(scheduler.cache.pods) == pods, "not every pod was placed"
    return used * 1000 / pods


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[100, 5000])
    parser.add_argument("--pods", type=int, default=2000)
    options = parser.parse_args()
    for nodes in options.nodes:
        for case in CASES:
            for one_by_one in (False, True):
                cost = asyncio.run(measure(nodes, options.pods, one_by_one, case))
                how = "one by one" if one_by_one else "100 at once"
                print(f"{nodes:6} nodes  {case:14} {how:12} {cost:.3f} ms CPU a pod")


if __name__ == "__main__":
    main()
