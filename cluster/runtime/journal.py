"""The runtime's memory across a kill -9: an append-only file of JSON lines.

Plays containerd's metadata store. Records written in one turn of the loop leave in one write; they
are not synced to the disk, because they must outlive the process, not the machine (whose pods a
power cut ends as well). A torn last line is ignored. The file is rewritten from the live records
once it is mostly dead ones.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

Record = dict[str, Any]
COMPACT_MINIMUM = 2_000
"""Records after which a file is compacted, if more than three of four are dead."""


class Journal:
    """`live` gives the records that would rebuild the present state; it is asked when the file is
    compacted."""

    def __init__(self, path: Path, live: Callable[[], Iterable[Record]]) -> None:
        self._path = path
        self._live = live
        self._pending: list[bytes] = []
        self._records = 0
        self._live_after_compaction = 0
        self._fd = -1
        self._scheduled: asyncio.Handle | None = None

    def replay(self) -> Iterator[Record]:
        """What was written before, in order."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return
                try:
                    record = orjson.loads(line)
                except orjson.JSONDecodeError:
                    continue
                self._records += 1
                yield record

    def append(self, record: Record) -> None:
        self._pending.append(orjson.dumps(record))
        self._records += 1
        if self._scheduled is None:
            self._scheduled = asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what waits. Raises OSError when the disk is full: a container nobody remembers
        would leak."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        if not self._pending:
            return
        if self._records > COMPACT_MINIMUM and self._records > 4 * self._live_after_compaction:
            self._pending.clear()
            self.compact()
            return
        data = b"\n".join(self._pending) + b"\n"
        self._pending.clear()
        os.write(self._open(), data)

    def compact(self) -> None:
        """Replace the file by the live records, atomically."""
        lines = [orjson.dumps(record) + b"\n" for record in self._live()]
        temporary = self._path.with_suffix(".new")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(b"".join(lines))
        temporary.replace(self._path)
        self._records = self._live_after_compaction = len(lines)
        self._close()

    def close(self) -> None:
        self.flush()
        self._close()

    def _open(self) -> int:
        if self._fd < 0:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o600)
        return self._fd

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
