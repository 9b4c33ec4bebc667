"""The catalogue against facts of upstream's discovery documents."""

from __future__ import annotations

import pytest

from cluster.api import discovery
from cluster.api.catalogue import ALL_VERBS, Catalogue, custom_resource, version_priority
from cluster.api.schema import VERSIONS, Schemas
from tests.api.manifests import catalogue


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_has_a_catalogue_whose_kinds_have_schemas(version: str) -> None:
    known = Catalogue(Schemas(version))
    assert known.find("", "v1", "pods") is not None
    assert all(r.schema_name in known.schemas.definitions for r in known.resources)
    listed = {(r.group, r.version, r.plural) for r in known.resources}
    assert len(listed) == len(known.resources)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_generally_available_kind_is_served_or_belongs_to_a_subresource(version: str) -> None:
    known = Catalogue(Schemas(version))
    not_resources = {"TokenRequest", "Scale", "Eviction", "APIGroup", "APIVersions", "Status"}
    not_resources |= {"APIGroupList", "APIResourceList"}
    for group, v, kind in known.schemas.kinds:
        if v not in ("v1", "v2") or kind.endswith("List") or kind in not_resources:
            continue
        assert known.of_kind(f"{group}/{v}" if group else v, kind) is not None, (group, v, kind)


def test_names_of_the_well_known() -> None:
    shorts = {r.plural: r.short_names for r in catalogue().resources if r.short_names}
    assert shorts["pods"] == ("po",)
    assert shorts["customresourcedefinitions"] == ("crd", "crds")
    assert shorts["networkpolicies"] == ("netpol",)
    everything = {r.plural for r in catalogue().resources if "all" in r.categories}
    assert everything == {
        "pods", "replicationcontrollers", "services", "daemonsets", "deployments", "replicasets",
        "statefulsets", "horizontalpodautoscalers", "cronjobs", "jobs",
    }  # fmt: skip


def test_storage_prefixes_are_etcds() -> None:
    prefixes = {r.plural: r.storage_prefix for r in catalogue().resources if r.group == ""}
    assert prefixes["nodes"] == "/registry/minions"
    assert prefixes["services"] == "/registry/services/specs"
    assert prefixes["endpoints"] == "/registry/services/endpoints"
    assert prefixes["pods"] == "/registry/pods"
    assert prefixes["replicationcontrollers"] == "/registry/controllers"


def test_reviews_can_only_be_created_and_are_not_stored() -> None:
    review = catalogue().find("authorization.k8s.io", "v1", "subjectaccessreviews")
    assert review is not None
    assert review.verbs == ("create",)
    assert review.storage_prefix == ""
    assert not review.namespaced


def test_one_of_several_versions_is_stored() -> None:
    known = catalogue()
    assert known.versions("autoscaling") == ["v2", "v1"]
    assert known.storage_version("autoscaling", "horizontalpodautoscalers").version == "v2"
    assert known.storage_version("events.k8s.io", "events").group == ""


def test_versions_order_as_kubernetes_orders_them() -> None:
    given = ["v1beta1", "v10", "foo", "v1", "v2alpha1", "v2", "v1beta2"]
    expected = ["v10", "v2", "v1", "v1beta2", "v1beta1", "v2alpha1", "foo"]
    assert sorted(given, key=version_priority, reverse=True) == expected


def test_resize_is_there_since_1_33() -> None:
    for version, there in (("1.32", False), ("1.33", True)):
        pods = Catalogue(Schemas(version)).find("", "v1", "pods")
        assert pods is not None
        assert ("resize" in pods.subresources) is there


def test_custom_resources_come_and_go() -> None:
    known = Catalogue(Schemas())
    before = known.generation
    widget = custom_resource(
        group="example.com",
        version="v1",
        names={"kind": "Widget", "plural": "widgets", "shortNames": ["wd"]},
        namespaced=True,
        subresources=["status"],
        schema_name="com.example.v1.Widget",
    )
    known.add(widget)
    assert known.of_kind("example.com/v1", "Widget") is widget
    assert known.storage_version("example.com", "widgets") is widget
    assert "example.com" in known.groups()
    assert widget.storage_prefix == "/registry/example.com/widgets"
    known.remove(widget)
    assert known.find("example.com", "v1", "widgets") is None
    assert "example.com" not in known.groups()
    assert known.generation > before


def test_storage_version_hashes_are_upstreams() -> None:
    for plural, hashed in (
        ("pods", "xPOwRZ+Yhw8="), ("nodes", "XwShjMxG9Fs="), ("secrets", "S6u1pOWzb84="),
        ("services", "0/CO1lhkEBI="),
    ):  # fmt: skip
        resource = catalogue().find("", "v1", plural)
        assert resource is not None
        assert discovery.storage_version_hash(resource) == hashed


def test_the_core_resource_list_is_upstreams() -> None:
    document = discovery.resource_list(catalogue(), "", "v1")
    assert document["kind"] == "APIResourceList"
    assert "apiVersion" not in document
    assert document["groupVersion"] == "v1"
    by_name = {r["name"]: r for r in document["resources"]}
    assert list(by_name) == sorted(by_name, key=lambda n: n.split("/"))
    assert by_name["pods"]["verbs"] == list(ALL_VERBS)
    assert by_name["namespaces"]["verbs"] == [v for v in ALL_VERBS if v != "deletecollection"]
    assert by_name["pods/eviction"] == {
        "name": "pods/eviction", "singularName": "", "namespaced": True, "group": "policy",
        "version": "v1", "kind": "Eviction", "verbs": ["create"],
    }  # fmt: skip
    assert by_name["pods/exec"]["kind"] == "PodExecOptions"
    assert by_name["serviceaccounts/token"]["kind"] == "TokenRequest"
    assert "storageVersionHash" not in by_name["bindings"]


def test_groups_name_their_preferred_version() -> None:
    listed = discovery.group_list(catalogue())
    by_name = {g["name"]: g for g in listed["groups"]}
    assert by_name["autoscaling"]["preferredVersion"] == {
        "groupVersion": "autoscaling/v2",
        "version": "v2",
    }
    assert "" not in by_name
    with pytest.raises(IndexError):
        discovery.group(catalogue(), "nobody.example.com")


def test_aggregated_discovery_carries_subresources() -> None:
    core = discovery.aggregated(catalogue(), core=True)
    assert core["kind"] == "APIGroupDiscoveryList"
    assert core["apiVersion"] == "apidiscovery.k8s.io/v2"
    (group,) = core["items"]
    (version,) = group["versions"]
    pods = next(r for r in version["resources"] if r["resource"] == "pods")
    assert pods["scope"] == "Namespaced"
    assert pods["responseKind"] == {"group": "", "version": "v1", "kind": "Pod"}
    assert "log" in {s["subresource"] for s in pods["subresources"]}
    rest = discovery.aggregated(catalogue(), core=False)
    assert rest["items"][0]["metadata"]["name"] == "apiregistration.k8s.io"
