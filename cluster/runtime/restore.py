"""What the runtime's journal says, and how a new process takes it up again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.runtime.emulated_network import EmulatedPodNetwork
from cluster.runtime.journal import Record
from cluster.runtime.model import (
    Container,
    ContainerConfig,
    Fault,
    Mount,
    Port,
    Sandbox,
    SandboxConfig,
)
from cluster.runtime.network import NetworkRequest, NetworkResult, PortMapping

if TYPE_CHECKING:
    from cluster.runtime.service import RuntimeService


def sandbox_record(sandbox: Sandbox) -> Record:
    """orjson writes the frozen dataclasses as objects."""
    return {
        "o": "s",
        "id": sandbox.id,
        "c": sandbox.config,
        "t": sandbox.created_at,
        "n": sandbox.network,
    }


def container_record(container: Container) -> Record:
    return {
        "o": "c", "id": container.id, "s": container.sandbox_id, "c": container.config,
        "t": container.created_at, "ref": container.image_ref, "iid": container.image_id,
    }  # fmt: skip


def exit_record(container: Container) -> Record:
    return {
        "o": "x", "id": container.id, "t": container.finished_at, "code": container.exit_code,
        "reason": container.reason, "message": container.message,
    }  # fmt: skip


def live_records(sandboxes: Iterable[Sandbox], containers: Iterable[Container]) -> list[Record]:
    """The shortest journal that rebuilds these."""
    records: list[Record] = []
    for sandbox in sandboxes:
        records.append(sandbox_record(sandbox))
        if not sandbox.ready:
            records.append({"o": "S", "id": sandbox.id})
    for container in containers:
        records.append(container_record(container))
        if container.state != "created":
            records.append({"o": "r", "id": container.id, "t": container.started_at})
        if container.state == "exited":
            records.append(exit_record(container))
    return records


async def restore(runtime: RuntimeService, records: Iterable[Record]) -> None:
    """Rebuild the state, then serve again what ran. A sandbox whose network is gone is no longer
    ready: its containers count as lost (code 255, as containerd reports a lost task)."""
    sandboxes, containers = _replay(records)
    held = runtime.network.attachments()
    for sandbox in sandboxes.values():
        network = held.get(sandbox.id)
        if network is None and sandbox.ready:
            network = await _reattach(runtime, sandbox)
        sandbox.ready = sandbox.ready and network is not None
        if network is not None:
            sandbox.network = network
        runtime.adopt_sandbox(sandbox)
    for container in containers.values():
        owner = sandboxes.get(container.sandbox_id)
        if owner is None:
            continue
        runtime.adopt_container(owner, container)
        runtime.images.remember(owner.config.node_name, container.config.image)
        if container.state == "running":
            if owner.ready:
                runtime.revive(container)
            else:
                container.state, container.exit_code, container.reason = "exited", 255, "Unknown"
                container.finished_at = runtime.clock.now()


async def _reattach(runtime: RuntimeService, sandbox: Sandbox) -> NetworkResult | None:
    """The two networks that no kernel remembers: the host's own, and the emulated one."""
    config, network = sandbox.config, runtime.network
    request = NetworkRequest(
        sandbox.id,
        config.namespace,
        config.name,
        config.uid,
        config.node_name,
        config.pod_cidr,
        config.node_ip,
        config.host_network,
    )
    if config.host_network:
        return await network.add(request)
    if isinstance(network, EmulatedPodNetwork):
        network.restore(request, sandbox.ip)
        return network.attachments()[sandbox.id]
    return None


def remove_files(path: Path | None) -> None:
    if path is not None and path.exists():
        shutil.rmtree(path, ignore_errors=True)


def _replay(records: Iterable[Record]) -> tuple[dict[str, Sandbox], dict[str, Container]]:
    sandboxes: dict[str, Sandbox] = {}
    containers: dict[str, Container] = {}
    for record in records:
        key = record["id"]
        match record["o"]:
            case "s":
                config = _sandbox_config(record["c"])
                sandboxes[key] = Sandbox(key, config, record["t"], NetworkResult(**record["n"]))
            case "S" if key in sandboxes:
                sandboxes[key].ready = False
            case "R":
                sandboxes.pop(key, None)
            case "c":
                containers[key] = Container(
                    key,
                    record["s"],
                    _container_config(record["c"]),
                    record["ref"],
                    record["iid"],
                    record["t"],
                )
            case "r" if key in containers:
                containers[key].state = "running"
                containers[key].started_at = record["t"]
            case "x" if key in containers:
                container = containers[key]
                container.state, container.finished_at = "exited", record["t"]
                container.exit_code, container.reason = record["code"], record["reason"]
                container.message = record["message"]
            case "d":
                containers.pop(key, None)
    return sandboxes, containers


def _sandbox_config(raw: dict[str, Any]) -> SandboxConfig:
    raw["port_mappings"] = tuple(PortMapping(**m) for m in raw.get("port_mappings") or ())
    return SandboxConfig(**raw)


def _container_config(raw: dict[str, Any]) -> ContainerConfig:
    raw["ports"] = tuple(Port(**p) for p in raw["ports"])
    raw["mounts"] = tuple(Mount(**m) for m in raw["mounts"])
    raw["fault"] = Fault(**raw["fault"]) if raw["fault"] else None
    return ContainerConfig(**raw)
