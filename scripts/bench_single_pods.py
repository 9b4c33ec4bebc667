#!/usr/bin/env python3
"""How long one pod takes from POST to Running and Ready, seen by a watch, one pod at a time.

    .venv/bin/python scripts/bench_single_pods.py --kubeconfig ~/.kube/kubestage.yaml [--pods 50]

Every node pulls the image first (a DaemonSet), so what is measured is a start with a cached image.
Prints one JSON line; removes what it made.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path

from actors.readiness import is_ready
from cluster.api.meta import DAEMONSETS, PODS, Object
from cluster.client import Client, ClientConfig

NAMESPACE = "default"
TIMEOUT_SECONDS = 60.0


def pod(name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"bench": "single"}},
        "spec": {
            "containers": [{"name": "c", "image": "nginx"}],
            "terminationGracePeriodSeconds": 0,
        },
    }


async def warm_up(client: Client) -> None:
    """Until every node has the image."""
    template = {
        "metadata": {"labels": {"bench": "warm"}},
        "spec": {"containers": pod("x")["spec"]["containers"]},
    }
    daemon = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "bench-warm"},
        "spec": {"selector": {"matchLabels": {"bench": "warm"}}, "template": template},
    }
    await client.create(DAEMONSETS, daemon, NAMESPACE)
    while True:
        status = (await client.get(DAEMONSETS, "bench-warm", NAMESPACE)).get("status", {})
        wanted = status.get("desiredNumberScheduled", 0)
        if wanted and status.get("numberReady") == wanted:
            break
        await asyncio.sleep(0.2)
    await client.delete(DAEMONSETS, "bench-warm", NAMESPACE, propagation="Background")
    while True:
        left = await client.list(PODS, NAMESPACE, label_selector="bench=warm")
        if not left.items:
            return
        await asyncio.sleep(0.2)


async def one(client: Client, name: str, version: str) -> float:
    """Seconds from POST to Ready."""
    watch = client.watch(
        PODS, NAMESPACE, resource_version=version, field_selector=f"metadata.name={name}"
    )
    began = time.perf_counter()
    await client.create(PODS, pod(name), NAMESPACE)
    async for events in watch:
        if any(is_ready(event.object) for event in events):
            return time.perf_counter() - began
    raise RuntimeError("the watch ended")


async def measure(kubeconfig: str, pods: int) -> dict[str, float]:
    client = ClientConfig.from_kubeconfig(kubeconfig).connect(batches=False)
    try:
        await warm_up(client)
        seconds = []
        for i in range(pods):
            listed = await client.list(PODS, NAMESPACE, limit=1)
            work = one(client, f"bench-{i}", listed.resource_version)
            seconds.append(await asyncio.wait_for(work, TIMEOUT_SECONDS))
        await client.delete_collection(PODS, NAMESPACE, label_selector="bench=single")
    finally:
        await client.close()
    ordered = sorted(seconds)
    return {
        "pods": pods,
        "median_ms": round(statistics.median(ordered) * 1000, 1),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 1),
        "min_ms": round(ordered[0] * 1000, 1),
        "max_ms": round(ordered[-1] * 1000, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = str(Path.home() / ".kube" / "kubestage.yaml")
    parser.add_argument("--kubeconfig", default=default)
    parser.add_argument("--pods", type=int, default=50)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(measure(given.kubeconfig, given.pods))))


if __name__ == "__main__":
    main()
