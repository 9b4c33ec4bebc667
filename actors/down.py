"""`kubestage down`: nothing of the cluster is left, whatever state it is in.

The orderly way first (each actor stops its component and is killed for good), then the sweep that
needs no actor: each host's ledger of kernel objects, the processes written down, directories, and
last of all the Ray that `up` started, if no other cluster uses it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from actors import host, ledger, paths, rayhost
from actors.errors import UserError

SHUTDOWN_SECONDS = 3.0
GONE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Removed:
    """What `down` has to tell; `left` should be empty."""

    actors: int
    ended_ray: bool
    left: list[str]
    seconds: float


def down(name: str, *, purge: bool, note: Callable[[str], None]) -> Removed:
    """Remove cluster `name`. Raises UserError if there is none here."""
    began = time.monotonic()
    entry = ledger.require(name)
    others = [c for c in paths.clusters_here() if c != name]
    address = entry.configuration.ray_address
    count = 0
    left: list[str] = []
    if rayhost.connect_existing(address):
        count = _end_actors(name, note)
        left += _sweep_hosts(name, list(entry.hosts), note)
    _end_recorded(entry)
    note("sweeping this host")
    for directory in host.state_directories(name):
        left += host.sweep(name, directory.name)
    ended_ray = False
    if not others:
        with contextlib.suppress(Exception):
            ray.shutdown()
        ended_ray = rayhost.stop_local()
        if ended_ray:
            note("ended the Ray that was started for it")
    if not left:
        ledger.remove(entry, purge=purge)
    return Removed(count, ended_ray, left, time.monotonic() - began)


def _end_actors(name: str, note: Callable[[str], None]) -> int:
    """Orderly, with a time limit; then for good."""
    from actors import deploy

    handles = {n: deploy.find(n) for n in deploy.names(name)}
    actors = {n: a for n, a in handles.items() if a is not None}
    if not actors:
        return 0
    note(f"stopping {len(actors)} actors")
    # Everyone at once: the API server last would only make the others wait for it.
    pids = _pids(actors)
    stops = [a.shutdown.remote() for a in actors.values()]
    ray.wait(stops, num_returns=len(stops), timeout=SHUTDOWN_SECONDS)
    for actor in actors.values():
        ray.kill(actor, no_restart=True)
    _wait_gone(pids)
    return len(actors)


def _pids(actors: dict[str, Any]) -> list[tuple[int, float]]:
    """Local processes of the actors that still answer."""
    asked = [a.info.remote() for a in actors.values()]
    done, _ = ray.wait(asked, num_returns=len(asked), timeout=1.0)
    found = []
    for reference in done:
        with contextlib.suppress(ray.exceptions.RayError):
            pid = ray.get(reference)["pid"]
            start = ledger.process_start(pid)
            if start is not None:
                found.append((pid, start))
    return found


def _wait_gone(processes: list[tuple[int, float]]) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while any(ledger.process_start(pid) == start for pid, start in processes):
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def _sweep_hosts(name: str, addresses: list[str], note: Callable[[str], None]) -> list[str]:
    """On every other host of the cluster, as a Ray task there."""
    from actors import deploy

    own, *rest = rayhost.hosts()
    del own
    reachable = {n["NodeManagerAddress"]: n["NodeID"] for n in rest}
    tasks = {
        address: deploy.on_host(host.sweep, reachable[address], name, address)
        for address in addresses
        if address in reachable
    }
    left: list[str] = []
    for address, task in tasks.items():
        note(f"sweeping {address}")
        try:
            left += ray.get(task, timeout=30)
        except ray.exceptions.RayError as error:
            left.append(f"host {address}: {type(error).__name__}")
    return left


def _end_recorded(entry: ledger.Ledger) -> None:
    """Processes that `up` wrote down and that still are the same ones (Ray itself was killed)."""
    alive = [pid for pid, start in entry.processes if ledger.process_start(pid) == start]
    host.end_actor_processes(alive)
    _wait_gone(list(entry.processes))


def down_all(*, purge: bool, note: Callable[[str], None]) -> list[Removed]:
    """Remove every cluster of this machine."""
    names = paths.clusters_here()
    if not names:
        raise UserError("no cluster on this machine")
    return [down(n, purge=purge, note=note) for n in names]
