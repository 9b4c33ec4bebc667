"""The batch end point: each item as if it had come alone."""

from __future__ import annotations

from tests.apiserver.api import NOBODY, Api
from tests.apiserver.conftest import Run

BATCH = "/apis/kubestage.io/v1/batch"


def test_items_are_carried_out_in_order_each_with_its_answer(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        base = f"{ns}/configmaps"
        patch = "application/merge-patch+json"
        items = [
            {"m": "POST", "p": base, "b": {"metadata": {"name": "a"}}, "a": 2},
            {"m": "PATCH", "p": f"{base}/a", "b": {"data": {"x": "1"}}, "c": patch, "a": 1},
            {"m": "PATCH", "p": f"{base}/a", "b": {"data": {"y": "2"}}, "c": patch, "a": 0},
            {"m": "GET", "p": f"{base}/a"},
            {"m": "POST", "p": base, "b": {"metadata": {"name": "a"}}, "a": 0},
            {"m": "DELETE", "p": f"{base}/a", "a": 0},
            {"m": "GET", "p": f"{base}/a"},
        ]
        answers = await api.ok("POST", BATCH, items)
        assert [a["s"] for a in answers] == [201, 200, 200, 200, 409, 200, 404]
        assert answers[0]["b"]["kind"] == "ConfigMap"
        assert set(answers[1]["b"]["metadata"]) == {"name", "namespace", "uid", "resourceVersion"}
        assert "b" not in answers[2]
        assert answers[3]["b"]["data"] == {"x": "1", "y": "2"}
        assert answers[4]["b"]["reason"] == "AlreadyExists"
        assert answers[6]["b"]["message"] == 'configmaps "a" not found'

    run(steps)


def test_each_item_has_its_own_identity(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        items = [
            {"m": "GET", "p": f"{ns}/configmaps", "t": NOBODY},
            {"m": "GET", "p": f"{ns}/configmaps"},
            {"m": "GET", "p": f"{ns}/configmaps", "t": "wrong"},
        ]
        answers = await api.ok("POST", BATCH, items)
        assert [a["s"] for a in answers] == [403, 200, 401]
        answers = await api.ok("POST", BATCH, [items[1]], token=NOBODY)
        assert answers[0]["s"] == 403

    run(steps)


def test_many_writes_share_few_commits(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        items = [
            {"m": "POST", "p": f"{ns}/configmaps", "b": {"metadata": {"name": f"c{i}"}}, "a": 0}
            for i in range(100)
        ]
        seen: list[int] = []
        handle = api.server.storage.handle_commit
        api.server.storage.handle_commit = lambda events: (
            seen.append(len(events)),
            handle(events),
        )[1]  # type: ignore
        try:
            answers = await api.ok("POST", BATCH, items)
        finally:
            api.server.storage.handle_commit = handle  # type: ignore[method-assign]
        assert {a["s"] for a in answers} == {201}
        assert max(seen) >= 50

    run(steps)


def test_what_is_no_request_is_refused_alone(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        items: list[object] = [
            7,
            {"m": "GET"},
            {"m": "GET", "p": "/version"},
            {"m": "GET", "p": f"{ns}/configmaps?watch=true"},
            {"m": "GET", "p": f"{ns}/pods/x/log"},
            {"m": "GET", "p": "/apis/none/v1/things"},
            {"m": "GET", "p": f"{ns}/configmaps"},
        ]
        answers = await api.ok("POST", BATCH, items)
        assert [a["s"] for a in answers] == [400, 400, 405, 405, 405, 404, 200]
        assert (await api("POST", BATCH, {"not": "a list"})).status == 400
        too_many = [{"m": "GET", "p": f"{ns}/configmaps"}] * 501
        assert (await api("POST", BATCH, too_many)).status == 413

    run(steps)


def test_the_flow_of_a_pod_is_kept(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        name = ns.rpartition("/")[2]
        spec = {"containers": [{"name": "c", "image": "i"}]}
        await api.ok("POST", f"{ns}/pods", {"metadata": {"name": "p"}, "spec": spec})
        path = f"/apis/kubestage.io/v1/flow/{name}/p"
        await api.ok("POST", path, {"stage": "cni", "start": 4e9, "end": 4e9 + 1})
        flow = await api.ok("GET", path)
        assert [s["stage"] for s in flow["stages"]] == [
            "received", "authenticated", "admitted", "stored", "cni",
        ]  # fmt: skip
        assert (await api("GET", f"{path}-none")).status == 404

    run(steps)
