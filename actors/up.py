"""`kubestage up`: from settings to a ready cluster. Idempotent: a second call joins what is there.

Order: refuse what cannot work, write the ledger, join or start Ray, plan, certificates, create all
actors at once (each waits for the API by itself), then wait until a pod could run and resolve
names.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from actors import ledger as ledgers
from actors import rayhost
from actors.addresses import host_networks, with_free_ranges
from actors.configuration import ClusterConfiguration
from actors.context import Context, Credential
from actors.errors import UserError
from actors.etcd import etcd_binary
from actors.ledger import Ledger
from actors.plan import ClusterPlan, Host, plan_cluster
from actors.readiness import wait_cluster_ready

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Raised:
    """What `up` has to tell."""

    plan: ClusterPlan
    kubeconfig: str
    started_ray: bool
    seconds: float


def up(settings: ClusterConfiguration, note: Note) -> Raised:
    """Raise the cluster, or find it raised. Raises UserError."""
    began = time.monotonic()
    ledger = ledgers.read(settings.name)
    if ledger is None:
        refuse_impossible(settings)
        ledger = ledgers.begin(with_free_ranges(settings, host_networks()))
    else:
        _refuse_other_settings(ledger, settings)
    settings = ledger.configuration
    started_ray = rayhost.connect(settings.ray_address, note)
    plan = plan_cluster(settings, _hosts())
    ledger = dataclasses.replace(ledger, hosts=tuple(h.host.underlay_ip for h in plan.hosts))
    ledger.save()
    note("certificates")
    contexts, node_key = _contexts(plan, ledger)
    del node_key
    note(f"{len(contexts)} actors on {_count(len(plan.hosts), 'host')}")
    from actors import deploy

    actors = {context.instance: deploy.create(context) for context in contexts}
    _wait_actors(actors, settings.ready_timeout_seconds, note)
    _record_processes(ledger, actors)
    asyncio.run(wait_cluster_ready(plan, ledger.kubeconfig, note))
    return Raised(plan, ledger.kubeconfig, started_ray, time.monotonic() - began)


def refuse_impossible(settings: ClusterConfiguration) -> None:
    """What can be known to fail is refused before anything is started. Raises UserError."""
    if settings.network == "veth" and os.geteuid() != 0:
        raise UserError(
            "real pod networks need root: run as root, or use --network none "
            "(pods then have addresses, but nothing answers on them)"
        )
    if settings.store == "etcd":
        etcd_binary()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", settings.port))
        except OSError as error:
            raise UserError(
                f"port {settings.port} is taken ({error.strerror}); choose another with --port"
            ) from error


def _refuse_other_settings(existing: Ledger, settings: ClusterConfiguration) -> None:
    ours, wanted = existing.configuration.to_dict(), settings.to_dict()
    different = [
        f"{key} is {ours[key]!r}, not {wanted[key]!r}"
        for key in wanted
        if wanted[key] not in ("", ours.get(key)) and key != "readyTimeoutSeconds"
    ]
    if different:
        raise UserError(
            f"cluster {settings.name!r} exists with other settings ({'; '.join(different)}): "
            f"`kubestage down --name {settings.name}` first, or choose another --name"
        )


def _hosts() -> list[Host]:
    return [
        Host(n["NodeID"], n["NodeManagerAddress"], int(n["Resources"].get("CPU", 1)))
        for n in rayhost.hosts()
    ]


def _contexts(plan: ClusterPlan, ledger: Ledger) -> tuple[list[Context], bytes]:
    """Certificates made or found again, and what each actor is told."""
    from actors.pki import identities

    pki = identities(plan, Path(ledger.data_dir) / "pki", ledger.kubeconfig)

    def context(component: str, index: int = 0, host: int = 0) -> Context:
        client, serving = pki.credentials(component)
        key = pki.node_token_key if component in ("kubelet", "kube-apiserver") else b""
        return Context(plan, component, index, host, client, serving, ledger.data_dir, key)

    contexts = [context("etcd")] if plan.configuration.store == "etcd" else []
    contexts += [
        context("kube-apiserver"),
        context("kube-controller-manager"),
        context("kube-scheduler"),
    ]
    contexts += [context("kubelet", k.index, k.host_index) for k in plan.kubelets]
    if plan.configuration.network == "veth":
        for host in plan.hosts:
            contexts += [context("kube-proxy", host.index, host.index)]
            contexts += [context("coredns", host.index, host.index)]
    return contexts, pki.node_token_key


def _wait_actors(actors: dict[str, Any], timeout_seconds: float, note: Note) -> None:
    """Until each actor's component has started; else its own last words."""
    deadline = time.monotonic() + timeout_seconds
    waiting = {actor.wait_ready.remote(timeout_seconds): name for name, actor in actors.items()}
    while waiting:
        patience = max(0.1, deadline - time.monotonic())
        done, _ = ray.wait(list(waiting), num_returns=1, timeout=patience)
        if not done:
            _fail_with_last_words(actors, sorted(waiting.values()))
        name = waiting.pop(done[0])
        try:
            ready = ray.get(done[0])
        except ray.exceptions.RayError:
            # The actor died while starting and comes again: ask the next one.
            time.sleep(0.2)
            if time.monotonic() > deadline:
                _fail_with_last_words(actors, [name])
            waiting[actors[name].wait_ready.remote(timeout_seconds)] = name
            continue
        if not ready:
            _fail_with_last_words(actors, [name])
        note(f"{name} is up")


def _fail_with_last_words(actors: dict[str, Any], names: list[str]) -> None:
    import json

    words = []
    for name in names:
        try:
            lines, _ = ray.get(actors[name].logs.remote(50), timeout=2)
            errors = [line for line in lines if '"level": "error"' in line]
            last = json.loads(errors[-1]) if errors else {}
            error = str(last.get("error", "")).strip().splitlines()
            words.append(f"{name}: {error[-1] if error else 'not ready'}")
        except (ray.exceptions.RayError, OSError, ValueError):
            words.append(f"{name}: not ready")
    raise UserError(
        f"the cluster did not come up: {'; '.join(words)}. "
        "See `kubestage logs COMPONENT`; `kubestage down` removes it"
    )


def _record_processes(ledger: Ledger, actors: dict[str, Any]) -> None:
    infos = ray.get([a.info.remote() for a in actors.values()])
    found = [(i["pid"], ledgers.process_start(i["pid"])) for i in infos]
    pairs = tuple((pid, start) for pid, start in found if start is not None)
    dataclasses.replace(ledger, processes=pairs).save()


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


__all__ = ["Credential", "Raised", "refuse_impossible", "up"]
