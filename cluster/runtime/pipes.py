"""Reading a real command's output to its end on the event loop."""

from __future__ import annotations

import asyncio
import os

from cluster.runtime.model import ExecResult
from cluster.runtime.network import ExecProcess

OUTPUT_BYTES = 4 << 20
"""Of each stream of a command run to its end; the rest is read and dropped."""


async def collect(process: ExecProcess) -> ExecResult:
    """Close its input, read both outputs, wait. Kills it when cancelled."""
    if process.stdin_fd >= 0:
        os.close(process.stdin_fd)
    readers = [asyncio.ensure_future(_drain(fd)) for fd in (process.stdout_fd, process.stderr_fd)]
    try:
        out, err = await asyncio.gather(*readers)
        code = await process.wait()
    except BaseException:
        process.kill()
        for reader in readers:
            reader.cancel()
        reap(process)
        raise
    return ExecResult(code, out, err)


def reap(process: ExecProcess) -> None:
    """Wait for a killed command in the background, so that no zombie stays."""
    task = asyncio.ensure_future(process.wait())
    _reaping.add(task)
    task.add_done_callback(_reaping.discard)


_reaping: set[asyncio.Future[int]] = set()
"""The loop itself holds tasks weakly."""


async def _drain(fd: int) -> bytes:
    if fd < 0:
        return b""
    kept: list[bytes] = []
    size = 0
    try:
        while data := await read_fd(fd):
            if size < OUTPUT_BYTES:
                kept.append(data)
                size += len(data)
    finally:
        os.close(fd)
    return b"".join(kept)[:OUTPUT_BYTES]


async def read_fd(fd: int, limit: int = 65536) -> bytes:
    """Some bytes of a non-blocking descriptor; b'' at its end (a closed terminal counts as one)."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return os.read(fd, limit)
        except (BlockingIOError, InterruptedError):
            ready = loop.create_future()
            loop.add_reader(fd, _wake, ready)
            try:
                await ready
            finally:
                loop.remove_reader(fd)
        except OSError:
            return b""


async def write_fd(fd: int, data: bytes) -> None:
    """All of `data` into a non-blocking descriptor. Raises BrokenPipeError."""
    loop = asyncio.get_running_loop()
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except (BlockingIOError, InterruptedError):
            ready = loop.create_future()
            loop.add_writer(fd, _wake, ready)
            try:
                await ready
            finally:
                loop.remove_writer(fd)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
