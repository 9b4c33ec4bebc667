"""What `up` writes down before it acts, so that `down` can undo it in any state.

One JSON file a cluster and host, mode 0600: the plan, where data lives, and each actor's process as
soon as it is known.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors import configuration, paths
from actors.configuration import ClusterConfiguration
from actors.errors import UserError


@dataclass(frozen=True, slots=True)
class Ledger:
    """A cluster as it was asked for on this host. `hosts` are underlay addresses."""

    configuration: ClusterConfiguration
    data_dir: str
    keep_data: bool
    kubeconfig: str
    hosts: tuple[str, ...] = ()
    processes: tuple[tuple[int, float], ...] = ()

    def save(self) -> None:
        """Replace the file."""
        import orjson

        name = self.configuration.name
        paths.private_dir(paths.run_root())
        paths.private_dir(paths.run_dir(name))
        document = {
            "configuration": self.configuration.to_dict(),
            "dataDir": self.data_dir,
            "keepData": self.keep_data,
            "kubeconfig": self.kubeconfig,
            "hosts": list(self.hosts),
            "processes": [list(p) for p in self.processes],
        }
        paths.write_private(paths.ledger_path(name), orjson.dumps(document).decode())


def begin(settings: ClusterConfiguration) -> Ledger:
    """The ledger of a new cluster, written. Raises UserError if the directories cannot be made."""
    own = settings.data_dir
    data = Path(own).absolute() if own else paths.data_root() / settings.name
    kubeconfig = settings.kubeconfig or str(Path.home() / ".kube" / f"{settings.name}.yaml")
    ledger = Ledger(settings, str(data), bool(own), str(Path(kubeconfig).absolute()))
    try:
        paths.private_dir(data)
        ledger.save()
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or data}: {error.strerror}; choose another --data-dir"
        ) from error
    return ledger


def read(name: str) -> Ledger | None:
    """The ledger of a cluster on this host, if there is one."""
    document = paths.read_json(paths.ledger_path(name))
    if document is None:
        return None
    return Ledger(
        configuration=configuration.from_dict(document["configuration"]),
        data_dir=document["dataDir"],
        keep_data=document["keepData"],
        kubeconfig=document["kubeconfig"],
        hosts=tuple(document["hosts"]),
        processes=tuple((int(p), float(s)) for p, s in document["processes"]),
    )


def require(name: str) -> Ledger:
    """The ledger, or a UserError that names the clusters there are."""
    found = read(name)
    if found is not None:
        return found
    here = ", ".join(paths.clusters_here()) or "none"
    raise UserError(
        f"no cluster {name!r} on this machine (clusters here: {here}); try `kubestage up`"
    )


def process_start(pid: int) -> float | None:
    """When a process began, in clock ticks since boot: tells a pid from its reuse."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields: list[Any] = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else float(fields[19])


def remove(ledger: Ledger, *, purge: bool) -> None:
    """The last step of `down`: the directories go, the ledger's own at the very end."""
    name = ledger.configuration.name
    if purge or not ledger.keep_data:
        shutil.rmtree(ledger.data_dir, ignore_errors=True)
        _remove_if_empty(paths.data_root())
    Path(ledger.kubeconfig).unlink(missing_ok=True)
    shutil.rmtree(paths.run_dir(name), ignore_errors=True)
    _remove_if_empty(paths.run_root())


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return
