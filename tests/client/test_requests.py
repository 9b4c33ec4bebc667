"""Requests, batches and retries."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.api.errors import (
    Conflict,
    Expired,
    Invalid,
    NotFound,
    ServiceUnavailable,
    TooManyRequests,
)
from cluster.api.meta import DEPLOYMENTS, EVENTS, NODES, PODS
from cluster.client import (
    BATCH_PATH,
    Batcher,
    Client,
    ClientConfig,
    ConfigError,
    RetryPolicy,
    Unreachable,
)
from cluster.client.rest import collection_path, decode_events, object_path

from .fakes import FakeTransport, accept, event, pod, turns

QUICK = RetryPolicy(attempts=3, base_seconds=0.0, cap_seconds=0.0)


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def batched(transport: FakeTransport) -> Client:
    return Client(transport, batcher=Batcher(transport, retry=QUICK), retry=QUICK)


def test_paths_are_those_of_kubernetes() -> None:
    assert object_path(PODS, "default", "nginx", "status") == (
        "/api/v1/namespaces/default/pods/nginx/status"
    )
    assert object_path(NODES, "", "node-1") == "/api/v1/nodes/node-1"
    assert collection_path(DEPLOYMENTS, "a") == "/apis/apps/v1/namespaces/a/deployments"
    assert object_path(EVENTS, "a", "x/y%") == "/api/v1/namespaces/a/events/x%2Fy%25"


def test_requests_of_one_turn_share_a_batch_and_the_next_gather_meanwhile() -> None:
    async def go() -> list[int]:
        transport = FakeTransport(accept)
        transport.hold = asyncio.Event()
        client = batched(transport)
        first = [client.create_nowait(PODS, pod(f"a{i}")) for i in range(3)]
        await turns()
        second = [client.create_nowait(PODS, pod(f"b{i}")) for i in range(50)]
        await turns()
        assert len(transport.requests) == 1, "the second batch waits for the first"
        transport.hold.set()
        answers = await asyncio.gather(*first, *second)
        assert [a["metadata"]["name"] for a in answers[:3]] == ["a0", "a1", "a2"]
        assert {path for _, path, _ in transport.requests} == {BATCH_PATH}
        return [len(body) for _, _, body in transport.requests]

    assert run(go()) == [3, 50]


def test_no_batch_has_more_than_100_items() -> None:
    async def go() -> list[int]:
        transport = FakeTransport(accept)
        client = batched(transport)
        await asyncio.gather(*(client.create_nowait(PODS, pod(f"p{i}")) for i in range(250)))
        return [len(body) for _, _, body in transport.requests]

    assert run(go()) == [100, 100, 50]


def test_a_batch_too_large_for_the_server_is_halved() -> None:
    def picky(method: str, path: str, body: Any) -> tuple[int, Any]:
        return accept(method, path, body) if len(body) <= 2 else (413, b"too large")

    async def go() -> int:
        transport = FakeTransport(picky)
        client = batched(transport)
        await asyncio.gather(*(client.create_nowait(PODS, pod(f"p{i}")) for i in range(7)))
        return len(transport.requests)

    assert run(go()) > 3


def test_a_server_without_batches_gets_single_requests_from_then_on() -> None:
    def plain(method: str, path: str, body: Any) -> tuple[int, Any]:
        return (404, {"kind": "Status"}) if path == BATCH_PATH else (201, body)

    async def go() -> None:
        transport = FakeTransport(plain)
        client = batched(transport).with_token("secret")
        for name in ("a", "b"):
            answer = await client.create(PODS, pod(name))
            assert answer["metadata"]["name"] == name
        paths = [path for _, path, _ in transport.requests]
        assert paths == [BATCH_PATH, *["/api/v1/namespaces/default/pods"] * 2]
        assert transport.headers[-1]["Authorization"] == "Bearer secret"

    run(go())


def test_each_item_carries_its_own_identity_answer_and_content_type() -> None:
    async def go() -> Any:
        transport = FakeTransport(accept)
        client = batched(transport).with_token("node-token")
        await client.patch(
            PODS, "p", {"a": 1}, "default", patch_type="strategic", subresource="status",
            answer="none",
        )  # fmt: skip
        return transport.requests[0][2][0]

    assert run(go()) == {
        "m": "PATCH",
        "p": "/api/v1/namespaces/default/pods/p/status",
        "a": 0,
        "b": {"a": 1},
        "t": "node-token",
        "c": "application/strategic-merge-patch+json",
    }


def test_what_is_sent_is_what_was_submitted_even_if_the_caller_changes_it() -> None:
    async def go() -> Any:
        transport = FakeTransport(accept)
        obj = pod("before")
        future = batched(transport).create_nowait(PODS, obj)
        obj["metadata"]["name"] = "after"
        return await future

    assert run(go())["metadata"]["name"] == "before"


@pytest.mark.parametrize("kind", [NotFound, Conflict, Invalid])
def test_a_refused_item_raises_its_own_error_and_harms_no_other(kind: Any) -> None:
    status = kind("it is so").to_status()

    def one_bad(method: str, path: str, body: Any) -> tuple[int, Any]:
        bad = {"s": status["code"], "b": status}
        return 200, [bad if i["p"].endswith("bad") else {"s": 200, "b": {}} for i in body]

    async def go() -> None:
        client = batched(FakeTransport(one_bad))
        good, bad = await asyncio.gather(
            client.get(PODS, "good", "default"),
            client.get(PODS, "bad", "default"),
            return_exceptions=True,
        )
        assert good == {}
        assert type(bad) is kind
        assert str(bad) == "it is so"

    run(go())


def flaky(failures: int, error: Exception) -> Any:
    left = [failures]

    def respond(method: str, path: str, body: Any) -> tuple[int, Any]:
        if left[0]:
            left[0] -= 1
            raise error
        return accept(method, path, body)

    return respond


@pytest.mark.parametrize("batches", [True, False])
def test_a_refused_connection_is_tried_again_for_every_verb(batches: bool) -> None:
    async def go() -> None:
        transport = FakeTransport(flaky(2, Unreachable("refused", refused=True)))
        client = batched(transport)
        client = client if batches else client.without_batches()
        await client.create(PODS, pod("p"))
        assert len(transport.requests) == 3

    run(go())


@pytest.mark.parametrize("batches", [True, False])
def test_a_lost_connection_repeats_what_is_idempotent_and_nothing_else(batches: bool) -> None:
    async def go() -> None:
        transport = FakeTransport(flaky(1, Unreachable("reset", refused=False)))
        client = batched(transport)
        client = client if batches else client.without_batches()
        await client.update(PODS, pod("p"))
        transport.respond = flaky(1, Unreachable("reset", refused=False))
        with pytest.raises(Unreachable):
            await client.create(PODS, pod("p"))

    run(go())


def test_too_many_requests_waits_and_tries_again_but_an_evictions_429_is_final() -> None:
    busy = TooManyRequests("wait", retry_after_seconds=0).to_status()
    left = [1]

    def respond(method: str, path: str, body: Any) -> tuple[int, Any]:
        if left[0]:
            left[0] -= 1
            return 200, [{"s": 429, "b": busy} for _ in body]
        return accept(method, path, body)

    async def go() -> None:
        client = batched(FakeTransport(respond))
        await client.create(PODS, pod("p"))
        left[0] = 1
        with pytest.raises(TooManyRequests):
            await client.create(PODS, {}, "default", name="p", subresource="eviction")

    run(go())


def test_a_server_that_stays_away_ends_in_unreachable_which_is_service_unavailable() -> None:
    async def go() -> None:
        client = batched(FakeTransport(flaky(99, Unreachable("refused", refused=True))))
        with pytest.raises(ServiceUnavailable):
            await client.get(PODS, "p", "default")

    run(go())


def test_items_of_a_list_get_the_kind_that_the_wire_leaves_out() -> None:
    page = {
        "kind": "PodList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "7", "continue": "next"},
        "items": [pod("a")],
    }

    async def go() -> None:
        transport = FakeTransport(lambda *_: (200, page))
        found = await Client(transport).list(PODS, label_selector="a=b,c!=d", limit=5)
        assert (found.resource_version, found.continue_) == ("7", "next")
        assert (found.items[0]["kind"], found.items[0]["apiVersion"]) == ("Pod", "v1")
        assert transport.requests[0][1] == "/api/v1/pods?labelSelector=a%3Db%2Cc%21%3Dd&limit=5"

    run(go())


def test_all_events_of_a_chunk_come_together_and_a_cut_line_waits_for_its_rest() -> None:
    whole = event("ADDED", pod("a")) + event("MODIFIED", pod("a", 2)) + event("DELETED", pod("b"))

    async def go() -> list[list[str]]:
        transport = FakeTransport(accept)
        transport.streams.append([whole[:-10], whole[-10:]])
        found = []
        async for events in Client(transport).watch(PODS, resource_version="1"):
            found.append([e.type for e in events])
        return found

    assert run(go()) == [["ADDED", "MODIFIED"], ["DELETED"]]


def test_an_error_event_is_raised() -> None:
    with pytest.raises(Expired):
        decode_events(event("ERROR", Expired("too old resource version").to_status()))


def test_a_kubeconfig_with_files_and_one_with_data_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("CA")
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "n"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://h:1"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    cluster = document["clusters"][0]["cluster"]  # type: ignore[index]
    found = []
    for extra in (
        {"certificate-authority": "ca.pem"},
        {"certificate-authority-data": base64.b64encode(b"CA").decode()},
    ):
        cluster.clear()
        cluster.update({"server": "https://h:1", **extra})
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(document))
        found.append(ClientConfig.from_kubeconfig(path))
    assert found[0] == found[1]
    assert (found[0].ca_pem, found[0].token, found[0].namespace) == (b"CA", "t", "n")


@pytest.mark.parametrize("text", ["", "[", "current-context: x", "contexts: 3"])
def test_a_kubeconfig_that_cannot_be_used_says_which_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ConfigError, match=str(path)):
        ClientConfig.from_kubeconfig(path)
    with pytest.raises(ConfigError, match="No such file"):
        ClientConfig.from_kubeconfig(tmp_path / "absent")
