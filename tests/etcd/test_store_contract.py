"""What every store promises, by name; run against SQLite and against a real etcd."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from typing import Any

import pytest

from cluster.etcd import (
    Compacted,
    CompareFailed,
    Event,
    FutureRevision,
    Store,
    StoreUnavailable,
    Watch,
    Write,
)

from .conftest import OpenStore


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def fresh_prefix() -> str:
    return f"/registry/{uuid.uuid4().hex}/"


async def collect(watch: Watch, count: int) -> list[Event]:
    """The first `count` events of a watch."""
    events: list[Event] = []
    async for batch in watch:
        events += batch
        if len(events) >= count:
            return events
    raise AssertionError("the watch ended")


def test_a_created_key_is_read_back_with_its_revisions(open_store: OpenStore) -> None:
    async def work() -> None:
        async with open_store() as store:
            prefix = fresh_prefix()
            made = await store.write(Write(prefix + "a", b"1", 0))
            assert made.create_revision == made.mod_revision > 0
            assert await store.get(prefix + "a") == made
            changed = await store.write(Write(prefix + "a", b"2", made.mod_revision))
            assert changed.create_revision == made.create_revision
            assert changed.mod_revision > made.mod_revision
            assert await store.get(prefix + "a") == changed

    run(work())


def test_creating_an_existing_key_fails_and_shows_what_is_there(open_store: OpenStore) -> None:
    async def work() -> None:
        async with open_store() as store:
            key = fresh_prefix() + "a"
            made = await store.write(Write(key, b"1", 0))
            with pytest.raises(CompareFailed) as failed:
                await store.write(Write(key, b"2", 0))
            assert failed.value.current == made
            assert await store.get(key) == made

    run(work())


def test_a_stale_update_and_a_stale_delete_change_nothing(open_store: OpenStore) -> None:
    async def work() -> None:
        async with open_store() as store:
            key = fresh_prefix() + "a"
            first = await store.write(Write(key, b"1", 0))
            second = await store.write(Write(key, b"2", first.mod_revision))
            for value in (b"3", None):
                with pytest.raises(CompareFailed):
                    await store.write(Write(key, value, first.mod_revision))
            assert await store.get(key) == second

    run(work())


def test_deleting_a_missing_key_fails(open_store: OpenStore) -> None:
    async def work() -> None:
        async with open_store() as store:
            for expected in (None, 7):
                with pytest.raises(CompareFailed) as failed:
                    await store.write(Write(fresh_prefix() + "none", None, expected))
                assert failed.value.current is None

    run(work())


def test_of_many_racing_creations_exactly_one_wins(open_store: OpenStore) -> None:
    async def work() -> None:
        async with open_store() as store:
            key = fresh_prefix() + "a"
            futures = [store.write_nowait(Write(key, b"%d" % i, 0)) for i in range(50)]
            results = await asyncio.gather(*futures, return_exceptions=True)
            assert sum(not isinstance(r, CompareFailed) for r in results) == 1

    run(work())


def test_a_range_is_ordered_paged_and_readable_at_an_old_revision(open_store: OpenStore) -> None:
    async def work() -> None:
        async with open_store() as store:
            prefix = fresh_prefix()
            keys = [prefix + name for name in ("b", "a/x", "a", "c", "a-b")]
            for key in keys:
                await store.write(Write(key, b"1", 0))
            await store.write(Write(prefix[:-1] + "0", b"a sibling, not below", 0))
            all_of_it = await store.range(prefix)
            assert [kv.key for kv in all_of_it.kvs] == sorted(keys)
            page = await store.range(prefix, limit=2)
            assert page.more and [kv.key for kv in page.kvs] == sorted(keys)[:2]
            rest = await store.range(
                prefix, start_after=page.kvs[-1].key, limit=3, revision=page.revision
            )
            assert not rest.more and [kv.key for kv in rest.kvs] == sorted(keys)[2:]
            await store.write(Write(keys[0], None, None))
            await store.write(Write(keys[1], b"2", None))
            old = await store.range(prefix, revision=all_of_it.revision)
            assert old.kvs == all_of_it.kvs
            assert keys[0] not in [kv.key for kv in (await store.range(prefix)).kvs]

    run(work())


def test_a_future_revision_is_refused(open_store: OpenStore) -> None:
    async def work() -> None:
        async with open_store() as store:
            now = await store.current_revision()
            with pytest.raises(FutureRevision):
                await store.range(fresh_prefix(), revision=now + 1_000_000)

    run(work())


def test_a_watch_is_ordered_unique_reliable_and_carries_what_was(open_store: OpenStore) -> None:
    async def work() -> None:
        async with open_store() as store:
            prefix = fresh_prefix()
            start = await store.current_revision()
            watch = await store.watch(prefix, start + 1)
            made = await store.write(Write(prefix + "a", b"1", 0))
            await store.write(Write(prefix[:-1] + "x", b"not ours", 0))
            changed = await store.write(Write(prefix + "a", b"2", made.mod_revision))
            gone = await store.write(Write(prefix + "a", None, changed.mod_revision))
            events = await collect(watch, 3)
            assert [e.type for e in events] == ["PUT", "PUT", "DELETE"]
            assert [e.kv.mod_revision for e in events] == [
                made.mod_revision, changed.mod_revision, gone.mod_revision,
            ]  # fmt: skip
            assert [e.prev for e in events] == [None, made, changed]
            await watch.close()
            with pytest.raises(StoreUnavailable):
                async for _ in watch:
                    pass

    run(work())


def test_a_watch_resumes_from_any_revision_and_then_goes_on_live(open_store: OpenStore) -> None:
    async def work() -> None:
        async with open_store() as store:
            prefix = fresh_prefix()
            made = [await store.write(Write(f"{prefix}{i}", b"1", 0)) for i in range(20)]
            watch = await store.watch(prefix, made[7].mod_revision)
            made.append(await store.write(Write(prefix + "live", b"1", 0)))
            events = await collect(watch, 14)
            assert [e.kv for e in events] == made[7:]
            await watch.close()

    run(work())


def test_a_compacted_revision_is_gone_and_the_present_is_not(open_store: OpenStore) -> None:
    async def work() -> None:
        async with open_store() as store:
            prefix = fresh_prefix()
            first = await store.write(Write(prefix + "a", b"1", 0))
            second = await store.write(Write(prefix + "a", b"2", None))
            await store.write(Write(prefix + "b", b"1", 0))
            await store.write(Write(prefix + "b", None, None))
            await store.compact(await store.current_revision())
            with pytest.raises(Compacted):
                await store.range(prefix, revision=first.mod_revision)
            with pytest.raises(Compacted):
                async for _ in await store.watch(prefix, first.mod_revision):
                    pass
            assert (await store.range(prefix)).kvs == [second]

    run(work())


def test_what_was_acknowledged_is_there_after_reopening(open_store: OpenStore) -> None:
    async def work() -> None:
        prefix = fresh_prefix()
        async with open_store() as store:
            made = [await store.write(Write(f"{prefix}{i}", b"1", 0)) for i in range(5)]
            await store.write(Write(prefix + "0", None, None))
            revision = await store.current_revision()
        async with open_store() as store:
            assert await store.current_revision() >= revision
            assert (await store.range(prefix)).kvs == made[1:]
            assert (await store.write(Write(prefix + "0", b"2", 0))).mod_revision > revision

    run(work())


def test_a_closed_store_refuses_writes(open_store: OpenStore) -> None:
    async def work() -> None:
        async with open_store() as store:
            closed: Store = store
        with pytest.raises(StoreUnavailable):
            await closed.write(Write(fresh_prefix() + "a", b"1", 0))

    run(work())
