"""Files of a volume, replaced all at once.

Plays pkg/volume/util/atomic_writer.go: the files lie in a directory named after the time, `..data`
points to it, and each top-level name points through `..data`; an update renames one link.
"""

from __future__ import annotations

import contextlib
import shutil
from datetime import UTC, datetime
from pathlib import Path

from cluster.kubelet.volumes.plan import Payload


def write_atomically(target: Path, files: Payload, now: float) -> bool:
    """Make `target` hold exactly `files`; False when it did already."""
    target.mkdir(parents=True, exist_ok=True)
    data = target / "..data"
    if data.is_symlink() and _same(data.resolve(), files):
        return False
    stamp = datetime.fromtimestamp(now, UTC).strftime("..%Y_%m_%d_%H_%M_%S.%f")
    directory = target / stamp
    number = 0
    while directory.exists():
        number += 1
        directory = target / f"{stamp}{number}"
    directory.mkdir()
    for name, (content, mode) in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    previous = data.resolve() if data.is_symlink() else None
    fresh = target / "..data_tmp"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(directory.name)
    fresh.rename(data)
    _link_names(target, {name.split("/", 1)[0] for name in files})
    if previous is not None and previous != directory:
        shutil.rmtree(previous, ignore_errors=True)
    return True


def _link_names(target: Path, names: set[str]) -> None:
    for name in names:
        link = target / name
        if not link.is_symlink():
            link.symlink_to(Path("..data") / name)
    for path in target.iterdir():
        if path.is_symlink() and not path.name.startswith("..") and path.name not in names:
            path.unlink()


def _same(directory: Path, files: Payload) -> bool:
    with contextlib.suppress(OSError):
        have = {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}
        return have == set(files) and all(
            (directory / name).read_bytes() == content for name, (content, _) in files.items()
        )
    return False
