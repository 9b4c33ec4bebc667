"""Ray itself: join the running one, or start one on this machine and end it again.

A Ray that we start carries a marker in its environment, which all its processes inherit: ending it
ends exactly those processes, also when the ledger says more than is still alive.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from actors import paths, raytoken
from actors.errors import UserError

NAMESPACE = "kubestage"
"""Ray's namespace of all our actors."""
MARKER = "KUBESTAGE_RAY"
OBJECT_STORE_BYTES = 100_000_000
"""Ray is not the data path (decision D1): its shared memory can stay small."""
START_SECONDS = 60
ANSWER_SECONDS = 5.0
_QUIET = {
    "RAY_task_events_report_interval_ms": "0",
    "RAY_enable_open_telemetry": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_worker_niceness": "0",  # an actor is a control plane, not a batch job
    "RAY_memory_monitor_refresh_ms": "0",  # it would kill actors for what other processes take
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "OPENBLAS_NUM_THREADS": "1",
}


def connect(address: str, note: Callable[[str], None]) -> bool:
    """Join the Ray at `address`; with 'auto' and none running, start one. True if started.

    Raises UserError when the address does not answer.
    """
    if ray.is_initialized():
        return False
    if address != "auto":
        note(f"joining Ray at {address}")
        _init(address)
        return False
    if _current_address():
        try:
            note("joining the running Ray")
            _init("auto")
            return False
        except UserError:
            note("the Ray that was recorded here no longer answers")
    note("starting Ray on this machine")
    start_local()
    _init("auto")
    return True


def connect_existing(address: str = "auto") -> bool:
    """Join a running Ray; False if there is none. Never starts one."""
    if ray.is_initialized():
        return True
    if address == "auto" and not _current_address():
        return False
    try:
        _init(address)
    except UserError:
        return False
    return True


def start_local() -> None:
    """`ray start --head`, with a token, marked as ours. Raises UserError."""
    paths.private_dir(paths.run_root())
    marker = secrets.token_hex(8)
    environment = {**os.environ, **_QUIET, MARKER: marker}
    paths.write_private(paths.ray_ledger_path(), f'{{"marker": "{marker}"}}')
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head",
        "--disable-usage-stats",
        "--object-store-memory", str(OBJECT_STORE_BYTES),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=START_SECONDS,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        stop_local()
        raise UserError(f"Ray did not start within {START_SECONDS} s") from None
    if done.returncode:
        stop_local()
        tail = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise UserError(f"Ray did not start: {' '.join(tail)}")
    session = _session_dir()
    if session is not None:
        ledger = f'{{"marker": "{marker}", "session": "{session}"}}'
        paths.write_private(paths.ray_ledger_path(), ledger)


def stop_local(grace_seconds: float = 1.0) -> bool:
    """End the Ray that we started, if any, and remove its files. True if there was one."""
    ledger = paths.read_json(paths.ray_ledger_path())
    if ledger is None:
        return False
    with contextlib.suppress(Exception):
        ray.shutdown()
    marker = str(ledger["marker"])
    end_processes(lambda: marked_processes(marker), grace_seconds)
    session = ledger.get("session")
    root = Path("/tmp/ray")
    if session:
        shutil.rmtree(session, ignore_errors=True)
    if root.is_dir() and not any(p.name.startswith("session_2") for p in root.iterdir()):
        shutil.rmtree(root, ignore_errors=True)
    raytoken.token_path().unlink(missing_ok=True)
    paths.ray_ledger_path().unlink(missing_ok=True)
    return True


def end_processes(find: Callable[[], list[int]], grace_seconds: float) -> None:
    """SIGTERM to what `find` finds, SIGKILL to what is still there after the grace time."""
    for number, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience
        for pid in find():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        while time.monotonic() < deadline:
            if not find():
                return
            time.sleep(0.05)


def marked_processes(marker: str) -> list[int]:
    """Processes of this host whose environment carries our marker, zombies left out."""
    wanted = f"{MARKER}={marker}".encode()
    found = []
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit() or int(directory.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in (directory / "environ").read_bytes().split(b"\0"):
                found.append(int(directory.name))
    return found


def hosts() -> list[dict[str, Any]]:
    """Ray's live nodes; the one that this process is on comes first."""
    own = ray.get_runtime_context().get_node_id()
    alive = [n for n in ray.nodes() if n["Alive"]]
    return sorted(alive, key=lambda n: (n["NodeID"] != own, n["NodeManagerAddress"]))


def _init(address: str) -> None:
    import logging

    _refuse_silent(_current_address() if address == "auto" else address)

    try:
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            configure_logging=True,
        )
    except Exception as error:
        text = str(error).strip().splitlines()
        reason = text[0] if text else type(error).__name__
        raise UserError(f"Ray at {address} does not answer: {reason}") from error


def _refuse_silent(address: str) -> None:
    """Ray ends the whole process if nobody listens there: look first. Raises UserError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), ANSWER_SECONDS):
            return
    except (OSError, ValueError) as error:
        raise UserError(f"Ray at {address} does not answer ({error})") from error


def _current_address() -> str:
    """Where a Ray of this machine was last recorded; '' if nowhere."""
    given = os.environ.get("RAY_ADDRESS", "")
    if given not in ("", "auto"):
        return given
    recorded = Path("/tmp/ray/ray_current_cluster")
    return recorded.read_text().strip() if recorded.exists() else ""


def _session_dir() -> Path | None:
    latest = Path("/tmp/ray/session_latest")
    return latest.resolve() if latest.is_symlink() else None
