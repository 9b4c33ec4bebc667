"""The informer's copy is what the server says, whatever happens to the watch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.errors import Expired
from cluster.api.meta import PODS
from cluster.client import Change, Client, Informer, InformerFactory, Unreachable, WatchEvent
from cluster.client import informer as informer_module

from .fakes import FakeTransport, event, pod


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(informer_module, "BACKOFF_SECONDS", (0.0, 0.0))


def listing(version: int, *items: Any) -> tuple[int, Any]:
    return 200, {"kind": "PodList", "metadata": {"resourceVersion": str(version)}, "items": items}


def names(changes: Sequence[Change]) -> list[tuple[str | None, str | None]]:
    def version(obj: Any) -> str | None:
        return None if obj is None else f"{obj['metadata']['name']}@{version_of(obj)}"

    def version_of(obj: Any) -> str:
        return str(obj["metadata"]["resourceVersion"])

    return [(version(old), version(new)) for old, new in changes]


def made(transport: FakeTransport) -> tuple[Informer, list[list[tuple[str | None, str | None]]]]:
    informer = Informer(Client(transport), PODS)
    told: list[list[tuple[str | None, str | None]]] = []
    informer.add_handler_batch(lambda changes: told.append(names(changes)))
    return informer, told


async def until(done: Any) -> None:
    for _ in range(1000):
        if done():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


async def running(informer: Informer, done: Any) -> None:
    task = asyncio.ensure_future(informer.run())
    try:
        await until(done)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_it_lists_then_watches_and_tells_each_chunk_at_once() -> None:
    async def go() -> None:
        transport = FakeTransport(lambda *_: listing(5, pod("a", 3)))
        transport.streams.append(
            [event("ADDED", pod("b", 6)) + event("MODIFIED", pod("a", 7)),
             event("DELETED", pod("a", 8))]
        )  # fmt: skip
        informer, told = made(transport)
        await running(informer, lambda: len(told) == 3)
        assert told == [
            [(None, "a@3")],
            [(None, "b@6"), ("a@3", "a@7")],
            [("a@8", None)],
        ]
        assert [*informer.keys()] == ["default/b"]
        assert informer.has_synced

    asyncio.run(go())


def test_it_goes_on_from_where_a_lost_watch_ended_without_listing_again() -> None:
    async def go() -> None:
        transport = FakeTransport(lambda *_: listing(5))
        transport.streams.append([event("ADDED", pod("a", 6)), Unreachable("reset", refused=False)])
        transport.streams.append([event("ADDED", pod("b", 7))])
        informer, told = made(transport)
        await running(informer, lambda: len(told) == 2)
        assert len(transport.requests) == 1
        assert "resourceVersion=6" in transport.stream_paths[1]

    asyncio.run(go())


def test_a_bookmark_moves_the_version_and_tells_nobody() -> None:
    async def go() -> None:
        transport = FakeTransport(lambda *_: listing(5))
        mark = {"metadata": {"resourceVersion": "90"}}
        transport.streams.append([event("BOOKMARK", mark)])
        informer, told = made(transport)
        await running(informer, lambda: len(transport.stream_paths) == 2)
        assert told == []
        assert "resourceVersion=90" in transport.stream_paths[1]

    asyncio.run(go())


def test_after_expired_it_lists_again_and_tells_only_what_differs() -> None:
    pages = [
        listing(5, pod("a", 1), pod("b", 2), pod("c", 3)),
        listing(50, pod("a", 1), pod("b", 40)),
    ]

    async def go() -> None:
        transport = FakeTransport(lambda *_: pages.pop(0))
        transport.streams.append([event("ERROR", Expired("too old").to_status())])
        informer, told = made(transport)
        await running(informer, lambda: len(told) == 2)
        assert told[1] == [("b@2", "b@40"), ("c@3", None)]

    asyncio.run(go())


def test_another_field_selector_lists_again_at_once() -> None:
    async def go() -> None:
        transport = FakeTransport(
            lambda method, path, body: listing(5, pod("a" if "n1" in path else "b", 1))
        )
        informer, told = made(transport)
        task = asyncio.ensure_future(informer.run())
        await until(lambda: len(told) == 1)
        informer.set_field_selector("spec.nodeName in (n1)")
        await until(lambda: len(told) == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert told == [[(None, "b@1")], [(None, "a@1"), ("b@1", None)]]

    asyncio.run(go())


def test_a_late_handler_is_told_all_there_is() -> None:
    informer = Informer(Client(FakeTransport(lambda *_: listing(1))), PODS)
    informer.replace([pod("a"), pod("b")], "1")
    told: list[Any] = []
    informer.add_handler(lambda old, new: told.append((old, new)))
    assert told == [(None, pod("a")), (None, pod("b"))]


def test_a_failing_handler_keeps_no_other_from_hearing() -> None:
    informer, told = made(FakeTransport(lambda *_: listing(1)))
    later: list[Any] = []
    informer.add_handler(lambda old, new: 1 / 0)
    informer.add_handler_batch(later.extend)
    informer.replace([pod("a")], "1")
    assert len(told) == len(later) == 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "delete", "relist"]),
            st.integers(0, 4),
            st.sampled_from(["red", "blue"]),
        )
    )
)
def test_the_copy_the_index_and_the_told_changes_agree_with_a_naive_model(
    steps: list[tuple[str, int, str]],
) -> None:
    informer = Informer(Client(FakeTransport(lambda *_: listing(1))), PODS)
    informer.add_index("colour", lambda obj: [obj["metadata"]["labels"]["colour"]])
    replayed: dict[str, Any] = {}

    def replay(changes: Sequence[Change]) -> None:
        for old, new in changes:
            if new is None:
                assert old is not None
                del replayed[old["metadata"]["name"]]
            else:
                assert (old is not None) == (new["metadata"]["name"] in replayed)
                replayed[new["metadata"]["name"]] = new

    informer.add_handler_batch(replay)
    model: dict[str, Any] = {}
    for version, (action, number, colour) in enumerate(steps, start=1):
        name = f"p{number}"
        obj = pod(name, version, colour=colour)
        if action == "put":
            kind = "MODIFIED" if name in model else "ADDED"
            model[name] = obj
            informer.handle_events([WatchEvent(kind, obj)])
        elif action == "delete":
            model.pop(name, None)
            informer.handle_events([WatchEvent("DELETED", obj)])
        else:
            if number % 2:
                model[name] = obj
            else:
                model.pop(name, None)
            informer.replace([*model.values()], str(version))
        assert {o["metadata"]["name"]: o for o in informer.list()} == model == replayed
        for each in ("red", "blue"):
            expected = {n for n, o in model.items() if o["metadata"]["labels"]["colour"] == each}
            found = informer.by_index("colour", each)
            assert {o["metadata"]["name"] for o in found} == expected


def test_a_factory_shares_informers_and_stops_them() -> None:
    async def go() -> None:
        transport = FakeTransport(lambda *_: listing(5, pod("a")))
        factory = InformerFactory(Client(transport))
        assert factory.informer(PODS) is factory.informer(PODS)
        assert factory.informer(PODS) is not factory.informer(PODS, field_selector="x=y")
        factory.start()
        await factory.wait_synced()
        late = factory.informer(PODS, namespace="other")
        await late.wait_synced()
        await factory.stop()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(go())
