"""Limits and the documents about the server itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.apiserver.api import Api, running
from tests.apiserver.conftest import Run


def test_a_full_server_refuses_writes_but_never_heartbeats(tmp_path: Path) -> None:
    async def steps() -> None:
        async with running(tmp_path, max_mutating_in_flight=1) as api:
            ns = await api.namespace()
            lease = f"/apis/coordination.k8s.io/v1/namespaces/{ns.rpartition('/')[2]}/leases"
            answers = await asyncio.gather(
                *(
                    api("POST", f"{ns}/configmaps", {"metadata": {"name": f"c{i}"}})
                    for i in range(8)
                ),
                *(api("POST", lease, {"metadata": {"name": f"l{i}"}}) for i in range(8)),
            )
            refused = [a for a in answers[:8] if a.status == 429]
            assert refused and refused[0].headers["retry-after"] == "1"
            assert refused[0].json["reason"] == "TooManyRequests"
            assert {a.status for a in answers[8:]} == {201}

    asyncio.run(steps())


def test_a_body_over_the_limit_is_413(run: Run) -> None:
    async def steps(api: Api) -> None:
        answer = await api("POST", "/api/v1/namespaces", b"x" * (3 * 1024 * 1024 + 1))
        assert answer.status == 413

    run(steps)


def test_health_is_told_by_named_checks(run: Run) -> None:
    async def steps(api: Api) -> None:
        for path in ("/healthz", "/livez", "/readyz"):
            assert (await api("GET", path, token="")).body == b"ok"
        verbose = (await api("GET", "/readyz?verbose")).body.decode()
        assert "[+]etcd ok\n" in verbose and verbose.endswith("readyz check passed\n")
        assert (await api("GET", "/readyz/etcd")).body == b"ok"
        assert (await api("GET", "/readyz/none")).status == 404

    run(steps)


def test_discovery_and_openapi_are_served_and_tagged(run: Run) -> None:
    async def steps(api: Api) -> None:
        assert (await api.ok("GET", "/api"))["versions"] == ["v1"]
        groups = {g["name"] for g in (await api.ok("GET", "/apis"))["groups"]}
        assert {"apps", "batch", "rbac.authorization.k8s.io"} <= groups
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        aggregated = await api("GET", "/apis", headers={"Accept": accept})
        assert aggregated.json["kind"] == "APIGroupDiscoveryList"
        assert aggregated.headers["content-type"] == (
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        )
        index = (await api.ok("GET", "/openapi/v3"))["paths"]
        document = await api("GET", index["apis/apps/v1"]["serverRelativeURL"])
        assert "io.k8s.api.apps.v1.Deployment" in document.json["components"]["schemas"]
        etag = {"If-None-Match": document.headers["etag"]}
        again = await api("GET", "/openapi/v3/apis/apps/v1", headers=etag)
        assert (again.status, again.body) == (304, b"")
        assert (await api.ok("GET", "/version"))["minor"] == "37"
        assert (await api("GET", "/apis/none")).body == b"404 page not found\n"

    run(steps)


def test_large_answers_are_compressed_for_who_takes_it(run: Run) -> None:
    async def steps(api: Api) -> None:
        import gzip

        ns = await api.namespace()
        for i in range(3):
            body = {"metadata": {"name": f"c{i}"}, "data": {"k": "x" * 60_000}}
            await api.ok("POST", f"{ns}/configmaps", body)
        packed = await api("GET", f"{ns}/configmaps", headers={"Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert len(packed.body) < 10_000
        plain = await api("GET", f"{ns}/configmaps")
        assert gzip.decompress(packed.body) == plain.body

    run(steps)


def test_upstreams_request_metrics_count(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        await api("GET", f"{ns}/secrets/none")
        text = (await api("GET", "/metrics")).body.decode()
        parts = ('verb="GET"', 'resource="secrets"', 'scope="resource"', 'code="404"')
        lines = [line for line in text.splitlines() if line.startswith("apiserver_request_total{")]
        assert any(all(part in line for part in parts) for line in lines)
        for name in (
            "apiserver_request_duration_seconds_bucket",
            "apiserver_request_sli_duration_seconds_bucket",
            "apiserver_current_inflight_requests",
            "apiserver_registered_watchers",
            "etcd_request_duration_seconds",
        ):
            assert name in text

    run(steps)


def test_what_has_no_effect_yet_is_refused_by_name(run: Run) -> None:
    async def steps(api: Api) -> None:
        path = "/apis/apiregistration.k8s.io/v1/apiservices"
        refused = await api("POST", path, {"metadata": {"name": "v1.x"}})
        assert refused.status == 501
        assert refused.message == (
            "kubestage does not emulate apiservices.apiregistration.k8s.io yet"
        )

    run(steps)
