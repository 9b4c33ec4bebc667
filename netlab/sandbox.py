"""A real command in a pod's namespaces, sandboxed: what `kubectl exec` and exec probes run.

The command sees the pod's network and its own processes only; the host's programs are mounted
read-only, nothing is writable but the pod's own directory, all capabilities are gone
(sandbox_init.py builds it). It is started by posix_spawn: to fork a large process with many threads
is slow and unsafe. It dies with the process that started it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import struct
import sys
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from netlab.sandbox_init import SPEC_FD
from netlab.values import NetlabError

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INIT = Path(__file__).with_name("sandbox_init.py")


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. `binds`: path in the pod -> (path on the host, read-only). `root_dir`: the pod's
    own directory on the host; what the command writes stays there for the pod's next commands."""

    argv: Sequence[str]
    netns_path: str
    root_dir: str
    hostname: str
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = "/"
    binds: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    tty: bool = False
    uid: int = 0
    gid: int = 0
    hidden: Sequence[str] = ()


class SandboxProcess:
    """A running command. Descriptors are non-blocking and the caller's to close (`close` does it);
    -1 where there is none. With a tty stdin and stdout are one descriptor, and reading it ends with
    EIO."""

    def __init__(self, pid: int, stdin_fd: int, stdout_fd: int, stderr_fd: int) -> None:
        self.pid = pid
        self.stdin_fd = stdin_fd
        self.stdout_fd = stdout_fd
        self.stderr_fd = stderr_fd
        self._pidfd = os.pidfd_open(pid)
        self._over = False
        self._ended: asyncio.Future[int] | None = None

    async def wait(self) -> int:
        """The exit code; 128+N if signal N ended it, 125 if the sandbox could not be built (stderr
        says why)."""
        if self._ended is None:
            loop = asyncio.get_running_loop()
            self._ended = loop.create_future()
            loop.add_reader(self._pidfd, self._reap, loop)
        return await asyncio.shield(self._ended)

    def resize(self, width: int, height: int) -> None:
        """Tell the terminal its size; without a terminal nothing happens."""
        if self.stdin_fd >= 0 and self.stdin_fd == self.stdout_fd:
            size = struct.pack("HHHH", height, width, 0, 0)
            fcntl.ioctl(self.stdin_fd, termios.TIOCSWINSZ, size)

    def kill(self) -> None:
        """End the command and all that it started. Idempotent."""
        if not self._over:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def close(self) -> None:
        """Close the descriptors that are still open."""
        for fd in {self.stdin_fd, self.stdout_fd, self.stderr_fd} - {-1}:
            try:
                os.close(fd)
            except OSError:
                continue
        self.stdin_fd = self.stdout_fd = self.stderr_fd = -1

    def _reap(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._pidfd)
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        os.close(self._pidfd)
        self._over = True
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(code if code >= 0 else 128 - code)


async def run(command: Command) -> SandboxProcess:
    """`start`, for event loops: it takes about a millisecond and does not wait for the command."""
    return start(command)


def start(command: Command) -> SandboxProcess:
    """Start a command. Raises NetlabError if it cannot even be tried. Call it from a thread that
    lives on (the event loop's): the command is killed when its starting thread ends."""
    if not command.argv:
        raise NetlabError("no command given")
    spec = _write_spec(command)
    ours, theirs = _open_terminal() if command.tty else _open_pipes()
    try:
        actions = [(os.POSIX_SPAWN_DUP2, fd, i) for i, fd in enumerate((*theirs, spec))]
        argv = [sys.executable, "-I", "-S", str(_INIT)]
        pid = os.posix_spawn(sys.executable, argv, {}, file_actions=actions)
        for fd in set(ours):
            os.set_blocking(fd, False)
        return SandboxProcess(pid, ours[0], ours[1], ours[2] if not command.tty else -1)
    except OSError as error:
        for fd in set(ours):
            os.close(fd)
        raise NetlabError(f"cannot start a command: {error}") from error
    finally:
        for fd in {*theirs, spec}:
            os.close(fd)


def _write_spec(command: Command) -> int:
    env = {"PATH": DEFAULT_PATH, "HOSTNAME": command.hostname, "HOME": "/root", **command.env}
    if command.tty:
        env.setdefault("TERM", "xterm")
    spec = {
        "argv": list(command.argv),
        "netns_path": command.netns_path,
        "root_dir": command.root_dir,
        "hostname": command.hostname[:63],
        "env": env,
        "working_dir": command.working_dir or "/",
        "binds": {path: list(bind) for path, bind in sorted(command.binds.items())},
        "tty": command.tty,
        "uid": command.uid,
        "gid": command.gid,
        "hidden": list(command.hidden),
    }
    fd = _high(os.memfd_create("sandbox"))
    os.write(fd, json.dumps(spec).encode())
    return fd


def _open_terminal() -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    master, slave = os.openpty()
    slave = _high(slave)
    return (master, master, master), (slave, slave, slave)


def _open_pipes() -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    stdin_theirs, stdin_ours = os.pipe()
    stdout_ours, stdout_theirs = os.pipe()
    stderr_ours, stderr_theirs = os.pipe()
    theirs = (_high(stdin_theirs), _high(stdout_theirs), _high(stderr_theirs))
    return (stdin_ours, stdout_ours, stderr_ours), theirs


def _high(fd: int) -> int:
    """Above the numbers that the child's descriptors get, so that no dup2 overwrites one that is
    still needed."""
    if fd > SPEC_FD:
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, SPEC_FD + 1)
    os.close(fd)
    return moved
