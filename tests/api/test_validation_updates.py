"""Updates: what may not change, and in which words it is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from cluster.api import strategy
from tests.api.manifests import (
    container,
    deployment,
    manifest,
    pod,
    resource_of,
    service,
    stored,
    update,
    workload,
)

Change = Callable[[dict[str, Any]], Any]
UPDATABLE = (
    "spec: Forbidden: pod updates may not change fields other than "
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def changed(old: dict[str, Any], change: Change) -> dict[str, Any]:
    new: dict[str, Any] = orjson.loads(orjson.dumps(old))
    change(new)
    return new


def after(made: dict[str, Any], change: Change, subresource: str = "") -> list[str]:
    old = stored(made)
    return update(changed(old, change), old, subresource)


def test_an_update_that_changes_nothing_is_fine() -> None:
    for made in (pod(), deployment(), service(), manifest("v1", "ConfigMap")):
        assert after(made, lambda _: None) == []


def test_the_image_of_a_pod_may_change() -> None:
    old = stored(pod())
    new = changed(old, lambda p: p["spec"]["containers"][0].update(image="other"))
    assert update(new, old) == []
    assert new["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["spec"]["containers"][0].update(name="d"), UPDATABLE),
        (lambda p: p["spec"].update(nodeName="n"), UPDATABLE),
        (lambda p: p["spec"]["containers"][0].update(command=["a"]), UPDATABLE),
        (lambda p: p["spec"].update(terminationGracePeriodSeconds=1), UPDATABLE),
        (
            lambda p: p["spec"]["containers"].append(container(name="d")),
            "spec.containers: Forbidden: pod updates may not add or remove containers",
        ),
        (
            lambda p: p["spec"].update(tolerations=[]),
            "spec.tolerations: Forbidden: existing toleration can not be modified except its "
            "tolerationSeconds",
        ),
        (
            lambda p: p["spec"].update(activeDeadlineSeconds=100),
            "spec.activeDeadlineSeconds: Invalid value: 100: must be less than or equal to "
            "previous value",
        ),
    ],
)
def test_most_of_a_pod_is_immutable(change: Change, message: str) -> None:
    made = pod(
        activeDeadlineSeconds=50,
        tolerations=[{"key": "a", "operator": "Exists", "effect": "NoExecute"}],
    )
    assert message in after(made, change)


def test_tolerations_may_be_added_and_deadlines_shortened() -> None:
    def change(p: dict[str, Any]) -> None:
        p["spec"].update(tolerations=[{"operator": "Exists"}], activeDeadlineSeconds=5)

    assert after(pod(), change) == []


def test_scheduling_gates_only_open() -> None:
    gated = pod(schedulingGates=[{"name": "a"}])
    assert after(gated, lambda p: p["spec"].pop("schedulingGates")) == []
    gated = pod(schedulingGates=[{"name": "a"}])
    change: Change = lambda p: p["spec"]["schedulingGates"].append({"name": "b"})  # noqa: E731
    assert after(gated, change) == [
        "spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new "
        "scheduling gate 'b'"
    ]


def test_a_gated_pod_may_narrow_its_nodes() -> None:
    gated = pod(schedulingGates=[{"name": "a"}], nodeSelector={"a": "b"})
    assert after(gated, lambda p: p["spec"]["nodeSelector"].update(c="d")) == []
    gated = pod(schedulingGates=[{"name": "a"}], nodeSelector={"a": "b"})
    (message,) = after(gated, lambda p: p["spec"].update(nodeSelector={"c": "d"}))
    assert "only additions to spec.nodeSelector are allowed" in message


def test_a_pod_update_keeps_the_status_and_a_status_update_the_rest() -> None:
    old = stored(pod())
    new = changed(old, lambda p: p["status"].update(phase="Running"))
    assert update(new, old) == []
    assert new["status"]["phase"] == "Pending"

    def change(p: dict[str, Any]) -> None:
        p["status"] = {"phase": "Running"}
        p["spec"] = {}
        p["metadata"]["ownerReferences"] = [{"broken": True}]

    new = changed(old, change)
    assert update(new, old, "status") == []
    assert new["spec"] is old["spec"]
    assert new["status"] == {"phase": "Running", "qosClass": "BestEffort"}
    assert "ownerReferences" not in new["metadata"]
    assert new["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            {"qosClass": "Guaranteed"},
            'status.qosClass: Invalid value: "Guaranteed": field is immutable',
        ),
        (
            {"hostIP": "1.2.3.4", "hostIPs": [{"ip": "1.2.3.5"}]},
            'status.hostIPs[0].ip: Invalid value: "1.2.3.5": must be equal to `hostIP`',
        ),
        (
            {"podIPs": [{"ip": "nope"}]},
            'status.podIPs[0]: Invalid value: "nope": must be a valid IP address, (e.g. 10.9.8.7 '
            "or 2001:db8::ffff)",
        ),
        (
            {"conditions": [{"type": "bad type"}]},
            "metadata.conditions[0].Type",
        ),
    ],
)
def test_a_bad_pod_status_is_refused(status: dict[str, Any], message: str) -> None:
    found = after(pod(), lambda p: p["status"].update(status), "status")
    assert found and found[0].startswith(message)


def test_an_ended_container_stays_ended_unless_it_may_restart() -> None:
    def ended(policy: str, code: int) -> list[str]:
        old = stored(pod(restartPolicy=policy))
        state = {"terminated": {"exitCode": code}}
        old["status"]["containerStatuses"] = [{"name": "c", "state": state}]
        running: Change = lambda p: p["status"]["containerStatuses"][0].update(  # noqa: E731
            state={"running": {}}
        )
        return update(changed(old, running), old, "status")

    assert ended("Never", 0) == [
        "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated "
        "state"
    ]
    assert ended("OnFailure", 0) != []
    assert ended("OnFailure", 1) == []
    assert ended("Always", 0) == []


def test_ephemeral_containers_come_by_their_own_door() -> None:
    def change(p: dict[str, Any]) -> None:
        p["spec"]["ephemeralContainers"] = [container(name="debug")]
        p["spec"]["nodeName"] = "dropped"

    old = stored(pod())
    new = changed(old, change)
    assert update(new, old, "ephemeralcontainers") == []
    assert "nodeName" not in new["spec"]
    gone = changed(new, lambda p: p["spec"].pop("ephemeralContainers"))
    (message,) = update(gone, new, "ephemeralcontainers")
    assert 'existing ephemeral containers "debug" may not be removed' in message


def test_a_resize_changes_resources_only_and_keeps_the_qos_class() -> None:
    limits = {"limits": {"cpu": "1", "memory": "1Gi"}}
    old = stored(pod(containers=[container(resources=limits)]))
    twice = {"cpu": "2", "memory": "1Gi"}

    def change(p: dict[str, Any]) -> None:
        p["spec"]["containers"][0].update(resources={"limits": twice, "requests": twice}, image="x")

    new = changed(old, change)
    assert update(new, old, "resize") == []
    assert new["spec"]["containers"][0]["image"] == "nginx"
    less = changed(
        old, lambda p: p["spec"]["containers"][0]["resources"]["requests"].update(cpu="0")
    )
    assert any("QOS Class may not change" in m for m in update(less, old, "resize"))


SELECTOR = {"matchLabels": {"app": "y"}}


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet", "DaemonSet"])
def test_the_selector_of_a_workload_is_immutable(kind: str) -> None:
    messages = after(
        workload("apps/v1", kind), lambda d: d["spec"]["selector"]["matchLabels"].update(app="y")
    )
    assert (
        'spec.selector: Invalid value: {"matchLabels":{"app":"y"}}: field is immutable' in messages
    )


def test_a_stateful_set_names_what_may_change() -> None:
    made = workload("apps/v1", "StatefulSet", serviceName="a")
    assert after(made, lambda s: s["spec"].update(replicas=3)) == []
    made = workload("apps/v1", "StatefulSet", serviceName="a")
    (message,) = after(made, lambda s: s["spec"].update(serviceName="b"))
    assert message == (
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', "
        "'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', "
        "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
    )


def job() -> dict[str, Any]:
    spec = {"restartPolicy": "Never", "containers": [container()]}
    return manifest("batch/v1", "Job", {"template": {"spec": spec}})


def test_the_template_of_a_job_is_immutable_and_its_parallelism_is_not() -> None:
    assert after(job(), lambda j: j["spec"].update(parallelism=3)) == []
    change: Change = lambda j: j["spec"]["template"]["spec"].update(dnsPolicy="Default")  # noqa: E731
    (message,) = after(job(), change)
    assert message.startswith("spec.template: Invalid value: ")
    assert message.endswith(": field is immutable")


def test_a_suspended_job_may_still_be_steered() -> None:
    made = job()
    made["spec"]["suspend"] = True
    change: Change = lambda j: j["spec"]["template"]["spec"].update(nodeSelector={"a": "b"})  # noqa: E731
    assert after(made, change) == []


def test_immutable_config_stays() -> None:
    made = manifest("v1", "ConfigMap", data={"a": "b"}, immutable=True)
    assert after(made, lambda c: c["data"].update(a="c")) == [
        "data: Forbidden: field is immutable when `immutable` is set"
    ]
    made = manifest("v1", "Secret", type="Opaque")
    assert after(made, lambda s: s.update(type="kubernetes.io/x")) == [
        'type: Invalid value: "kubernetes.io/x": field is immutable'
    ]


def test_the_cluster_ip_of_a_service_does_not_move() -> None:
    made = service(clusterIP="10.96.0.5")
    change: Change = lambda s: s["spec"].update(clusterIP="10.96.0.6")  # noqa: E731
    messages = after(made, change)
    assert messages == ['spec.clusterIPs[0]: Invalid value: ["10.96.0.6"]: may not change once set']


def test_a_service_put_without_its_allocations_keeps_them() -> None:
    old = stored(service(clusterIP="10.96.0.5", type="NodePort"))
    old["spec"]["ports"][0]["nodePort"] = 30080
    new = service(type="NodePort")
    assert update(new, old) == []
    assert new["spec"]["clusterIPs"] == ["10.96.0.5"]
    assert new["spec"]["ports"][0]["nodePort"] == 30080


def test_a_service_that_becomes_internal_drops_its_node_ports() -> None:
    old = stored(service(type="NodePort"))
    old["spec"]["ports"][0]["nodePort"] = 30080
    new = changed(old, lambda s: s["spec"].update(type="ClusterIP"))
    assert update(new, old) == []
    assert "nodePort" not in new["spec"]["ports"][0]
    assert "externalTrafficPolicy" not in new["spec"]


def test_role_refs_and_claims_are_immutable() -> None:
    rbac = "rbac.authorization.k8s.io"
    binding = manifest(f"{rbac}/v1", "RoleBinding", roleRef={"kind": "Role", "name": "a"})
    (message,) = after(binding, lambda b: b["roleRef"].update(name="b"))
    assert message.endswith(": cannot change roleRef")
    claim = manifest(
        "v1",
        "PersistentVolumeClaim",
        {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    )
    (message,) = after(claim, lambda c: c["spec"].update(accessModes=["ReadOnlyMany"]))
    assert message.startswith("spec: Forbidden: spec is immutable after creation except resources")


def test_the_order_of_prepare_and_validate_is_idempotent() -> None:
    old = stored(deployment())
    new = changed(old, lambda d: d["spec"].update(replicas=3))
    assert update(new, old) == []
    again = changed(new, lambda _: None)
    resource = resource_of(again)
    strategy.prepare_update(resource, again, old)
    assert again == new


def test_the_messages_of_an_update_come_in_kubernetes_order() -> None:
    first, second = after(
        deployment(), lambda d: d["spec"]["selector"]["matchLabels"].update(app="y")
    )
    assert first.startswith("spec.template.metadata.labels")
    assert second.startswith("spec.selector")
