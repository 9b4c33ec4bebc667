"""The ledger: what was made is written down before it is made.

One append-only file of JSON lines per owner (a process that adds pods). A process that is killed
between any two steps leaves a line behind, and whoever opens the ledger next removes what is half
made. Nothing is ever found by name pattern.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Record = dict[str, Any]
_COMPACT_AFTER_LINES = 4096


@dataclass(slots=True)
class LedgerState:
    """What the lines add up to: `pods` by id (with "up": true once complete), last address by
    range, links."""

    pods: dict[str, Record] = field(default_factory=dict)
    cursors: dict[str, str] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    lines: int = 0

    def apply(self, record: Mapping[str, Any]) -> None:
        """Take one line into account."""
        self.lines += 1
        match record["op"]:
            case "add":
                self.pods[record["id"]] = dict(record)
                self.cursors[record["cidr"]] = record["ip"]
            case "up":
                for pod in record["ids"]:
                    if pod in self.pods:
                        self.pods[pod]["up"] = True
            case "del":
                for pod in record["ids"]:
                    self.pods.pop(pod, None)
            case "cursor":
                self.cursors[record["cidr"]] = record["ip"]
            case "link":
                if record["name"] not in self.links:
                    self.links.append(record["name"])

    def records(self) -> Iterator[Record]:
        """The shortest list of lines that adds up to this."""
        yield from ({"op": "link", "name": name} for name in self.links)
        for pod in self.pods.values():
            yield {k: v for k, v in pod.items() if k != "up"}
        complete = [key for key, pod in self.pods.items() if pod.get("up")]
        if complete:
            yield {"op": "up", "ids": complete}
        yield from ({"op": "cursor", "cidr": c, "ip": ip} for c, ip in self.cursors.items())


def read_ledger(path: Path) -> LedgerState:
    """Replay a ledger. A last line cut short by a crash is left out: what it announced was not
    made."""
    state = LedgerState()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return state
    for line in data.split(b"\n"):
        if line:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            state.apply(record)
    return state


class Ledger:
    """An open ledger. `append` reaches the kernel before it returns, so it survives SIGKILL of this
    process."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self.state = read_ledger(path)
        if self.state.lines > _COMPACT_AFTER_LINES:
            self._compact()
        self._fd = self._open()

    def append(self, records: Iterable[Record]) -> None:
        """Write records with one call."""
        lines = []
        for record in records:
            self.state.apply(record)
            lines.append(json.dumps(record, separators=(",", ":")))
        if lines:
            os.write(self._fd, ("\n".join(lines) + "\n").encode())
        if self.state.lines > _COMPACT_AFTER_LINES + 8 * len(self.state.pods):
            os.close(self._fd)
            self._compact()
            self._fd = self._open()

    def close(self) -> None:
        os.close(self._fd)

    def _open(self) -> int:
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = os.fstat(fd).st_size
        if size:
            with self._path.open("rb") as file:
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    os.write(fd, b"\n")
        return fd

    def _compact(self) -> None:
        new = self._path.with_suffix(".new")
        records = list(self.state.records())
        body = "".join(json.dumps(r, separators=(",", ":")) + "\n" for r in records)
        new.write_text(body)
        new.replace(self._path)
        self.state.lines = len(records)
