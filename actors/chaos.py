"""Faults. First light has one: kill -9 an actor's process. Experiments are a room to be built."""

from __future__ import annotations

import os
import signal
from typing import Any

import ray

from actors import deploy, rayhost
from actors.errors import UserError
from actors.logs import find_instance


def targets(name: str) -> list[str]:
    """Instances that can be killed."""
    from actors import ledger

    entry = ledger.require(name)
    rayhost.connect_existing(entry.configuration.ray_address)
    return [n.partition("/")[2] for n in deploy.names(name)]


def kill(name: str, component: str, index: int) -> dict[str, Any]:
    """SIGKILL the process of one actor, on its own host. Raises UserError."""
    instance = find_instance(name, component, index)
    actor = deploy.find(f"{name}/{instance}")
    if actor is None:
        raise UserError(f"{instance} is not alive")
    info: dict[str, Any] = ray.get(actor.info.remote(), timeout=10)
    own = {n["NodeManagerAddress"]: n["NodeID"] for n in rayhost.hosts()}
    ray.get(deploy.on_host(_kill, own[info["host"]], info["pid"]), timeout=10)
    return info


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
