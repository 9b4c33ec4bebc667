"""OpenAPI documents have upstream's shape, and what kubectl looks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from cluster.api.catalogue import Catalogue, custom_resource
from cluster.api.openapi import OpenApi, document_paths, v2_document, v3_document
from cluster.api.schema import VERSIONS, Schemas
from tests.api.manifests import catalogue


def references(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from references(item)
    elif isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for key, child in node.items():
            children = child.values() if key == "properties" else [child]
            for each in children:
                yield from references(each)


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_every_reference_of_every_document_resolves(version: str) -> None:
    known = Catalogue(Schemas(version))
    for path in document_paths(known):
        document = v3_document(known, path)
        schemas = document["components"]["schemas"]
        assert {r.rpartition("/")[2] for r in references(document)} <= schemas.keys(), path
    document = v2_document(known)
    found = {r.rpartition("/")[2] for r in references(document)}
    assert found <= document["definitions"].keys()


def test_types_are_upstreams_again() -> None:
    definitions = v2_document(catalogue())["definitions"]
    pod = definitions["io.k8s.api.core.v1.Pod"]
    assert pod["type"] == "object"
    assert pod["properties"]["kind"]["type"] == "string"
    assert "enum" not in pod["properties"]["kind"]
    assert pod["x-kubernetes-group-version-kind"] == [{"group": "", "kind": "Pod", "version": "v1"}]
    quantity = definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]
    assert quantity["type"] == "string"
    port = definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]
    assert (port["type"], port["format"]) == ("string", "int-or-string")
    assert b'"null"' not in orjson.dumps(definitions)
    containers = definitions["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["x-kubernetes-list-map-keys"] == ["name"]


def test_version_3_wraps_described_references() -> None:
    schemas = v3_document(catalogue(), "apis/apps/v1")["components"]["schemas"]
    strategy = schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["strategy"]
    reference = "#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"
    assert strategy["allOf"] == [{"$ref": reference}]
    assert strategy["description"]


def test_patch_operations_offer_field_validation() -> None:
    """kubectl's verifier looks for this parameter on the PATCH of the kind."""
    for path in document_paths(catalogue()):
        for url, operations in v3_document(catalogue(), path)["paths"].items():
            patch = operations.get("patch")
            if patch is None or patch["x-kubernetes-group-version-kind"]["kind"].endswith(
                "Options"
            ):
                continue
            assert "fieldValidation" in {p["name"] for p in patch["parameters"]}, url


def test_operation_ids_are_unique() -> None:
    for path in document_paths(catalogue()):
        ids = [
            operation["operationId"]
            for operations in v3_document(catalogue(), path)["paths"].values()
            for method, operation in operations.items()
            if method != "parameters"
        ]
        assert len(ids) == len(set(ids)), path


def test_the_index_carries_hashes_that_change_with_the_document() -> None:
    known = Catalogue(Schemas())
    published = OpenApi(known)
    before = orjson.loads(published.index())["paths"]
    assert before["api/v1"]["serverRelativeURL"].startswith("/openapi/v3/api/v1?hash=")
    body, hashed = published.document("api/v1")
    assert before["api/v1"]["serverRelativeURL"].endswith(hashed)
    assert orjson.loads(body)["openapi"] == "3.0.0"
    assert published.index() is published.index()
    with pytest.raises(KeyError):
        published.document("apis/nobody/v1")

    name = "com.example.v1.Widget"
    kind = {"group": "example.com", "version": "v1", "kind": "Widget"}
    known.schemas.add(
        name, {"type": "object", "x-kubernetes-group-version-kind": [kind], "properties": {}}
    )
    known.add(
        custom_resource(
            group="example.com", version="v1", names={"kind": "Widget", "plural": "widgets"},
            namespaced=True, subresources=(), schema_name=name,
        )
    )  # fmt: skip
    after = orjson.loads(published.index())["paths"]
    assert "apis/example.com/v1" in after
    assert after["api/v1"] == before["api/v1"]
    known.schemas.remove(name)


def test_version_2_is_one_swagger_document() -> None:
    document = orjson.loads(OpenApi(catalogue()).v2())
    assert document["swagger"] == "2.0"
    paths = document["paths"]
    log = paths["/api/v1/namespaces/{namespace}/pods/{name}/log"]["get"]
    assert log["operationId"] == "readCoreV1NamespacedPodLog"
    created = paths["/apis/apps/v1/namespaces/{namespace}/deployments"]["post"]
    assert created["x-kubernetes-action"] == "post"
    assert created["operationId"] == "createAppsV1NamespacedDeployment"
