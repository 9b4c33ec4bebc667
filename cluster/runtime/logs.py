"""Container logs: CRI's format in a file per container, written in batches.

Plays containerd's log writing and pkg/kubelet/kuberuntime/logs. Lines wait in memory and go to
their file together (at most FLUSH_SECONDS later, or when somebody reads), so a quiet container
costs nothing and a chatty one few writes. At most the last FLUSH_SECONDS are lost by a kill -9.
Limits: a file of ROTATE_BYTES is renamed to `.1`, one kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cluster.api.meta import Clock, parse_rfc3339

FLUSH_SECONDS = 1.0
ROTATE_BYTES = 10 * 1024 * 1024
MEMORY_LINES = 1_000
MEMORY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class LogOptions:
    """v1.PodLogOptions, as far as one container's log goes. Negative: not given."""

    tail_lines: int = -1
    limit_bytes: int = -1
    since_time: float = 0.0
    timestamps: bool = False


def cri_time(now: float) -> str:
    """RFC 3339 with nine digits: `2026-01-02T03:04:05.123456000Z`."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


class ContainerLog:
    """One container's log. Without a path it lives in memory only, the last MEMORY_LINES lines."""

    __slots__ = (
        "_followers",
        "_memory",
        "_pending",
        "_pending_bytes",
        "_written",
        "closed",
        "path",
    )

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.closed = False
        self._memory: deque[bytes] | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._written = -1
        self._followers: list[Callable[[bytes | None], None]] | None = None

    def append(self, line: bytes) -> None:
        """One CRI line, newline included."""
        if self.path is None:
            if self._memory is None:
                self._memory = deque(maxlen=MEMORY_LINES)
            self._memory.append(line)
        else:
            self._pending.append(line)
            self._pending_bytes += len(line)
            if self._pending_bytes > MEMORY_BYTES:
                self.flush()
        if self._followers:
            for follower in list(self._followers):
                follower(line)

    def flush(self) -> None:
        """Write what waits. A full disk drops the lines: a log must not stop its container."""
        if not self._pending or self.path is None:
            return
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        try:
            if self._written < 0:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._written = self.path.stat().st_size if self.path.exists() else 0
            if self._written > ROTATE_BYTES:
                self.path.rename(self.path.with_suffix(self.path.suffix + ".1"))
                self._written = 0
            with self.path.open("ab") as file:
                file.write(data)
            self._written += len(data)
        except OSError:
            return

    def lines(self) -> Iterator[bytes]:
        """Every line kept, oldest first."""
        if self.path is None:
            yield from list(self._memory or ())
            return
        self.flush()
        for path in (self.path.with_suffix(self.path.suffix + ".1"), self.path):
            if path.exists():
                with path.open("rb") as file:
                    yield from file

    def read(self, options: LogOptions) -> list[bytes]:
        """Lines as kubectl shows them."""
        chosen: Iterator[bytes] | deque[bytes] = self.lines()
        if options.since_time:
            chosen = (line for line in chosen if _time_of(line) >= options.since_time)
        if options.tail_lines >= 0:
            chosen = deque(chosen, maxlen=options.tail_lines)
        shown = [show(line, options.timestamps) for line in chosen]
        return shown if options.limit_bytes < 0 else _cut(shown, options.limit_bytes)

    def follow(self, follower: Callable[[bytes | None], None]) -> Callable[[], None]:
        """Call with every new CRI line, and with None at the end. Returns the way to stop."""
        if self.closed:
            follower(None)
            return lambda: None
        if self._followers is None:
            self._followers = []
        self._followers.append(follower)

        def stop() -> None:
            if self._followers is not None and follower in self._followers:
                self._followers.remove(follower)

        return stop

    def close(self) -> None:
        """The container ended: followers are told."""
        self.closed = True
        followers, self._followers = self._followers, None
        for follower in followers or ():
            follower(None)

    def remove(self) -> None:
        """Delete the files."""
        self._pending.clear()
        if self.path is not None and self._written >= 0:
            self.path.unlink(missing_ok=True)
            self.path.with_suffix(self.path.suffix + ".1").unlink(missing_ok=True)

    def tail_bytes(self, limit_lines: int, limit_bytes: int) -> str:
        """The end of the log, as terminationMessagePolicy FallbackToLogsOnError takes it."""
        lines = self.read(LogOptions(tail_lines=limit_lines))
        return b"".join(lines)[-limit_bytes:].decode(errors="replace")


def show(line: bytes, timestamps: bool) -> bytes:
    """A CRI line `time stream F text` as text, with its time in front or without."""
    time, _, rest = line.partition(b" ")
    text = rest.split(b" ", 2)[2]
    return time + b" " + text if timestamps else text


def _time_of(line: bytes) -> float:
    return parse_rfc3339(line[:26].decode() + "+00:00")


def _cut(lines: list[bytes], limit: int) -> list[bytes]:
    kept: list[bytes] = []
    for line in lines:
        kept.append(line[:limit])
        limit -= len(line)
        if limit <= 0:
            break
    return kept


class LogStore:
    """All logs of one process, and the one timer that writes them."""

    def __init__(self, root: Path | None, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._dirty: set[ContainerLog] = set()
        self._timer: asyncio.TimerHandle | None = None

    def open(self, relative: str) -> ContainerLog:
        return ContainerLog(self._root / relative if self._root is not None else None)

    def write(self, log: ContainerLog, stream: str, text: bytes) -> None:
        """Add complete lines of output. A last line without newline is written as one line."""
        stamp = f"{cri_time(self._clock.now())} {stream} F ".encode()
        for line in text.splitlines():
            log.append(stamp + line + b"\n")
        if log.path is not None:
            self._dirty.add(log)
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        dirty, self._dirty = self._dirty, set()
        for log in dirty:
            log.flush()
