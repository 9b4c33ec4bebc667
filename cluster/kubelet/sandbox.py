"""A pod's spec as the runtime's sandbox and container configurations. Pure.

Plays generatePodSandboxConfig and generateContainerConfig of pkg/kubelet/kuberuntime, and reads the
annotations that script an emulated container:

    kubestage.io/exit.NAME: "after=5s,code=1,reason=OOMKilled,times=3"   it ends by itself
    kubestage.io/stop.NAME: "5s"                                         it takes that long to stop
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cluster.kubelet.environment import expand
from cluster.kubelet.hosts import hostname_of
from cluster.kubelet.podstate import ContainerView, PodState
from cluster.runtime.coreutils import sleep_seconds
from cluster.runtime.model import ContainerConfig, Fault, Mount, Port, SandboxConfig
from cluster.runtime.network import PortMapping

if TYPE_CHECKING:
    from cluster.kubelet.node import NodeAgent


def sandbox_config(node: NodeAgent, state: PodState) -> SandboxConfig:
    """The pod's sandbox on a node."""
    spec = state.pod["spec"]
    host_network = bool(spec.get("hostNetwork"))
    mappings = tuple(
        PortMapping(
            p["hostPort"], p["containerPort"], p.get("protocol") or "TCP", p.get("hostIP") or ""
        )
        for c in spec["containers"]
        for p in c.get("ports") or ()
        if p.get("hostPort") and not host_network
    )
    hostname = node.name if host_network else hostname_of(state.pod)[0]
    return SandboxConfig(
        uid=state.uid, namespace=state.namespace, name=state.name, node_name=node.name,
        pod_cidr=node.pod_cidr, node_ip=node.spec.ip, hostname=hostname,
        attempt=state.sandbox_attempts, host_network=host_network, port_mappings=mappings,
    )  # fmt: skip


def container_config(
    state: PodState, view: ContainerView, mounts: list[Mount], env: Mapping[str, str]
) -> ContainerConfig:
    """One instance of a container; `env` is only needed by what has a command."""
    spec, attempt = view.spec, view.restarts
    annotations = state.pod["metadata"].get("annotations") or {}
    path = f"{state.namespace}_{state.name}_{state.uid}/{view.name}/{attempt}.log"
    context = spec.get("securityContext") or {}
    pod_context = state.pod["spec"].get("securityContext") or {}
    return ContainerConfig(
        name=view.name,
        image=spec["image"],
        attempt=attempt,
        command=tuple(expand(word, env) for word in spec.get("command") or ()),
        args=tuple(expand(word, env) for word in spec.get("args") or ()),
        env=env,
        working_dir=spec.get("workingDir") or "",
        ports=tuple(
            Port(p["containerPort"], p.get("protocol") or "TCP", p.get("name") or "")
            for p in spec.get("ports") or ()
        ),
        mounts=tuple(mounts),
        stdin=bool(spec.get("stdin")),
        tty=bool(spec.get("tty")),
        log_path=path,
        fault=_fault(annotations.get(f"kubestage.io/exit.{view.name}")),
        stop_seconds=_seconds(annotations.get(f"kubestage.io/stop.{view.name}", "")),
        uid=context.get("runAsUser", pod_context.get("runAsUser", 0)),
        gid=context.get("runAsGroup", pod_context.get("runAsGroup", 0)),
    )


def _fault(text: str | None) -> Fault | None:
    if not text:
        return None
    words = dict(part.partition("=")[::2] for part in text.split(","))
    code, times = words.get("code", "1"), words.get("times", "0")
    return Fault(
        _seconds(words.get("after", "0")),
        int(code) if code.isdigit() else 1,
        words.get("reason", ""),
        int(times) if times.isdigit() else 0,
    )


def _seconds(text: str) -> float:
    return sleep_seconds([text]) or 0.0 if text else 0.0
