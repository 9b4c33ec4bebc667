#!/usr/bin/env python3
"""Kill -9 each actor in turn and measure how the cluster heals; prints a Markdown table.

    .venv/bin/python scripts/chaos_kill_table.py [--name kubestage]

From the instant of each kill: seconds until the API answers, seconds until a pod made then is
Ready, and for three pods from before: how many changed their IP, how many do not answer afterwards,
and the longest time that one of them did not answer. For a cluster on one host, as root.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import time

from actors import raytoken
from cluster.api.errors import AlreadyExists, StatusError
from cluster.api.meta import DEPLOYMENTS, NAMESPACES, PODS, Object
from cluster.client import Client, ClientConfig

NAMESPACE = "kill-table"
STEP_SECONDS = 0.02
HEAL_SECONDS = 60.0
PODS_BEFORE = 3


def pod_spec() -> Object:
    return {"containers": [{"name": "c", "image": "nginx"}]}


async def prepare(client: Client) -> dict[str, str]:
    """Three pods that answer; their addresses by name."""
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod_spec()}
    spec = {
        "replicas": PODS_BEFORE,
        "selector": {"matchLabels": {"app": "web"}},
        "template": template,
    }
    await client.create(NAMESPACES, {"kind": "Namespace", "metadata": {"name": NAMESPACE}})
    await client.create(DEPLOYMENTS, {"metadata": {"name": "web"}, "spec": spec}, NAMESPACE)
    while True:
        found = await addresses(client)
        if len(found) == PODS_BEFORE and all(found.values()):
            return found
        await asyncio.sleep(0.1)


async def addresses(client: Client) -> dict[str, str]:
    listed = await client.list(PODS, NAMESPACE, label_selector="app=web")
    return {p["metadata"]["name"]: p.get("status", {}).get("podIP", "") for p in listed.items}


def connects(ip: str) -> bool:
    try:
        with socket.create_connection((ip, 80), 0.2):
            return True
    except OSError:
        return False


async def watch_silence(ips: list[str], stop: asyncio.Event) -> float:
    """The longest time, in seconds, that one address did not answer."""
    since = dict.fromkeys(ips, 0.0)
    longest = 0.0
    while not stop.is_set():
        for ip in ips:
            now = time.monotonic()
            if await asyncio.to_thread(connects, ip):
                longest = max(longest, now - since[ip] if since[ip] else 0.0)
                since[ip] = 0.0
            elif not since[ip]:
                since[ip] = now
        await asyncio.sleep(STEP_SECONDS)
    return longest


async def until(began: float, check: object) -> float:
    """Seconds since `began` until `await check()` is true; API errors count as no."""
    while time.monotonic() - began < HEAL_SECONDS:
        try:
            if await check():  # type: ignore[operator]
                return time.monotonic() - began
        except (StatusError, TimeoutError):
            pass
        await asyncio.sleep(STEP_SECONDS)
    return float("inf")


async def one(client: Client, component: str, pid: int, before: dict[str, str]) -> str:
    """Kill one actor; its row of the table."""
    name = f"after-{component}"
    stop = asyncio.Event()
    silence = asyncio.create_task(watch_silence(list(before.values()), stop))
    await asyncio.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()

    async def answers() -> bool:
        async with asyncio.timeout(1.0):
            status, _ = await client.raw("GET", "/readyz")
        return status == 200

    async def running() -> bool:
        try:
            pod = {"metadata": {"name": name}, "spec": pod_spec()}
            await client.create(PODS, pod, NAMESPACE)
        except AlreadyExists:
            pass
        conditions = (await client.get(PODS, name, NAMESPACE)).get("status", {})
        ready = conditions.get("conditions") or ()
        return any(c["type"] == "Ready" and c["status"] == "True" for c in ready)

    api, pod = await asyncio.gather(until(began, answers), until(began, running))
    await asyncio.sleep(2.0)
    stop.set()
    longest = await silence
    changed = sum(before.get(n) != ip for n, ip in (await addresses(client)).items())
    mute = sum(not connects(ip) for ip in before.values())
    return f"| {component} | {api:.2f} | {pod:.2f} | {changed} | {mute} | {longest:.2f} |"


async def table(kubeconfig: str, name: str) -> None:
    from actors.status import components

    client = ClientConfig.from_kubeconfig(kubeconfig).connect(batches=False)
    try:
        before = await prepare(client)
        print(
            "| killed | API answers, s | new pod Ready, s | IPs changed | silent after | gap, s |"
        )
        print("|---|---|---|---|---|---|")
        for row in await asyncio.to_thread(components, name):
            print(await one(client, row["component"], row["pid"], before), flush=True)
    finally:
        await client.delete(NAMESPACES, NAMESPACE)
        await client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--name", default="kubestage")
    given = parser.parse_args()
    raytoken.prepare()
    from actors import ledger, rayhost

    entry = ledger.require(given.name)
    rayhost.connect_existing(entry.configuration.ray_address)
    asyncio.run(table(entry.kubeconfig, given.name))


if __name__ == "__main__":
    main()
