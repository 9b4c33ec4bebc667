"""Services, their EndpointSlices and Endpoints through the whole manager."""

from __future__ import annotations

import asyncio

from cluster.api.meta import ENDPOINTS, ENDPOINTSLICES, NODES, PODS, SERVICES, Object, rfc3339
from tests.controllers.conftest import make_ready
from tests.controllers.fake_api import FakeApi


def service(name: str = "web", **spec: object) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default", "labels": {"team": "a"}},
        "spec": {
            "selector": {"app": "web"},
            "clusterIP": "10.96.0.7",
            "type": "ClusterIP",
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
            **spec,
        },
    }


def pod(name: str, ports: list[Object] | None = None, **meta: object) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}, **meta},
        "spec": {"containers": [{"name": "c", "ports": ports or []}]},
        "status": {"phase": "Pending"},
    }


def slices(api: FakeApi) -> list[Object]:
    return api.objects(ENDPOINTSLICES)


def endpoints_of(api: FakeApi) -> list[Object]:
    return [e for s in slices(api) for e in s["endpoints"]]


def run(scenario) -> None:
    asyncio.run(scenario())


def test_a_ready_pod_appears_in_the_slice_and_in_endpoints_with_upstreams_labels(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(
                NODES,
                {
                    "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z1"}},
                    "spec": {},
                },
            )
            api.put(SERVICES, service())
            stored = api.put(PODS, pod("a"))
            await cluster.until(lambda: slices(api) and api.objects(ENDPOINTS))
            (piece,) = slices(api)
            assert piece["endpoints"] == [] and piece["ports"] == []
            assert piece["metadata"]["name"].startswith("web-")
            assert piece["metadata"]["labels"] == {
                "team": "a",
                "kubernetes.io/service-name": "web",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            }
            assert piece["metadata"]["ownerReferences"][0]["kind"] == "Service"
            make_ready(cluster, stored, "10.0.0.5")
            await cluster.until(lambda: endpoints_of(api))
            (endpoint,) = endpoints_of(api)
            assert endpoint == {
                "addresses": ["10.0.0.5"],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": "n1",
                "zone": "z1",
                "targetRef": {
                    "kind": "Pod",
                    "namespace": "default",
                    "name": "a",
                    "uid": stored["metadata"]["uid"],
                },
            }
            (piece,) = slices(api)
            assert piece["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
            trigger = piece["metadata"]["annotations"][
                "endpoints.kubernetes.io/last-change-trigger-time"
            ]
            assert trigger.startswith(rfc3339(api.now)[:-1])
            await cluster.until(lambda: api.objects(ENDPOINTS)[0].get("subsets"))
            (subset,) = api.objects(ENDPOINTS)[0]["subsets"]
            assert subset["addresses"][0]["ip"] == "10.0.0.5"
            assert subset["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]

    run(scenario)


def test_a_terminating_pod_serves_on_and_is_not_ready(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(SERVICES, service())
            make_ready(cluster, api.put(PODS, pod("a")))
            await cluster.until(lambda: endpoints_of(api))
            api._delete(PODS, "default/a", {})
            await cluster.until(lambda: endpoints_of(api)[0]["conditions"]["terminating"])
            conditions = endpoints_of(api)[0]["conditions"]
            assert conditions == {"ready": False, "serving": True, "terminating": True}
            await cluster.until(lambda: not api.objects(ENDPOINTS)[0].get("subsets"))
            api.remove(PODS, "default/a")
            await cluster.until(lambda: not endpoints_of(api))
            assert len(slices(api)) == 1, "one empty slice stays"

    run(scenario)


def test_250_pods_fill_three_slices_of_at_most_100_and_few_writes(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(SERVICES, service())
            for i in range(250):
                make_ready(cluster, api.put(PODS, pod(f"p{i}")), f"10.0.{i // 200}.{i % 200}")
            await cluster.until(lambda: len(endpoints_of(api)) == 250)
            await cluster.settle()
            assert sorted(len(s["endpoints"]) for s in slices(api)) == [50, 100, 100]
            writes = api.calls[("POST", "endpointslices", "")] + api.calls.get(
                ("PUT", "endpointslices", ""), 0
            )
            assert writes <= 12
            before = api.calls.get(("PUT", "endpointslices", ""), 0)
            api.remove(PODS, "default/p7")
            await cluster.until(lambda: len(endpoints_of(api)) == 249)
            assert api.calls[("PUT", "endpointslices", "")] == before + 1, "one pod, one slice"

    run(scenario)


def test_named_ports_that_differ_between_pods_make_slices_of_their_own(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(SERVICES, service(ports=[{"port": 80, "targetPort": "web", "protocol": "TCP"}]))
            for name, number in (("a", 8080), ("b", 9090)):
                ports = [{"name": "web", "containerPort": number, "protocol": "TCP"}]
                make_ready(cluster, api.put(PODS, pod(name, ports)), f"10.0.0.{number % 100}")
            await cluster.until(lambda: len(endpoints_of(api)) == 2)
            assert sorted(s["ports"][0]["port"] for s in slices(api)) == [8080, 9090]
            assert slices(api)[0]["ports"][0]["name"] == ""

    run(scenario)


def test_unready_addresses_are_published_on_request_only(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(SERVICES, service(publishNotReadyAddresses=True, clusterIP="None"))
            api.put(SERVICES, service("strict"))
            api.put(PODS, pod("a"))
            api.change(PODS, "default/a", status={"phase": "Running", "podIP": "10.0.0.9"})
            await cluster.until(lambda: len(endpoints_of(api)) == 2)
            by_service = {
                s["metadata"]["labels"]["kubernetes.io/service-name"]: s for s in slices(api)
            }
            assert by_service["web"]["endpoints"][0]["conditions"]["ready"] is True
            assert by_service["strict"]["endpoints"][0]["conditions"]["ready"] is False
            assert by_service["web"]["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
            await cluster.until(lambda: all(e.get("subsets") for e in api.objects(ENDPOINTS)))
            strict = api.store[ENDPOINTS]["default/strict"]["subsets"][0]
            assert "addresses" not in strict and strict["notReadyAddresses"][0]["ip"] == "10.0.0.9"

    run(scenario)


def test_a_slice_that_someone_deletes_or_edits_is_put_right(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(SERVICES, service())
            make_ready(cluster, api.put(PODS, pod("a")))
            await cluster.until(lambda: endpoints_of(api))
            await cluster.settle()
            (piece,) = slices(api)
            key = f"default/{piece['metadata']['name']}"
            api.change(ENDPOINTSLICES, key, endpoints=[])
            await cluster.until(lambda: endpoints_of(api))
            await cluster.settle()
            api.remove(ENDPOINTSLICES, key)
            await cluster.until(lambda: endpoints_of(api))

    run(scenario)


def test_deleting_the_service_removes_slices_and_endpoints(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(SERVICES, service())
            make_ready(cluster, api.put(PODS, pod("a")))
            await cluster.until(lambda: endpoints_of(api) and api.objects(ENDPOINTS))
            await cluster.settle()
            api._delete(SERVICES, "default/web", {})
            await cluster.until(lambda: not slices(api) and not api.objects(ENDPOINTS))

    run(scenario)


def test_more_than_1000_addresses_are_cut_off_in_endpoints_and_said_so(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            for i in range(1005):
                make_ready(cluster, api.put(PODS, pod(f"p{i}")), f"10.0.{i // 200}.{i % 200}")
            api.put(SERVICES, service())
            await cluster.until(lambda: api.objects(ENDPOINTS) and len(endpoints_of(api)) == 1005)
            (found,) = api.objects(ENDPOINTS)
            assert len(found["subsets"][0]["addresses"]) == 1000
            assert found["metadata"]["annotations"] == {
                "endpoints.kubernetes.io/over-capacity": "truncated"
            }

    run(scenario)


def test_hand_made_endpoints_of_a_service_without_selector_are_mirrored(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            plain = service("db")
            del plain["spec"]["selector"]
            api.put(SERVICES, plain)
            subset = {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 5432}]}
            made = {"metadata": {"name": "db", "namespace": "default"}, "subsets": [subset]}
            api.put(ENDPOINTS, made)
            await cluster.until(lambda: slices(api))
            (piece,) = slices(api)
            labels = piece["metadata"]["labels"]
            manager = "endpointslicemirroring-controller.k8s.io"
            assert labels["endpointslice.kubernetes.io/managed-by"] == manager
            assert piece["endpoints"] == [
                {"addresses": ["192.0.2.1"], "conditions": {"ready": True}}
            ]
            assert piece["ports"] == [{"name": "", "port": 5432}]
            subset = {"addresses": [{"ip": "192.0.2.2"}], "ports": [{"port": 5432}]}
            api.change(ENDPOINTS, "default/db", subsets=[subset])
            await cluster.until(lambda: endpoints_of(api)[0]["addresses"] == ["192.0.2.2"])
            api._delete(SERVICES, "default/db", {})
            await cluster.until(lambda: not slices(api))

    run(scenario)
