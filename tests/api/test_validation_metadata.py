"""Metadata: the rules that hold for every kind."""

from __future__ import annotations

import orjson
import pytest

from tests.api.manifests import complaints, manifest, pod, stored, update


def config_map(**metadata: object) -> dict:
    made = manifest("v1", "ConfigMap")
    made["metadata"].update(metadata)
    return made


def copy_of(obj: dict) -> dict:
    return orjson.loads(orjson.dumps(obj))


def test_a_name_is_required() -> None:
    assert complaints(config_map(name="")) == [
        "metadata.name: Required value: name or generateName is required"
    ]


def test_a_bad_name_is_shown_with_the_rule() -> None:
    (message,) = complaints(pod("Web"))
    assert message.startswith(
        'metadata.name: Invalid value: "Web": a lowercase RFC 1123 subdomain must consist of'
    )


@pytest.mark.parametrize(
    ("api_version", "kind", "name", "fine"),
    [
        ("v1", "Namespace", "a.b", False),
        ("v1", "Pod", "a.b", True),
        ("rbac.authorization.k8s.io/v1", "Role", "system:a", True),
        ("v1", "ServiceAccount", "a.b", True),
        ("v1", "Node", "10.0.0.1", True),
    ],
)
def test_each_kind_has_its_own_grammar_of_names(
    api_version: str, kind: str, name: str, fine: bool
) -> None:
    made = manifest(api_version, kind)
    made["metadata"]["name"] = name
    if kind == "Pod":
        made["spec"] = pod()["spec"]
    assert (complaints(made) == []) is fine


def test_a_service_starts_with_a_letter() -> None:
    made = manifest("v1", "Service", {"ports": [{"port": 80}]})
    made["metadata"]["name"] = "1st"
    assert 'metadata.name: Invalid value: "1st": a DNS-1035 label must' in complaints(made)[0]


def test_labels_and_annotations_are_checked() -> None:
    messages = complaints(config_map(labels={"a b": "c d"}, annotations={"x y": "free text!"}))
    assert [m.split(":")[0] for m in messages] == [
        "metadata.labels",
        "metadata.labels",
        "metadata.annotations",
    ]


def test_annotations_have_a_total_size() -> None:
    big = {"a": "x" * (256 * 1024)}
    assert complaints(config_map(annotations=big)) == [
        "metadata.annotations: Too long: may not be more than 262144 bytes"
    ]


def test_a_finalizer_needs_a_domain() -> None:
    assert complaints(config_map(finalizers=["mine"])) == [
        'metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name '
        "nor is it fully qualified"
    ]
    assert complaints(config_map(finalizers=["example.com/mine", "orphan"])) == []


def test_an_object_has_one_controller() -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": True}
    (message,) = complaints(config_map(ownerReferences=[owner, owner | {"name": "q"}]))
    assert "Only one reference can have Controller set to true." in message
    assert message.endswith('Found "true" in references for Pod/p and Pod/q')


def test_a_cluster_scoped_object_has_no_namespace() -> None:
    made = manifest("v1", "Node")
    made["metadata"]["namespace"] = "default"
    assert complaints(made) == ["metadata.namespace: Forbidden: not allowed on this type"]


def test_system_fields_that_a_client_leaves_out_are_kept() -> None:
    old = stored(config_map())
    new = manifest("v1", "ConfigMap")
    assert update(new, old) == []
    assert new["metadata"]["uid"] == "uid-1"
    assert new["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"


def test_the_uid_is_immutable() -> None:
    old = stored(config_map())
    new = copy_of(old)
    new["metadata"]["uid"] = "other"
    assert update(new, old) == ['metadata.uid: Invalid value: "other": field is immutable']


def test_an_object_that_goes_takes_no_new_finalizers() -> None:
    old = stored(config_map(finalizers=["example.com/a"]))
    old["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:01Z"
    new = copy_of(old)
    new["metadata"]["finalizers"].append("example.com/b")
    assert update(new, old) == [
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being "
        'deleted, found new finalizers []string{"example.com/b"}'
    ]
    new["metadata"]["finalizers"] = []
    assert update(new, old) == []


def test_some_kinds_insist_on_a_resource_version() -> None:
    old = stored(manifest("coordination.k8s.io/v1", "Lease", {}))
    new = copy_of(old)
    del new["metadata"]["resourceVersion"]
    assert update(new, old) == [
        'metadata.resourceVersion: Invalid value: "": must be specified for an update'
    ]
