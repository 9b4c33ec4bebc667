"""`kind: ClusterConfiguration`: every setting of a cluster, alike on the command line, in
cluster.yaml and in Python. Bad settings are refused by name before anything is started.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from actors.errors import UserError

API_VERSION = "kubestage.io/v1"
KIND = "ClusterConfiguration"
MAX_NODES = 15_000
MIN_VERSION, MAX_VERSION = 28, 37


@dataclass(frozen=True, slots=True)
class ClusterConfiguration:
    """One cluster. Times in seconds; CIDRs may be '' = chosen so that they are free on the
    hosts."""

    name: str = "kubestage"
    nodes: int = 20
    kubelets_per_actor: int = 0  # 0: by the number of nodes and cores
    port: int = 6443
    store: Literal["sqlite", "etcd"] = "sqlite"
    data_dir: str = ""
    network: Literal["veth", "none"] = "veth"
    kubernetes_version: str = "1.37"
    kubeconfig: str = ""
    ray_address: str = "auto"
    pod_cidr: str = ""
    service_cidr: str = ""
    node_cidr: str = ""
    cluster_domain: str = "cluster.local"
    node_monitor_grace_seconds: float = 40.0
    lease_renew_seconds: float = 10.0
    node_cpu: str = "8"
    node_memory: str = "32Gi"
    node_pods: int = 110
    ready_timeout_seconds: float = 120.0
    node_labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", self.name):
            raise UserError(f"--name {self.name!r}: use 1 to 32 of a-z, 0-9 and '-'")
        _within("nodes", self.nodes, 0, MAX_NODES)
        _within("kubelets-per-actor", self.kubelets_per_actor, 0, 5_000)
        _within("port", self.port, 1, 65_535)
        _one_of("store", self.store, ("sqlite", "etcd"))
        _one_of("network", self.network, ("veth", "none"))
        match = re.fullmatch(r"v?1\.(\d+)(?:\.\d+)?", self.kubernetes_version)
        if not match or not MIN_VERSION <= int(match[1]) <= MAX_VERSION:
            raise UserError(
                f"--kubernetes-version {self.kubernetes_version}: "
                f"choose 1.{MIN_VERSION} to 1.{MAX_VERSION}"
            )
        for setting in ("pod_cidr", "service_cidr", "node_cidr"):
            try:
                ipaddress.IPv4Network(getattr(self, setting) or "10.0.0.0/8")
            except ValueError as error:
                raise UserError(f"{setting.replace('_', '-')}: {error}") from error

    @property
    def minor_version(self) -> str:
        """`1.37` of `v1.37.2`."""
        return ".".join(self.kubernetes_version.removeprefix("v").split(".")[:2])

    def to_dict(self) -> dict[str, Any]:
        """As `kind: ClusterConfiguration`."""
        return {"apiVersion": API_VERSION, "kind": KIND} | {
            _camel(k): v for k, v in dataclasses.asdict(self).items()
        }


def load(path: Path | None, overrides: dict[str, Any]) -> ClusterConfiguration:
    """The file's settings (if any) with `overrides` (given on the command line) on top."""
    settings = _read(path) if path else {}
    return ClusterConfiguration(**(settings | overrides))


def from_dict(document: dict[str, Any]) -> ClusterConfiguration:
    """The inverse of `to_dict`. Raises UserError with the unknown names."""
    names = {_camel(f.name): f for f in dataclasses.fields(ClusterConfiguration)}
    body = {k: v for k, v in document.items() if k not in ("apiVersion", "kind", "metadata")}
    unknown = sorted(set(body) - set(names))
    if unknown:
        raise UserError(f"unknown setting {', '.join(unknown)}; known: {', '.join(sorted(names))}")
    settings: dict[str, Any] = {}
    for key, value in body.items():
        wanted = type(names[key].default) if key != "nodeLabels" else dict
        if wanted is float and isinstance(value, int):
            value = float(value)
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise UserError(f"{key}: expected {wanted.__name__}, got {value!r}")
        settings[names[key].name] = value
    return ClusterConfiguration(**settings)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"--config {path}: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise UserError(f"--config {path}: expected a document of kind {KIND}")
    if document.get("apiVersion") != API_VERSION:
        raise UserError(f"--config {path}: expected apiVersion {API_VERSION}")
    configuration = from_dict(document)
    defaults = ClusterConfiguration()
    given = (f.name for f in dataclasses.fields(ClusterConfiguration))
    return {
        n: getattr(configuration, n)
        for n in given
        if getattr(configuration, n) != getattr(defaults, n)
    }


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UserError(f"--{name} {value}: choose {low} to {high}")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"--{name} {value}: choose {' or '.join(allowed)}")
