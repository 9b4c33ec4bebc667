"""Network namespaces as files, and the one thread that may enter them.

A namespace is a property of a thread, so all entering happens in a thread made for it: the
program's other threads never change place. Unlike pyroute2's `NetNS`, nothing forks: that is unsafe
inside a large threaded process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import ParamSpec, TypeVar

CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_PRIVATE, _MNT_DETACH = 4096, 1 << 18, 2
_NSFS_MAGIC = 0x6E736673
P = ParamSpec("P")
T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare_net() -> None:
    """Put the calling thread into a new, empty network namespace."""
    _check(_libc.unshare(CLONE_NEWNET), "unshare")


def enter(fd: int) -> None:
    """Put the calling thread into the namespace of `fd`."""
    _check(_libc.setns(fd, CLONE_NEWNET), "setns")


def bind_mount(source: str, target: str) -> None:
    _check(_libc.mount(source.encode(), target.encode(), None, _MS_BIND, None), f"mount {target}")


def mount_private_tmpfs(target: str) -> None:
    """A tmpfs whose mounts spread to no other mount namespace; one unmount frees all that is on
    it."""
    result = _libc.mount(b"kubestage", target.encode(), b"tmpfs", 0, b"mode=0755")
    _check(result, f"mount {target}")
    _check(_libc.mount(None, target.encode(), None, _MS_PRIVATE, None), f"mount {target}")


def unmount(target: str) -> bool:
    """Detach a mount. False if there was none."""
    if _libc.umount2(target.encode(), _MNT_DETACH) == 0:
        return True
    code = ctypes.get_errno()
    if code in (2, 22):
        return False
    raise OSError(code, f"umount {target}: {os.strerror(code)}")


class _StatFs(ctypes.Structure):
    _fields_ = (("f_type", ctypes.c_long), ("rest", ctypes.c_byte * 256))


def is_namespace(path: str | Path) -> bool:
    """Whether `path` is a mounted namespace (and not the empty file below it)."""
    data = _StatFs()
    if _libc.statfs(str(path).encode(), ctypes.byref(data)) != 0:
        return False
    return bool(data.f_type == _NSFS_MAGIC)


def is_mount_point(path: str | Path) -> bool:
    """Whether another file system begins at `path`."""
    try:
        return Path(path).stat().st_dev != Path(path).parent.stat().st_dev
    except FileNotFoundError:
        return False


class NamespaceThread:
    """The thread that enters namespaces. Jobs run one after another, in the order they were
    submitted."""

    def __init__(self, name: str = "netlab") -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[object], Callable[[], object]] | None]
        self._jobs = queue.SimpleQueue()
        self._home = -1
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `function` there; the future holds its result."""
        future: Future[T] = Future()
        self._jobs.put((future, lambda: function(*args, **kwargs)))  # type: ignore[arg-type]
        return future

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` there and wait for it. Called from a job it runs at once."""
        if threading.current_thread() is self._thread:
            return function(*args, **kwargs)
        return self.submit(function, *args, **kwargs).result()

    def stop(self) -> None:
        """End the thread after the jobs that wait."""
        self._jobs.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    @contextlib.contextmanager
    def inside(self, path: str | Path | int) -> Iterator[None]:
        """Within a job: be in the namespace at `path` (or of an open descriptor)."""
        self.assert_here()
        fd = path if isinstance(path, int) else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(fd)
        finally:
            if not isinstance(path, int):
                os.close(fd)
        try:
            yield
        finally:
            enter(self._home)

    @contextlib.contextmanager
    def home(self) -> Iterator[None]:
        """Within a job that calls `unshare_net`: go home at the end."""
        self.assert_here()
        try:
            yield
        finally:
            enter(self._home)

    def assert_here(self) -> None:
        assert threading.current_thread() is self._thread, "only the namespace thread may enter"

    def _work(self) -> None:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            while (job := self._jobs.get()) is not None:
                future, function = job
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    future.set_result(function())
                except BaseException as error:  # noqa: BLE001 - the caller's future carries it
                    future.set_exception(error)
                del job, future, function
        finally:
            os.close(self._home)
