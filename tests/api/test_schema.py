"""Decoding: what is dropped, what is refused, and in which words."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from cluster.api.errors import BadRequest
from cluster.api.meta import Object
from cluster.api.schema import VERSIONS, Schemas

POD = "io.k8s.api.core.v1.Pod"
DEPLOYMENT = "io.k8s.api.apps.v1.Deployment"


@functools.cache
def schemas() -> Schemas:
    return Schemas()


def pod(**spec: Any) -> Object:
    container = {"name": "c", "image": "nginx"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x"},
        "spec": {"containers": [container], **spec},
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_every_definition_of_every_version_compiles(version: str) -> None:
    known = Schemas(version)
    for name in known.definitions:
        known.decoder(name)


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"choose 1\.28 to 1\.37"):
        Schemas("1.20")


def test_nulls_empty_lists_and_empty_maps_are_dropped_and_empty_structs_stay() -> None:
    obj = pod(nodeSelector={}, volumes=[{"name": "v", "emptyDir": {}}], tolerations=[])
    obj["metadata"].update(labels=None, annotations={}, creationTimestamp=None)
    assert schemas().decode(POD, obj, "Strict") == []
    assert obj["metadata"] == {"name": "x"}
    assert set(obj["spec"]) == {"containers", "volumes"}
    assert obj["spec"]["volumes"] == [{"name": "v", "emptyDir": {}}]


def test_zeros_of_go_values_are_dropped_and_zeros_behind_pointers_stay() -> None:
    obj = pod(hostNetwork=False, nodeName="", terminationGracePeriodSeconds=0, priority=0)
    obj["spec"]["containers"][0].update(tty=False, env=[{"name": "A", "value": ""}])
    obj["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 0}]
    schemas().decode(POD, obj, "Strict")
    assert set(obj["spec"]) == {"containers", "terminationGracePeriodSeconds", "priority"}
    assert obj["spec"]["containers"][0] == {
        "name": "c", "image": "nginx", "env": [{"name": "A"}], "ports": [{"containerPort": 80}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path", "kept"),
    [
        ("io.k8s.api.core.v1.PersistentVolumeClaimSpec", {"storageClassName": ""}, True),
        ("io.k8s.api.core.v1.PersistentVolumeClaimSpec", {"volumeName": ""}, False),
        ("io.k8s.api.discovery.v1.EndpointPort", {"name": ""}, True),
        ("io.k8s.api.apps.v1.DeploymentSpec", {"paused": False}, False),
        ("io.k8s.api.apps.v1.DeploymentSpec", {"replicas": 0}, True),
        ("io.k8s.api.apps.v1.DeploymentStatus", {"readyReplicas": 0}, False),
        ("io.k8s.api.apps.v1.ReplicaSetStatus", {"replicas": 0}, True),
        ("io.k8s.api.batch.v1.CronJobSpec", {"suspend": False}, True),
        ("io.k8s.api.core.v1.NodeSpec", {"unschedulable": False}, False),
    ],
)
def test_zeros_one_by_one(name: str, path: Object, kept: bool) -> None:
    obj = dict(path)
    schemas().decode(name, obj)
    assert (obj == path) is kept


def test_quantities_and_times_come_out_canonical() -> None:
    obj = pod()
    obj["spec"]["containers"][0]["resources"] = {"limits": {"cpu": 0.5, "memory": "1024Mi"}}
    obj["metadata"]["creationTimestamp"] = "2026-01-01T02:00:00+02:00"
    schemas().decode(POD, obj)
    limits = obj["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "500m", "memory": "1Gi"}
    assert obj["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"


def test_unknown_fields_are_dropped_and_named() -> None:
    obj = pod(foo=1)
    obj["spec"]["containers"][0]["bar"] = {}
    warnings = schemas().decode(POD, obj, "Warn")
    assert warnings == [
        'unknown field "spec.containers[0].bar"',
        'unknown field "spec.foo"',
    ]
    assert obj == pod()


def test_unknown_fields_are_dropped_in_silence_where_nobody_asked() -> None:
    obj = pod(foo=1)
    assert schemas().decode(POD, obj, "Ignore") == []
    assert obj == pod()


def test_strict_validation_refuses_unknown_fields() -> None:
    with pytest.raises(BadRequest) as error:
        schemas().decode(POD, pod(foo=1), "Strict")
    assert error.value.message == (
        'Pod in version "v1" cannot be handled as a Pod: '
        'strict decoding error: unknown field "spec.foo"'
    )


def _set(*path: str | int) -> Callable[[Object, Any], None]:
    def change(obj: Object, value: Any) -> None:
        at: Any = obj
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("spec", "containers"), "x",
         "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type "
         "[]v1.Container"),
        (("spec",), [],
         "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec"),
        (("spec", "containers", 0, "image"), 5,
         "json: cannot unmarshal number into Go struct field Container.spec.containers.image of "
         "type string"),
        (("metadata", "labels"), {"a": 1},
         "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type "
         "string"),
        (("spec", "hostNetwork"), "yes",
         "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type "
         "bool"),
        (("spec", "priority"), 2**40,
         "json: cannot unmarshal number 1099511627776 into Go struct field PodSpec.spec.priority "
         "of type int32"),
        (("metadata", "creationTimestamp"), "foo",
         'parsing time "foo" as "2006-01-02T15:04:05Z07:00": cannot parse "foo" as "2006"'),
        (("spec", "containers", 0, "resources"), {"limits": {"cpu": "x"}},
         "quantities must match the regular expression "
         "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
    ],
)  # fmt: skip
def test_wrong_types_are_refused_in_gos_words(
    path: tuple[str | int, ...], value: Any, problem: str
) -> None:
    obj = pod()
    _set(*path)(obj, value)
    with pytest.raises(BadRequest) as error:
        schemas().decode(POD, obj)
    assert error.value.message == f'Pod in version "v1" cannot be handled as a Pod: {problem}'


def test_the_message_names_the_version_without_its_group() -> None:
    obj: Object = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}
    obj["spec"] = {"replicas": "3"}
    with pytest.raises(BadRequest) as error:
        schemas().decode(DEPLOYMENT, obj)
    assert error.value.message == (
        'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal '
        "string into Go struct field DeploymentSpec.spec.replicas of type int32"
    )


def test_secret_data_must_be_base64() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "data": {"a": "!!"}}
    with pytest.raises(BadRequest, match="illegal base64 data at input byte 0"):
        schemas().decode("io.k8s.api.core.v1.Secret", secret)


def test_a_port_may_be_a_number_or_a_name() -> None:
    probe = {"httpGet": {"port": "http"}}
    obj = pod()
    obj["spec"]["containers"][0]["livenessProbe"] = probe
    schemas().decode(POD, obj)
    obj["spec"]["containers"][0]["livenessProbe"] = {"httpGet": {"port": 1.5}}
    with pytest.raises(BadRequest, match="cannot unmarshal number"):
        schemas().decode(POD, obj)


def test_what_is_no_object_at_all_is_refused() -> None:
    broken: Any = ["not", "an", "object"]
    with pytest.raises(BadRequest, match=r"cannot unmarshal array into Go value of type v1\.Pod"):
        schemas().decode(POD, broken)


def test_recursive_schemas_decode() -> None:
    name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"
    deep: Object = {"type": "object", "properties": {"a": {"properties": {"b": {"typo": 1}}}}}
    version = {"name": "v1", "schema": {"openAPIV3Schema": deep}, "served": True, "storage": True}
    obj = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "x"},
        "spec": {"group": "g", "names": {}, "scope": "Namespaced", "versions": [version]},
    }
    warnings = schemas().decode(name, obj)
    assert warnings == [
        'unknown field "spec.versions[0].schema.openAPIV3Schema.properties.a.properties.b.typo"'
    ]


def test_field_schema_finds_merge_keys() -> None:
    found = schemas().field_schema(POD, ("spec", "containers"))
    assert found is not None
    assert found["x-kubernetes-patch-merge-key"] == "name"
    assert schemas().field_schema(POD, ("spec", "containers", "[]", "nope")) is None
