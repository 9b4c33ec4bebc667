"""kill -9 at any instant: every acknowledged write is there, and the watch history agrees."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from cluster.api.meta import SystemClock
from cluster.etcd import SqliteStore, StoreUnavailable, Write
from cluster.metrics.etcd import StoreMetrics

WRITER = """
import asyncio, sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from cluster.api.meta import SystemClock
from cluster.etcd import SqliteStore, Write
from cluster.metrics.etcd import StoreMetrics

async def main():
    metrics = StoreMetrics(CollectorRegistry())
    store = await SqliteStore.open(Path(sys.argv[1]), SystemClock(), metrics)
    number = int(sys.argv[2])
    while True:
        group = [store.write_nowait(Write(f"/r/{number + i}", b"x" * 500, 0)) for i in range(20)]
        for kv in await asyncio.gather(*group):
            print(kv.key, kv.mod_revision, flush=True)
        number += 20

asyncio.run(main())
"""


@pytest.mark.parametrize("round_", range(4))
def test_every_acknowledged_write_survives_kill_9(tmp_path: Path, round_: int) -> None:
    path = tmp_path / "store.sqlite"
    acknowledged: dict[str, int] = {}
    for start in (0, 1_000_000):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(start)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process.stdout as out:
            for _ in range(150 + 170 * round_):
                key, _, revision = out.readline().strip().partition(" ")
                acknowledged[key] = int(revision)
            process.send_signal(signal.SIGKILL)
            for line in out.readlines():
                if line.endswith("\n"):
                    key, _, revision = line.strip().partition(" ")
                    acknowledged[key] = int(revision)
        process.wait()

    async def check() -> None:
        store = await open_store(path)
        found = {kv.key: kv.mod_revision for kv in (await store.range("/r/")).kvs}
        await store.close()
        assert acknowledged.items() <= found.items()
        assert len(set(found.values())) == len(found)

    asyncio.run(check())


async def open_store(path: Path) -> SqliteStore:
    return await SqliteStore.open(path, SystemClock(), StoreMetrics(CollectorRegistry()))


def test_the_file_is_private_and_a_second_owner_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.etcd.sqlite.LOCK_WAIT_SECONDS", 0.1)

    async def work() -> None:
        path = tmp_path / "store.sqlite"
        store = await open_store(path)
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(StoreUnavailable, match="another process"):
            await open_store(path)
        await store.close()

    asyncio.run(work())


def test_a_full_disk_refuses_writes_loses_nothing_and_recovers(tmp_path: Path) -> None:
    async def work() -> None:
        store = await open_store(tmp_path / "store.sqlite")
        kept = await store.write(Write("/r/kept", b"1", 0))
        pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
        store._writer.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StoreUnavailable, match="full"):
            for i in range(50):
                await store.write(Write(f"/r/big{i}", b"x" * 100_000, 0))
        assert await store.get("/r/kept") == kept
        store._writer.execute("PRAGMA max_page_count = 1000000")
        after = await store.write(Write("/r/after", b"x" * 100_000, 0))
        assert after.mod_revision > kept.mod_revision
        assert (await store.range("/r/")).revision == after.mod_revision
        await store.close()

    asyncio.run(work())


def test_a_backup_is_a_whole_store(tmp_path: Path) -> None:
    async def work() -> None:
        store = await open_store(tmp_path / "store.sqlite")
        for i in range(10):
            await store.write(Write(f"/r/{i}", b"1", 0))
        await store.backup(tmp_path / "copy.sqlite")
        expected = (await store.range("/r/")).kvs
        await store.close()
        copy = await open_store(tmp_path / "copy.sqlite")
        assert (await copy.range("/r/")).kvs == expected
        await copy.close()

    asyncio.run(work())
