"""The Kubernetes DNS specification, sentence by sentence."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.dns import Names
from cluster.dns.records import AAAA, ANY, CNAME, NS, PTR, SOA, SRV, TXT, A

ZONE = "cluster.local"


def service(name: str, ip: str, **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    return {
        "metadata": {"namespace": "default", "name": name},
        "spec": {"clusterIP": ip, "ports": ports, **spec},
    }


def piece(name: str, *endpoints: dict[str, Any]) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": name}
    return {
        "metadata": {"namespace": "default", "name": f"{name}-1", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


@pytest.fixture
def names() -> Names:
    made = Names(ZONE, "10.96.0.10")
    made.handle_namespace(None, {"metadata": {"name": "default"}})
    made.handle_service(None, service("web", "10.96.1.1"))
    made.handle_service(None, service("db", "None"))
    made.handle_slice(
        None,
        piece(
            "db",
            {"addresses": ["10.1.0.2"], "hostname": "db-0"},
            {"addresses": ["10.1.0.3"]},
            {"addresses": ["10.1.0.4"], "conditions": {"ready": False}},
        ),
    )
    return made


def data(names: Names, name: str, kind: int) -> list[Any]:
    return [r.data for r in names.find(name, kind).answers]


def exists(names: Names, name: str, kind: int = A) -> bool:
    return names.find(name, kind).exists


def test_the_schema_version(names: Names) -> None:
    assert data(names, "dns-version.cluster.local.", TXT) == ["1.1.0"]


def test_a_service_has_its_cluster_address(names: Names) -> None:
    assert data(names, "web.default.svc.cluster.local.", A) == ["10.96.1.1"]
    assert data(names, "WEB.Default.SVC.cluster.LOCAL", A) == ["10.96.1.1"]


def test_a_name_without_that_type_exists_and_has_no_record(names: Names) -> None:
    found = names.find("web.default.svc.cluster.local.", AAAA)
    assert (found.exists, found.answers) == (True, [])


def test_named_ports_have_srv_records(names: Names) -> None:
    found = names.find("_http._tcp.web.default.svc.cluster.local.", SRV)
    assert [r.data for r in found.answers] == [(0, 100, 80, "web.default.svc.cluster.local")]
    assert [r.data for r in found.additional] == ["10.96.1.1"]
    assert not exists(names, "_other._tcp.web.default.svc.cluster.local.", SRV)
    assert not exists(names, "_http._udp.web.default.svc.cluster.local.", SRV)


def test_addresses_have_names(names: Names) -> None:
    web = data(names, "1.1.96.10.in-addr.arpa.", PTR)
    assert web == ["web.default.svc.cluster.local"]
    assert data(names, "2.0.1.10.in-addr.arpa.", PTR) == ["db-0.db.default.svc.cluster.local"]
    assert data(names, "3.0.1.10.in-addr.arpa.", PTR) == ["10-1-0-3.db.default.svc.cluster.local"]
    assert names.find("9.9.9.9.in-addr.arpa.", PTR).mine is False


def test_a_headless_service_has_the_addresses_of_its_ready_endpoints(names: Names) -> None:
    assert data(names, "db.default.svc.cluster.local.", A) == ["10.1.0.2", "10.1.0.3"]
    assert data(names, "db-0.db.default.svc.cluster.local.", A) == ["10.1.0.2"]
    assert not exists(names, "db-1.db.default.svc.cluster.local.")


def test_a_headless_srv_record_leads_to_each_endpoint(names: Names) -> None:
    found = data(names, "_http._tcp.db.default.svc.cluster.local.", SRV)
    targets = ("db-0.db.default.svc.cluster.local", "10-1-0-3.db.default.svc.cluster.local")
    assert found == [(0, 50, 8080, t) for t in targets]


def test_a_headless_service_without_endpoints_does_not_exist(names: Names) -> None:
    names.handle_slice(piece("db"), None)
    assert not exists(names, "db.default.svc.cluster.local.")
    assert names.find("2.0.1.10.in-addr.arpa.", PTR).mine is False


def test_an_external_name_is_an_alias(names: Names) -> None:
    outside = service("out", "", type="ExternalName", externalName="example.org")
    names.handle_service(None, outside)
    found = names.find("out.default.svc.cluster.local.", A)
    assert [(r.type, r.data) for r in found.answers] == [(CNAME, "example.org")]
    assert found.alias == "example.org"


def test_an_alias_within_the_cluster_is_followed(names: Names) -> None:
    target = "web.default.svc.cluster.local."
    names.handle_service(None, service("in", "", type="ExternalName", externalName=target))
    found = names.find("in.default.svc.cluster.local.", A)
    assert [r.data for r in found.answers] == [target[:-1], "10.96.1.1"]


def test_an_alias_of_itself_ends(names: Names) -> None:
    target = "loop.default.svc.cluster.local"
    names.handle_service(None, service("loop", "", type="ExternalName", externalName=target))
    assert names.find(target, A).answers[0].data == target


def test_pod_records_follow_from_the_name(names: Names) -> None:
    assert data(names, "10-1-0-9.default.pod.cluster.local.", A) == ["10.1.0.9"]
    assert not exists(names, "10-1-0-9.nowhere.pod.cluster.local.")
    assert not exists(names, "10-1-0.default.pod.cluster.local.")


@pytest.mark.parametrize("name", ["svc", "pod", "default.svc", "default.pod"])
def test_what_has_names_below_it_exists(names: Names, name: str) -> None:
    assert exists(names, f"{name}.cluster.local.")


@pytest.mark.parametrize(
    "name", ["nope.default.svc", "web.nowhere.svc", "nowhere.svc", "a.b", "x.web.default.svc"]
)
def test_unknown_names_do_not_exist(names: Names, name: str) -> None:
    found = names.find(f"{name}.cluster.local.", A)
    assert (found.exists, found.mine) == (False, True)


def test_the_zone_has_its_own_records(names: Names) -> None:
    assert data(names, "cluster.local.", NS) == ["ns.dns.cluster.local"]
    assert [r.type for r in names.find("cluster.local.", SOA).answers] == [SOA]
    assert data(names, "ns.dns.cluster.local.", A) == ["10.96.0.10"]


def test_other_names_are_somebody_elses(names: Names) -> None:
    assert names.find("example.org.", A).mine is False
    assert names.find("notcluster.local.", A).mine is False


def test_the_generation_changes_only_with_answers(names: Names) -> None:
    before = names.generation
    names.handle_service(service("web", "10.96.1.1"), service("web", "10.96.1.1"))
    names.handle_slice(None, piece("web", {"addresses": ["10.1.0.7"]}))
    assert names.generation == before
    names.handle_service(service("web", "10.96.1.1"), None)
    assert names.generation == before + 1
    assert not exists(names, "web.default.svc.cluster.local.")


def test_any_asks_for_everything(names: Names) -> None:
    assert data(names, "web.default.svc.cluster.local.", ANY) == ["10.96.1.1"]
