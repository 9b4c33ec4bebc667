"""`kubestage status`: what runs where, asked of the actors and of the API."""

from __future__ import annotations

import asyncio
import collections
import time
from typing import Any

import ray

from actors import deploy, ledger, rayhost
from actors.readiness import is_ready
from cluster.api.errors import StatusError
from cluster.api.meta import NODES, PODS
from cluster.client import ClientConfig, ConfigError

ANSWER_SECONDS = 2.0


def status(name: str, *, detailed: bool = False) -> dict[str, Any]:
    """One cluster as data; `detailed` also counts the kernel's objects on every host. Raises
    UserError if there is none here."""
    entry = ledger.require(name)
    connected = rayhost.connect_existing(entry.configuration.ray_address)
    rows = components(name) if connected else []
    api = asyncio.run(_objects(entry.kubeconfig))
    return {
        "name": name,
        "kubernetesVersion": entry.configuration.kubernetes_version,
        "store": entry.configuration.store,
        "network": entry.configuration.network,
        "kubeconfig": entry.kubeconfig,
        "dataDir": entry.data_dir,
        "ray": connected,
        "hosts": _hosts(rows, list(entry.hosts)),
        "kernel": _kernel(name) if connected and detailed else {},
        "components": rows,
        **api,
    }


def components(name: str) -> list[dict[str, Any]]:
    """Each actor's own account, and Ray's count of its restarts."""
    restarts = _restarts(name)
    rows = []
    asked = {n: deploy.find(n) for n in deploy.names(name)}
    answers = {n: a.info.remote() for n, a in asked.items() if a is not None}
    ray.wait(list(answers.values()), num_returns=len(answers), timeout=ANSWER_SECONDS)
    for actor_name, reference in answers.items():
        row: dict[str, Any] = {"component": actor_name.partition("/")[2], "alive": False}
        try:
            row |= ray.get(reference, timeout=0.1) | {"alive": True}
            row["ageSeconds"] = round(time.time() - row.pop("started"), 1)
        except ray.exceptions.RayError:
            row["ready"] = False
        row["restarts"] = restarts.get(actor_name, 0)
        rows.append(row)
    return rows


def _kernel(name: str) -> dict[str, dict[str, int]]:
    """By proxy actor: links, routes and addresses that its host's fabric really has."""
    proxies = [n for n in deploy.names(name) if n.partition("/")[2].startswith("kube-proxy")]
    found = {n: actor for n in proxies if (actor := deploy.find(n)) is not None}
    counts: dict[str, dict[str, int]] = {}
    for actor_name, actor in found.items():
        try:
            counts[actor_name] = ray.get(actor.census.remote(), timeout=ANSWER_SECONDS * 5)
        except ray.exceptions.RayError:
            continue
    return counts


def _restarts(name: str) -> dict[str, int]:
    from ray.util.state import list_actors

    try:
        rows = list_actors(
            detail=True, limit=10_000, timeout=5,
            filters=[("ray_namespace", "=", rayhost.NAMESPACE), ("state", "!=", "DEAD")],
        )  # fmt: skip
    except Exception:  # noqa: BLE001 - the state API needs Ray's dashboard; without it no counts
        return {}
    found = ((r.name, int(r.num_restarts or 0)) for r in rows)
    return {n: count for n, count in found if n and n.startswith(f"{name}/")}


def _hosts(components: list[dict[str, Any]], addresses: list[str]) -> list[dict[str, Any]]:
    counts = collections.Counter(c.get("host") for c in components)
    return [{"address": a, "actors": counts[a]} for a in addresses]


async def _objects(kubeconfig: str) -> dict[str, Any]:
    """Nodes and pods, counted; `api` says why if there is no answer."""
    try:
        client = ClientConfig.from_kubeconfig(kubeconfig).connect(batches=False)
    except ConfigError as error:
        return {"api": str(error), "nodes": {}, "pods": {}}
    try:
        async with asyncio.timeout(ANSWER_SECONDS * 5):
            nodes = (await client.list(NODES)).items
            pods = (await client.list(PODS)).items
    except (StatusError, TimeoutError) as error:
        return {"api": f"no answer: {error}", "nodes": {}, "pods": {}}
    finally:
        await client.close()
    ready = sum(is_ready(n) for n in nodes)
    phases = collections.Counter(p.get("status", {}).get("phase", "Unknown") for p in pods)
    return {
        "api": "ok",
        "nodes": {"total": len(nodes), "ready": ready},
        "pods": {"total": len(pods), **phases},
    }
