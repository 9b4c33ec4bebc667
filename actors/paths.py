"""Where a cluster keeps its things on one host, and the ledger of what was started there.

Everything of a cluster lives under two directories named after it, mode 0700, so that `down` can
remove them whole: the run directory (sockets, namespaces, ledgers; gone after a reboot) and the
data directory (store, certificates, logs). A `--data-dir` of the user's own is kept by `down`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def run_root() -> Path:
    """The directory over all clusters' run directories on this host."""
    if os.geteuid() == 0:
        return Path("/run/kubestage")
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base, "kubestage") if base else Path(f"/tmp/kubestage-{os.geteuid()}")


def data_root() -> Path:
    """The directory over all clusters' own data directories on this host."""
    if os.geteuid() == 0:
        return Path("/var/lib/kubestage")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share", "kubestage")


def run_dir(cluster: str) -> Path:
    return run_root() / cluster


def host_run_dir(cluster: str, underlay_ip: str) -> Path:
    """One host's part: hosts that share a file system (raylets in namespaces) stay apart."""
    return run_dir(cluster) / "hosts" / underlay_ip.replace(":", "-")


def ledger_path(cluster: str) -> Path:
    return run_dir(cluster) / "cluster.json"


def ray_ledger_path() -> Path:
    """What is written down of a Ray that we started: one a host, shared by all clusters."""
    return run_root() / "ray.json"


def private_dir(path: Path) -> Path:
    """Make `path` with mode 0700 if it is not there."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, mode 0600."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """The ledger at `path`; None if there is none or it was cut short by a crash."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return value if isinstance(value, dict) else None


def clusters_here() -> list[str]:
    """Names of the clusters that have a run directory on this host."""
    root = run_root()
    return sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
