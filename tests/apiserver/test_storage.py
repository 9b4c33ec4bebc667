"""The watch caches over a store: what a restart, a gap and a foreign writer leave behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cluster.api.meta import CONFIGMAPS, Object
from cluster.etcd.store import Write
from tests.apiserver.api import running


def test_a_restarted_server_serves_what_was_acknowledged(tmp_path: Path) -> None:
    async def steps() -> None:
        async with running(tmp_path) as api:
            ns = await api.namespace()
            made = await api.ok("POST", f"{ns}/configmaps", {"metadata": {"name": "a"}})
        async with running(tmp_path) as api:
            assert await api.ok("GET", f"{ns}/configmaps/a") == made

    asyncio.run(steps())


def test_a_foreign_writers_object_is_seen(tmp_path: Path) -> None:
    async def steps() -> None:
        async with running(tmp_path) as api:
            ns = await api.namespace()
            name = ns.rpartition("/")[2]
            value = (
                b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"f","namespace":"%b"}}'
            )
            async with api.watch(f"{ns}/configmaps?watch=true") as events:
                key = f"/registry/configmaps/{name}/f"
                await api.store.write(Write(key, value % name.encode(), 0))
                event = await events.next()
                assert event["object"]["metadata"]["name"] == "f"

    asyncio.run(steps())


def test_after_a_gap_subscribers_hear_the_difference_and_watches_end(tmp_path: Path) -> None:
    async def steps() -> None:
        async with running(tmp_path) as api:
            storage = api.server.storage
            ns = await api.namespace()
            name = ns.rpartition("/")[2]
            for known in ("stays", "goes"):
                await api.ok("POST", f"{ns}/configmaps", {"metadata": {"name": known}})
            heard: list[tuple[str | None, str | None]] = []

            def named(obj: Object | None) -> str | None:
                return obj["metadata"]["name"] if obj else None

            api.server.registry.subscribe(
                CONFIGMAPS, lambda old, new: heard.append((named(old), named(new)))
            )
            heard.clear()
            async with api.watch(f"{ns}/configmaps?watch=true&resourceVersion=99999") as events:
                follow = storage.handle_commit
                storage.handle_commit = lambda events: None  # type: ignore[method-assign]
                await api.store.write(Write(f"/registry/configmaps/{name}/goes", None, None))
                storage.handle_commit = follow  # type: ignore[method-assign]
                await storage._reload()
                assert heard == [("goes", None)]
                assert await events.next() is None
            assert (await api("GET", f"{ns}/configmaps/goes")).status == 404
            assert (await api("GET", f"{ns}/configmaps/stays")).status == 200

    asyncio.run(steps())


def test_concurrent_writers_of_one_object_all_count(tmp_path: Path) -> None:
    async def steps() -> None:
        async with running(tmp_path) as api:
            ns = await api.namespace()
            await api.ok("POST", f"{ns}/configmaps", {"metadata": {"name": "a"}})
            patches = [
                api(
                    "PATCH", f"{ns}/configmaps/a", {"data": {f"k{i}": "v"}},
                    content_type="application/merge-patch+json",
                )
                for i in range(4)
            ]  # fmt: skip
            answers = await asyncio.gather(*patches)
            assert [a.status for a in answers] == [200] * 4
            data = (await api.ok("GET", f"{ns}/configmaps/a"))["data"]
            assert set(data) == {"k0", "k1", "k2", "k3"}

    asyncio.run(steps())
