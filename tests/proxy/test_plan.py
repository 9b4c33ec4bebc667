"""Services and EndpointSlices into service ports, one change at a time."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from cluster.metrics.proxy import ProxyMetrics
from cluster.proxy import PlanChanges, Proxy, ProxyPlan, ServicePlan


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]
    return {
        "metadata": {"namespace": "default", "name": name},
        "spec": {"clusterIP": "10.96.0.7", "type": "ClusterIP", "ports": ports, **spec},
    }


def piece(*endpoints: dict[str, Any], name: str = "web-1", **more: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "default",
            "name": name,
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": list(endpoints),
        **more,
    }


def endpoint(ip: str, node: str = "n1", **conditions: bool) -> dict[str, Any]:
    return {"addresses": [ip], "nodeName": node, "conditions": {"ready": True, **conditions}}


def plan_of(svc: dict[str, Any], *slices: dict[str, Any]) -> ServicePlan:
    plan = ProxyPlan()
    plan.handle_service(None, svc)
    for one in slices:
        plan.handle_slice(None, one)
    found = plan.take().ports["default/web:http"]
    assert found is not None
    return found


def test_ready_endpoints_of_all_slices_are_used_once() -> None:
    plan = plan_of(
        service(),
        piece(endpoint("10.1.0.2"), endpoint("10.1.0.3", ready=False)),
        piece(endpoint("10.1.0.4"), endpoint("10.1.0.2"), name="web-2"),
    )
    assert plan.endpoints == (("10.1.0.2", 8080), ("10.1.0.4", 8080))
    assert (plan.cluster_ip, plan.protocol, plan.port) == ("10.96.0.7", "TCP", 80)


def test_without_a_ready_one_those_that_serve_while_terminating_are_used() -> None:
    leaving = endpoint("10.1.0.2", ready=False, serving=True, terminating=True)
    gone = endpoint("10.1.0.3", ready=False, serving=False, terminating=True)
    assert plan_of(service(), piece(leaving, gone)).endpoints == (("10.1.0.2", 8080),)
    both = plan_of(service(), piece(leaving, endpoint("10.1.0.9")))
    assert both.endpoints == (("10.1.0.9", 8080),)


def test_a_missing_ready_condition_means_ready() -> None:
    assert plan_of(service(), piece({"addresses": ["10.1.0.2"]})).endpoints != ()


@pytest.mark.parametrize(
    "spec",
    [{"clusterIP": "None"}, {"clusterIP": ""}, {"type": "ExternalName", "externalName": "x"}],
)
def test_headless_and_external_names_are_not_proxied(spec: dict[str, Any]) -> None:
    plan = ProxyPlan()
    plan.handle_service(None, service(**spec))
    assert plan.take().ports == {}


def test_another_proxys_services_are_left_alone() -> None:
    plan = ProxyPlan()
    other = service()
    other["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "mine"}
    plan.handle_service(None, other)
    assert plan.take().ports == {}


def test_only_the_service_that_changed_is_planned_again() -> None:
    plan = ProxyPlan()
    plan.handle_service(None, service())
    plan.handle_service(None, service("other"))
    assert set(plan.take().ports) == {"default/web:http", "default/other:http"}
    plan.handle_slice(None, piece(endpoint("10.1.0.2")))
    assert set(plan.take().ports) == {"default/web:http"}
    plan.handle_slice(piece(endpoint("10.1.0.2")), piece(endpoint("10.1.0.2")))
    assert plan.take().ports == {}


def test_a_service_that_goes_or_turns_headless_is_removed() -> None:
    plan = ProxyPlan()
    plan.handle_service(None, service())
    plan.take()
    plan.handle_service(service(), service(clusterIP="None"))
    assert plan.take().ports == {"default/web:http": None}
    plan.handle_service(None, service())
    plan.take()
    plan.handle_service(service(), None)
    assert plan.take().ports == {"default/web:http": None}
    assert plan.everything() == {}


def test_a_slice_that_goes_takes_its_endpoints_along() -> None:
    plan = ProxyPlan()
    plan.handle_service(None, service())
    plan.handle_slice(None, piece(endpoint("10.1.0.2")))
    plan.take()
    plan.handle_slice(piece(endpoint("10.1.0.2")), None)
    changed = plan.take().ports["default/web:http"]
    assert changed is not None and changed.endpoints == ()


def test_policies_affinity_and_addresses_are_kept() -> None:
    svc = service(
        type="LoadBalancer",
        externalIPs=["192.0.2.1"],
        externalTrafficPolicy="Local",
        healthCheckNodePort=31000,
        sessionAffinity="ClientIP",
        ports=[{"name": "http", "port": 80, "nodePort": 30080}],
    )
    svc["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"hostname": "h"}]}}
    plan = plan_of(svc, piece(endpoint("10.1.0.2", "n1"), endpoint("10.1.0.3", "n2")))
    assert plan.external == ("192.0.2.1", "192.0.2.9")
    assert (plan.node_port, plan.affinity_seconds) == (30080, 10800)
    assert plan.health_check_node_port == 31000
    assert plan.node_endpoints == {"n1": (("10.1.0.2", 8080),), "n2": (("10.1.0.3", 8080),)}


def test_trigger_times_are_handed_on_once() -> None:
    plan = ProxyPlan()
    one = piece(endpoint("10.1.0.2"))
    one["metadata"]["annotations"] = {
        "endpoints.kubernetes.io/last-change-trigger-time": "1970-01-01T00:00:07.5Z"
    }
    plan.handle_slice(None, one)
    assert plan.take().triggers == [7.5]
    assert plan.take().triggers == []


class FakeClock:
    def now(self) -> float:
        return 10.0

    def monotonic(self) -> float:
        return 10.0


async def _sync(proxy: Proxy, *, full: bool) -> PlanChanges:
    return await proxy.sync(full=full)


def test_a_full_sync_programs_everything_and_a_partial_one_the_changes() -> None:
    import asyncio

    applied: list[tuple[list[str], bool]] = []

    async def apply(ports: Any, full: bool) -> None:
        applied.append((sorted(ports), full))

    async def work() -> None:
        registry = CollectorRegistry()
        proxy = Proxy(None, apply, FakeClock(), ProxyMetrics(registry))  # type: ignore[arg-type]
        proxy.plan.handle_service(None, service())
        await proxy.sync(full=True)
        proxy.plan.handle_service(None, service("other"))
        await proxy.sync(full=False)
        await proxy.sync(full=False)
        await proxy.sync(full=True)
        count = registry.get_sample_value("kubeproxy_sync_proxy_rules_duration_seconds_count")
        assert count == 3

    asyncio.run(work())
    assert applied == [
        (["default/web:http"], True),
        (["default/other:http"], False),
        (["default/other:http", "default/web:http"], True),
    ]
