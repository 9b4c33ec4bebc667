"""Strategies: what the server sets on create, keeps on update, and when a deletion is graceful."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from cluster.api import strategy
from tests.api.manifests import (
    container,
    create,
    default,
    deployment,
    manifest,
    pod,
    resource_of,
    service,
    stored,
    update,
    workload,
)


def copy_of(obj: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = orjson.loads(orjson.dumps(obj))
    return made


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1000m", "memory": "1Gi"}, "requests": {"cpu": "1"}}, "Guaranteed"),
        (
            {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
            "Burstable",
        ),
        ({"requests": {"cpu": "0"}}, "BestEffort"),
        ({"limits": {"ephemeral-storage": "1Gi"}}, "BestEffort"),
    ],
)
def test_a_pod_gets_its_quality_of_service(resources: dict[str, Any], expected: str) -> None:
    made, _ = create(pod(containers=[container(resources=resources)]))
    assert made["status"] == {"phase": "Pending", "qosClass": expected}


def test_a_status_sent_on_create_is_dropped() -> None:
    made, _ = create(deployment() | {"status": {"replicas": 7}})
    assert made["status"] == {}
    made, _ = create(pod() | {"status": {"phase": "Running"}})
    assert made["status"]["phase"] == "Pending"


def test_a_node_registers_with_its_status() -> None:
    made, _ = create(manifest("v1", "Node", status={"capacity": {"cpu": "4"}}))
    assert made["status"]["capacity"] == {"cpu": "4"}


def test_a_gated_pod_says_so() -> None:
    made, _ = create(pod(schedulingGates=[{"name": "a"}]))
    assert made["status"]["conditions"][0]["reason"] == "SchedulingGated"


def test_match_label_keys_become_requirements() -> None:
    term = {"topologyKey": "zone", "labelSelector": {}, "matchLabelKeys": ["version"]}
    rules = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    made = pod(affinity={"podAntiAffinity": rules})
    made["metadata"]["labels"] = {"version": "v1"}
    made, errors = create(made)
    assert errors == []
    assert term["labelSelector"]["matchExpressions"] == [
        {"key": "version", "operator": "In", "values": ["v1"]}
    ]


def test_a_namespace_is_born_with_a_finalizer_a_label_and_a_phase() -> None:
    made, _ = create(manifest("v1", "Namespace"))
    assert made["spec"] == {"finalizers": ["kubernetes"]}
    assert made["status"] == {"phase": "Active"}
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "x"}


def test_the_finalizers_of_a_namespace_go_only_by_finalize() -> None:
    old = stored(manifest("v1", "Namespace"))
    new = copy_of(old)
    new["spec"]["finalizers"] = []
    assert update(new, old) == []
    assert new["spec"]["finalizers"] == ["kubernetes"]
    new["spec"] = {"finalizers": []}
    assert update(new, old, "finalize") == []
    assert new["spec"]["finalizers"] == []


def test_generation_counts_changes_of_the_specification() -> None:
    old = stored(deployment())
    assert old["metadata"]["generation"] == 1
    new = copy_of(old)
    new["metadata"]["generation"] = 42
    assert update(new, old) == []
    assert new["metadata"]["generation"] == 1
    new["spec"]["replicas"] = 3
    update(new, old)
    assert new["metadata"]["generation"] == 2


def test_generation_of_a_deployment_counts_annotations_too() -> None:
    old = stored(deployment())
    new = copy_of(old)
    new["metadata"]["annotations"] = {"a": "b"}
    update(new, old)
    assert new["metadata"]["generation"] == 2
    old = stored(workload("apps/v1", "ReplicaSet"))
    new = copy_of(old)
    new["metadata"]["annotations"] = {"a": "b"}
    update(new, old)
    assert new["metadata"]["generation"] == 1


def test_a_status_update_touches_neither_specification_nor_generation() -> None:
    old = stored(deployment())
    new = copy_of(old)
    new["spec"]["replicas"] = 9
    new["metadata"]["labels"] = {"a": "b"}
    new["status"] = {"replicas": 1, "observedGeneration": 1}
    assert update(new, old, "status") == []
    assert new["spec"] is old["spec"]
    assert "labels" not in new["metadata"]
    assert new["metadata"]["generation"] == 1


def test_a_status_with_impossible_counts_is_refused() -> None:
    old = stored(deployment())
    new = copy_of(old)
    new["status"] = {"replicas": 1, "readyReplicas": 2}
    assert update(new, old, "status") == [
        "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"
    ]


def test_a_job_owns_its_pods_by_uid() -> None:
    spec = {"template": {"spec": {"restartPolicy": "Never", "containers": [container()]}}}
    made, errors = create(manifest("batch/v1", "Job", spec))
    assert errors == []
    assert made["spec"]["selector"] == {
        "matchLabels": {"batch.kubernetes.io/controller-uid": "uid-1"}
    }
    assert made["spec"]["template"]["metadata"]["labels"] == {
        "controller-uid": "uid-1",
        "job-name": "x",
        "batch.kubernetes.io/controller-uid": "uid-1",
        "batch.kubernetes.io/job-name": "x",
    }


def test_a_secret_in_plain_text_is_encoded() -> None:
    made = default(manifest("v1", "Secret", stringData={"a": "b"}))
    assert made["data"] == {"a": "Yg=="}
    assert "stringData" not in made


def test_a_daemon_set_counts_its_templates() -> None:
    name = "deprecated.daemonset.template.generation"
    old = stored(workload("apps/v1", "DaemonSet"))
    assert old["metadata"]["annotations"][name] == "1"
    new = copy_of(old)
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
    assert update(new, old) == []
    assert new["metadata"]["annotations"][name] == "2"


@pytest.mark.parametrize(
    ("spec", "phase", "options", "expected"),
    [
        ({"nodeName": "n"}, "Running", None, 30),
        ({"nodeName": "n"}, "Running", {"gracePeriodSeconds": 5}, 5),
        ({"nodeName": "n"}, "Running", {"gracePeriodSeconds": 0}, 0),
        ({"nodeName": "n"}, "Running", {"gracePeriodSeconds": -1}, 1),
        ({"nodeName": "n"}, "Succeeded", None, 0),
        ({}, "Pending", None, 0),
    ],
)
def test_only_a_bound_living_pod_is_deleted_gracefully(
    spec: dict[str, Any], phase: str, options: dict[str, Any] | None, expected: int
) -> None:
    made = default(pod(**spec)) | {"status": {"phase": phase}}
    assert strategy.default_grace(resource_of(made), made, options) == expected


def test_other_kinds_go_at_once() -> None:
    made = deployment()
    assert strategy.default_grace(resource_of(made), made, {"gracePeriodSeconds": 5}) == 0


def test_the_scale_of_a_deployment() -> None:
    made = stored(deployment(replicas=3))
    made["status"] = {"replicas": 2}
    resource = resource_of(made)
    scale = strategy.scale_of(resource, made)
    assert scale == {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": "x",
            "namespace": "default",
            "uid": "uid-1",
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"replicas": 3},
        "status": {"replicas": 2, "selector": "app=x"},
    }
    scale["spec"]["replicas"] = 5
    strategy.apply_scale(resource, made, scale)
    assert made["spec"]["replicas"] == 5


def test_which_kinds_a_put_creates() -> None:
    assert strategy.can_create_on_update(resource_of(service()))
    assert not strategy.can_create_on_update(resource_of(pod()))
    lease = resource_of(manifest("coordination.k8s.io/v1", "Lease"))
    assert strategy.can_create_on_update(lease)
    assert not strategy.allows_unconditional_update(lease)


def test_warnings_speak_as_kubernetes_does() -> None:
    made = pod("a.b", nodeSelector={"beta.kubernetes.io/os": "linux"})
    first, second = strategy.warnings(resource_of(made), made)
    assert first.startswith("metadata.name: this is used in the Pod's hostname")
    assert second == (
        'spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" '
        "instead"
    )
    made = deployment()
    made["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A"}, {"name": "A"}]
    assert strategy.warnings(resource_of(made), made) == [
        'spec.template.spec.containers[0].env[1]: hides previous definition of "A", which may be '
        "dropped when using apply"
    ]
    assert strategy.warnings(resource_of(service()), service()) == []


def test_scaling_counts_a_generation_and_keeps_the_rules() -> None:
    old = stored(deployment())
    new = copy_of(old)
    new["spec"]["replicas"] = 5
    assert update(new, old, "scale") == []
    assert new["metadata"]["generation"] == 2
    new["spec"]["replicas"] = -1
    assert update(new, old, "scale") == [
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    ]
