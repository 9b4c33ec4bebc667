"""Removal of a whole fabric, by its ledger: also after every process of the cluster was killed.

Idempotent. It removes the link that the ledger names and the one mount that holds the namespaces,
never anything by pattern.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from netlab import links
from netlab.ledger import read_ledger
from netlab.namespaces import NamespaceThread, is_namespace, unmount
from netlab.netlink import NetlinkSocket

_ENODEV = 19
_STALLED_SECONDS = 1.0
"""Without a link freed for so long, somebody (a process, a socket) holds the namespaces that are
left."""


def sweep(state_dir: Path, wait_seconds: float = 30.0) -> None:
    """Remove everything that the ledgers under `state_dir` list. Returns when the kernel has freed
    the pods, or after `wait_seconds`."""
    if not state_dir.exists():
        return
    thread = NamespaceThread("netlab-sweep")
    try:
        thread.run(_sweep, thread, state_dir, wait_seconds)
    finally:
        thread.stop()


def _sweep(thread: NamespaceThread, state_dir: Path, wait_seconds: float) -> None:
    namespaces = state_dir / "netns"
    fabric = namespaces / "fabric"
    held = os.open(fabric, os.O_RDONLY | os.O_CLOEXEC) if is_namespace(fabric) else -1
    try:
        while unmount(str(namespaces)):
            pass
        _delete_uplinks(state_dir)
        if held >= 0:
            _wait_empty(thread, held, wait_seconds)
    finally:
        if held >= 0:
            os.close(held)
    shutil.rmtree(namespaces, ignore_errors=True)
    for name in ("ledger", "net.d", "bin"):
        shutil.rmtree(state_dir / name, ignore_errors=True)
    for name in ("lock", "cni.lock"):
        (state_dir / name).unlink(missing_ok=True)
    try:
        state_dir.rmdir()
    except OSError:  # other rooms keep files here
        return


def _delete_uplinks(state_dir: Path) -> None:
    state = read_ledger(state_dir / "ledger" / "fabric.jsonl")
    netlink = NetlinkSocket()
    try:
        messages = [links.delete_link(name=name) for name in state.links]
        netlink.send_all(messages, frozenset((_ENODEV,)))
    finally:
        netlink.close()


def _wait_empty(thread: NamespaceThread, fabric_fd: int, wait_seconds: float) -> None:
    """Until no pod's link is left in the fabric. Links that stay (a process holds their namespace)
    are deleted."""
    deadline = time.monotonic() + wait_seconds
    before, progress = 0, time.monotonic()
    with thread.inside(fabric_fd):
        netlink = NetlinkSocket()
    try:
        while (left := _pod_links(netlink)) and time.monotonic() < deadline:
            if len(left) != before:
                before, progress = len(left), time.monotonic()
            elif time.monotonic() - progress > _STALLED_SECONDS:
                break
            time.sleep(0.01)
        netlink.send_all([links.delete_link(i) for i in left], frozenset((_ENODEV,)))
    finally:
        netlink.close()


def _pod_links(netlink: NetlinkSocket) -> list[int]:
    """Indexes above the fabric's own three."""
    found = []
    for payload in netlink.dump(links.GETLINK, links.info(0)):
        index = int.from_bytes(payload[4:8], "little")
        if index > 3:
            found.append(index)
    return found
