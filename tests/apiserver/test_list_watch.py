"""list and watch: pages, versions, selectors, bookmarks, resumption."""

from __future__ import annotations

import asyncio

from tests.apiserver.api import Api
from tests.apiserver.conftest import Run


async def make(api: Api, ns: str, name: str, **labels: str) -> dict[str, object]:
    made: dict[str, object] = await api.ok(
        "POST", f"{ns}/configmaps", {"metadata": {"name": name, "labels": labels}}
    )
    return made


def test_pages_together_are_the_whole_list_in_order(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        for i in range(7):
            await make(api, ns, f"c{i}")
        names: list[str] = []
        token = ""
        while True:
            page = await api.ok("GET", f"{ns}/configmaps?limit=3&continue={token}")
            names += [item["metadata"]["name"] for item in page["items"]]
            token = page["metadata"].get("continue", "")
            if not token:
                break
            assert page["metadata"]["remainingItemCount"] == 7 - len(names)
        assert names == [f"c{i}" for i in range(7)]

    run(steps)


def test_later_pages_are_of_the_first_pages_revision(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        for i in range(4):
            await make(api, ns, f"c{i}")
        first = await api.ok("GET", f"{ns}/configmaps?limit=2")
        await api.ok("DELETE", f"{ns}/configmaps/c3")
        await make(api, ns, "c9")
        rest = await api.ok(
            "GET", f"{ns}/configmaps?limit=2&continue={first['metadata']['continue']}"
        )
        assert [item["metadata"]["name"] for item in rest["items"]] == ["c2", "c3"]
        assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]

    run(steps)


def test_an_exact_older_version_is_listed_and_a_future_one_times_out(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        await make(api, ns, "a")
        before = (await api.ok("GET", f"{ns}/configmaps"))["metadata"]["resourceVersion"]
        await make(api, ns, "b")
        path = f"{ns}/configmaps?resourceVersionMatch=Exact&resourceVersion={before}"
        assert [i["metadata"]["name"] for i in (await api.ok("GET", path))["items"]] == ["a"]
        future = await api("GET", f"{ns}/configmaps?resourceVersion=99999999")
        assert future.status == 504
        assert future.message.startswith("Timeout: Too large resource version: 99999999, current: ")

    run(steps)


def test_selectors_narrow_lists(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        await make(api, ns, "a", app="x")
        await make(api, ns, "b", app="y")

        async def names(query: str) -> list[str]:
            listed = await api.ok("GET", f"{ns}/configmaps?{query}")
            return [i["metadata"]["name"] for i in listed["items"]]

        assert await names("labelSelector=app%3Dx") == ["a"]
        assert await names("labelSelector=app+in+(x,y)") == ["a", "b"]
        assert await names("labelSelector=app!%3Dx") == ["b"]
        assert await names("fieldSelector=metadata.name%3Db") == ["b"]
        assert (await api("GET", f"{ns}/configmaps?fieldSelector=spec.x%3Db")).status == 400
        assert (await api("GET", f"{ns}/configmaps?labelSelector=a%20b%20c")).status == 400

    run(steps)


def test_a_watch_without_a_version_begins_with_the_state(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        await make(api, ns, "a")
        async with api.watch(f"{ns}/configmaps?watch=true") as events:
            first = await events.next()
            assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "a")
            made = await make(api, ns, "b")
            second = await events.next()
            assert (second["type"], second["object"]) == ("ADDED", made)

    run(steps)


def test_a_watch_resumes_where_it_was_and_misses_nothing(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        start = (await api.ok("GET", f"{ns}/configmaps"))["metadata"]["resourceVersion"]
        await make(api, ns, "a")
        await api.ok("PUT", f"{ns}/configmaps/a", {"metadata": {"name": "a"}, "data": {"k": "v"}})
        gone = await api("DELETE", f"{ns}/configmaps/a")
        assert gone.json["status"] == "Success"
        async with api.watch(f"{ns}/configmaps?watch=1&resourceVersion={start}") as events:
            seen = await events.take(3)
            assert [e["type"] for e in seen] == ["ADDED", "MODIFIED", "DELETED"]
            versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in seen]
            assert versions == sorted(versions) and len(set(versions)) == 3

    run(steps)


def test_a_selector_sees_objects_come_and_go(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        path = f"{ns}/configmaps?watch=true&labelSelector=app%3Dx"
        async with api.watch(path) as events:
            await make(api, ns, "a", app="y")
            for labels in ({"app": "x"}, {"app": "x", "more": "1"}, {"app": "y"}):
                body = {"metadata": {"name": "a", "labels": labels}}
                last = await api.ok("PUT", f"{ns}/configmaps/a", body)
            seen = await events.take(3)
            assert [e["type"] for e in seen] == ["ADDED", "MODIFIED", "DELETED"]
            left = seen[-1]["object"]
            assert left["metadata"]["labels"] == {"app": "x", "more": "1"}
            assert left["metadata"]["resourceVersion"] == last["metadata"]["resourceVersion"]

    run(steps)


def test_a_version_that_is_forgotten_is_410(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        await make(api, ns, "a")
        api.server.storage.cache("", "configmaps").expire_history(float("inf"))
        async with api.watch(f"{ns}/configmaps?watch=true&resourceVersion=1") as events:
            event = await events.next()
            assert event["type"] == "ERROR"
            assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
            assert event["object"]["message"].startswith("too old resource version: 1 (")
            assert await events.next() is None

    run(steps)


def test_initial_events_end_with_a_marked_bookmark(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        await make(api, ns, "a")
        query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        query += "&allowWatchBookmarks=true"
        async with api.watch(f"{ns}/configmaps?{query}") as events:
            added, bookmark = await events.take(2)
            assert added["type"] == "ADDED"
            assert bookmark["type"] == "BOOKMARK"
            metadata = bookmark["object"]["metadata"]
            assert metadata["annotations"] == {"k8s.io/initial-events-end": "true"}
            assert int(metadata["resourceVersion"]) >= int(
                added["object"]["metadata"]["resourceVersion"]
            )
        bad = await api("GET", f"{ns}/configmaps?watch=true&sendInitialEvents=true")
        assert bad.status == 422

    run(steps)


def test_bookmarks_come_to_who_asked_for_them(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        async with api.watch(f"{ns}/configmaps?watch=true&allowWatchBookmarks=true") as events:
            await make(api, ns, "a")
            await events.next()
            api.server.storage.send_bookmarks()
            bookmark = await events.next()
            assert (bookmark["type"], bookmark["object"]["kind"]) == ("BOOKMARK", "ConfigMap")

    run(steps)


def test_a_watch_ends_when_its_time_is_over(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        async with api.watch(f"{ns}/configmaps?watch=true&timeoutSeconds=1") as events:
            assert await events.next() is None

    run(steps)


def test_pods_are_found_by_their_nodes(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        spec = {"containers": [{"name": "c", "image": "i"}]}
        for name, node in (("a", "n1"), ("b", "n2"), ("c", "n3")):
            await api.ok("POST", f"{ns}/pods", {"metadata": {"name": name}, "spec": spec})
            if name == "a":
                await bind(api, ns, name, node)
        query = "fieldSelector=spec.nodeName+in+(n1,n2)"
        async with api.watch(f"{ns}/pods?watch=true&{query}") as events:
            assert (await events.next())["object"]["metadata"]["name"] == "a"
            await bind(api, ns, "c", "n3")
            await bind(api, ns, "b", "n2")
            bound = await events.next()
            assert (bound["type"], bound["object"]["metadata"]["name"]) == ("ADDED", "b")
        listed = await api.ok("GET", f"{ns}/pods?{query}")
        assert [i["metadata"]["name"] for i in listed["items"]] == ["a", "b"]

    run(steps)


async def bind(api: Api, ns: str, pod: str, node: str) -> None:
    await api.ok(
        "POST", f"{ns}/pods/{pod}/binding",
        {"metadata": {"name": pod}, "target": {"kind": "Node", "name": node}},
    )  # fmt: skip


def test_a_watcher_that_does_not_read_is_closed_and_others_are_not(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        reader, writer = await api.connect()
        from tests.apiserver.api import head

        writer.write(head("GET", f"{ns}/configmaps?watch=true", b""))
        await reader.readuntil(b"\r\n\r\n")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        cache = api.server.storage.cache("", "configmaps")
        big = {"k": "x" * 500_000}
        async with api.watch(f"{ns}/configmaps?watch=true") as events:
            before = cache.watcher_count
            for i in range(40):
                body = {"metadata": {"name": "a"}, "data": {**big, "i": str(i)}}
                method, path = ("POST", "") if i == 0 else ("PUT", "/a")
                await api.ok(method, f"{ns}/configmaps{path}", body)
                await events.next()
            await asyncio.sleep(0)
            assert cache.watcher_count == before - 1
        writer.close()

    run(steps)
