"""Tables: upstream's columns, and the STATUS of a pod in all its shapes."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.api.catalogue import custom_resource
from cluster.api.meta import Object
from cluster.api.table import human_duration, to_table
from cluster.api.table.custom import find_path
from tests.api.manifests import NOW, catalogue, resource_of

CREATED = "2025-12-31T23:00:00Z"


def row(obj: Object) -> dict[str, Any]:
    """The one row of an object by column name."""
    obj.setdefault("metadata", {}).setdefault("name", "x")
    obj["metadata"].setdefault("creationTimestamp", CREATED)
    table = to_table(resource_of(obj), [obj], include_object="None", now=NOW)
    names = [c["name"] for c in table["columnDefinitions"]]
    return dict(zip(names, table["rows"][0]["cells"], strict=True))


def pod(status: Object, **spec: Any) -> Object:
    containers = [{"name": "a"}, {"name": "b"}]
    body = {"containers": containers, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": body, "status": status}


def running(name: str = "a", **rest: Any) -> Object:
    return {"name": name, "ready": True, "restartCount": 0, "state": {"running": {}}, **rest}


def terminated(name: str = "a", **rest: Any) -> Object:
    return {"name": name, "ready": False, "restartCount": 0, "state": {"terminated": rest}}


def waiting(reason: str, name: str = "a") -> Object:
    return {
        "name": name,
        "ready": False,
        "restartCount": 3,
        "state": {"waiting": {"reason": reason}},
    }


READY = [{"type": "Ready", "status": "True"}]
STATUSES = [
    ({"phase": "Pending"}, {}, "Pending", "0/2"),
    ({"phase": "Running", "containerStatuses": [running(), running("b")]}, {}, "Running", "2/2"),
    (
        {"phase": "Running", "containerStatuses": [running(), waiting("CrashLoopBackOff", "b")]},
        {}, "CrashLoopBackOff", "1/2",
    ),
    (
        {"phase": "Pending", "containerStatuses": [waiting("ErrImagePull")]},
        {}, "ErrImagePull", "0/2",
    ),
    (
        {"phase": "Failed", "containerStatuses": [terminated(exitCode=3)]}, {}, "ExitCode:3", "0/2",
    ),
    (
        {"phase": "Failed", "containerStatuses": [terminated(exitCode=137, signal=9)]},
        {}, "Signal:9", "0/2",
    ),
    (
        {"phase": "Failed", "containerStatuses": [terminated(exitCode=1, reason="Error")]},
        {}, "Error", "0/2",
    ),
    ({"phase": "Failed", "reason": "Evicted"}, {}, "Evicted", "0/2"),
    (
        {
            "phase": "Running", "conditions": READY,
            "containerStatuses": [terminated(exitCode=0, reason="Completed"), running("b")],
        },
        {}, "Running", "1/2",
    ),
    (
        {
            "phase": "Running",
            "containerStatuses": [terminated(exitCode=0, reason="Completed"), running("b")],
        },
        {}, "NotReady", "1/2",
    ),
    (
        {"phase": "Succeeded", "containerStatuses": [terminated(exitCode=0, reason="Completed")]},
        {}, "Completed", "0/2",
    ),
    (
        {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]},
        {}, "SchedulingGated", "0/2",
    ),
    (
        {"phase": "Pending", "initContainerStatuses": [running("i")]},
        {"initContainers": [{"name": "i"}, {"name": "j"}]}, "Init:0/2", "0/2",
    ),
    (
        {"phase": "Pending", "initContainerStatuses": [terminated("i", exitCode=0), running("j")]},
        {"initContainers": [{"name": "i"}, {"name": "j"}]}, "Init:1/2", "0/2",
    ),
    (
        {"phase": "Pending", "initContainerStatuses": [terminated("i", exitCode=2, reason="Oops")]},
        {"initContainers": [{"name": "i"}]}, "Init:Oops", "0/2",
    ),
    (
        {"phase": "Pending", "initContainerStatuses": [waiting("CrashLoopBackOff", "i")]},
        {"initContainers": [{"name": "i"}]}, "Init:CrashLoopBackOff", "0/2",
    ),
    (
        {
            "phase": "Running", "initContainerStatuses": [running("side", started=True)],
            "containerStatuses": [running(), running("b")],
        },
        {"initContainers": [{"name": "side", "restartPolicy": "Always"}]}, "Running", "3/3",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("status", "spec", "shown", "ready"), STATUSES)
def test_a_pods_status_is_what_kubectl_would_print(
    status: Object, spec: Object, shown: str, ready: str
) -> None:
    cells = row(pod(status, **spec))
    assert (cells["Status"], cells["Ready"]) == (shown, ready)


def test_a_deleted_pod_is_terminating_unless_it_is_finished_or_its_node_lost() -> None:
    for status, shown in (
        ({"phase": "Running"}, "Terminating"),
        ({"phase": "Succeeded"}, "Succeeded"),
        ({"phase": "Running", "reason": "NodeLost"}, "Unknown"),
    ):
        obj = pod(status)
        obj["metadata"]["deletionTimestamp"] = CREATED
        assert row(obj)["Status"] == shown


def test_restarts_say_when_the_last_one_was() -> None:
    last = {"terminated": {"finishedAt": "2025-12-31T23:57:00Z"}}
    crashed = running(restartCount=4, lastState=last)
    assert (
        row(pod({"phase": "Running", "containerStatuses": [crashed]}))["Restarts"] == "4 (3m ago)"
    )
    assert row(pod({"phase": "Running", "containerStatuses": [running()]}))["Restarts"] == "0"


def test_wide_columns_of_pods() -> None:
    status = {
        "phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "nominatedNodeName": "n2",
        "conditions": [{"type": "gate", "status": "True"}],
    }  # fmt: skip
    gates = [{"conditionType": "gate"}, {"conditionType": "other"}]
    cells = row(pod(status, nodeName="n1", readinessGates=gates))
    wide = ("IP", "Node", "Nominated Node", "Readiness Gates")
    assert tuple(cells[name] for name in wide) == ("10.0.0.1", "n1", "n2", "1/2")
    bare = row(pod({}))
    assert tuple(bare[name] for name in wide) == ("<none>",) * 4


def test_pod_columns_are_upstreams() -> None:
    resource = resource_of(pod({}))
    table = to_table(resource, [], now=NOW, list_meta={"resourceVersion": "7"})
    assert table["kind"] == "Table"
    assert table["apiVersion"] == "meta.k8s.io/v1"
    assert table["metadata"] == {"resourceVersion": "7"}
    shown = [(c["name"], c["type"], c["format"], c["priority"]) for c in table["columnDefinitions"]]
    assert shown == [
        ("Name", "string", "name", 0), ("Ready", "string", "", 0), ("Status", "string", "", 0),
        ("Restarts", "string", "", 0), ("Age", "string", "", 0), ("IP", "string", "", 1),
        ("Node", "string", "", 1), ("Nominated Node", "string", "", 1),
        ("Readiness Gates", "string", "", 1),
    ]  # fmt: skip


def test_finished_pods_are_marked_in_their_rows() -> None:
    obj = pod({"phase": "Succeeded"})
    obj["metadata"] = {"name": "x"}
    table = to_table(resource_of(obj), [obj], now=NOW)
    assert table["rows"][0]["conditions"] == [
        {
            "type": "Completed", "status": "True", "reason": "Succeeded",
            "message": "The pod has completed successfully.",
        }
    ]  # fmt: skip


def test_rows_carry_what_was_asked_for() -> None:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "b"}}
    resource = resource_of(obj)
    partial = to_table(resource, [obj], now=NOW)["rows"][0]["object"]
    assert partial == {
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "x"},
    }  # fmt: skip
    assert to_table(resource, [obj], now=NOW, include_object="Object")["rows"][0]["object"] == obj
    assert to_table(resource, [obj], now=NOW, include_object="None")["rows"][0]["object"] is None
    assert to_table(resource, [obj], now=NOW, no_headers=True)["columnDefinitions"] is None


def test_every_resource_has_as_many_cells_as_columns() -> None:
    for resource in catalogue().resources:
        obj = {"kind": resource.kind, "metadata": {"name": "x", "creationTimestamp": CREATED}}
        table = to_table(resource, [obj], now=NOW)
        assert len(table["columnDefinitions"]) == len(table["rows"][0]["cells"]), resource.kind


@pytest.mark.parametrize("plural", ["roles", "clusterroles", "limitranges"])
def test_kinds_without_columns_print_when_they_were_created(plural: str) -> None:
    resource = next(r for r in catalogue().resources if r.plural == plural)
    obj = {"kind": resource.kind, "metadata": {"name": "x", "creationTimestamp": CREATED}}
    table = to_table(resource, [obj], now=NOW)
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Created At"]
    assert table["rows"][0]["cells"] == ["x", CREATED]


def test_nodes() -> None:
    labels = {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "d"}
    node: Object = {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"labels": labels},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "172.30.0.2"}],
            "nodeInfo": {"kubeletVersion": "v1.37.0"},
        },
    }  # fmt: skip
    cells = row(node)
    assert cells["Status"] == "Ready,SchedulingDisabled"
    assert cells["Roles"] == "control-plane,d"
    assert cells["Version"] == "v1.37.0"
    assert (cells["Internal-IP"], cells["External-IP"]) == ("172.30.0.2", "<none>")
    assert cells["OS-Image"] == "<unknown>"
    node["status"]["conditions"][0]["status"] = "Unknown"
    assert row(node)["Status"] == "NotReady,SchedulingDisabled"


@pytest.mark.parametrize(
    ("spec", "status", "external", "ports"),
    [
        ({"type": "ClusterIP"}, {}, "<none>", "<none>"),
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]},
            {}, "<none>", "80:30080/TCP",
        ),
        ({"type": "LoadBalancer"}, {}, "<pending>", "<none>"),
        (
            {"type": "LoadBalancer", "externalIPs": ["1.1.1.1"]},
            {"loadBalancer": {"ingress": [{"ip": "9.9.9.9"}]}}, "9.9.9.9,1.1.1.1", "<none>",
        ),
        ({"type": "ExternalName", "externalName": "a.b"}, {}, "a.b", "<none>"),
    ],
)  # fmt: skip
def test_services(spec: Object, status: Object, external: str, ports: str) -> None:
    cells = row({"apiVersion": "v1", "kind": "Service", "spec": spec, "status": status})
    assert (cells["External-IP"], cells["Port(s)"]) == (external, ports)
    assert cells["Cluster-IP"] == "<none>"


def test_workloads() -> None:
    spec = {
        "replicas": 3, "selector": {"matchLabels": {"a": "b"}},
        "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}},
    }  # fmt: skip
    status = {"replicas": 3, "readyReplicas": 1, "updatedReplicas": 3, "availableReplicas": 1}
    cells = row({"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec, "status": status})
    assert list(cells.values()) == ["x", "1/3", 3, 1, "60m", "c", "i", "a=b"]
    cells = row({"apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": spec, "status": status})
    assert list(cells.values()) == ["x", 3, 3, 1, "60m", "c", "i", "a=b"]
    cells = row({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": spec, "status": status})
    assert list(cells.values()) == ["x", "1/3", "60m", "c", "i"]


def test_jobs() -> None:
    job: Object = {
        "apiVersion": "batch/v1", "kind": "Job", "spec": {"completions": 2},
        "status": {"succeeded": 1, "startTime": "2025-12-31T23:59:00Z"},
    }  # fmt: skip
    cells = row(job)
    assert (cells["Status"], cells["Completions"], cells["Duration"]) == ("Running", "1/2", "60s")
    job["status"]["conditions"] = [{"type": "Complete", "status": "True"}]
    job["spec"] = {"parallelism": 3}
    assert (row(job)["Status"], row(job)["Completions"]) == ("Complete", "1/1 of 3")


def test_claims_and_volumes() -> None:
    claim: Object = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "spec": {"volumeName": "pv", "storageClassName": "fast"},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"},
                   "accessModes": ["ReadWriteMany", "ReadWriteOnce"]},
    }  # fmt: skip
    cells = row(claim)
    assert cells["Capacity"] == "1Gi"
    assert cells["Access Modes"] == "RWO,RWX"
    assert cells["VolumeAttributesClass"] == "<unset>"


def test_events_show_their_object_and_series() -> None:
    event: Object = {
        "apiVersion": "v1", "kind": "Event", "type": "Normal", "reason": "Pulled", "message": "m\n",
        "involvedObject": {"kind": "Pod", "name": "p"},
        "source": {"component": "kubelet", "host": "n"},
        "lastTimestamp": "2025-12-31T23:59:30Z", "firstTimestamp": "2025-12-31T23:58:00Z",
        "count": 4,
    }  # fmt: skip
    cells = row(event)
    assert (cells["Last Seen"], cells["First Seen"]) == ("30s", "2m")
    assert (cells["Object"], cells["Source"], cells["Count"]) == ("pod/p", "kubelet, n", 4)
    assert cells["Message"] == "m"


def test_autoscalers() -> None:
    metric = {"type": "Resource", "resource": {
        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}  # fmt: skip
    hpa = {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 9,
                 "metrics": [metric]},
    }  # fmt: skip
    cells = row(hpa)
    assert cells["Reference"] == "Deployment/d"
    assert cells["Targets"] == "cpu: <unknown>/80%"
    assert cells["MinPods"] == "<unset>"


def test_the_default_storage_class_says_so() -> None:
    marked = {"storageclass.kubernetes.io/is-default-class": "true"}
    obj = {
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "p",
        "metadata": {"name": "fast", "annotations": marked},
    }  # fmt: skip
    assert row(obj)["Name"] == "fast (default)"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (200, "3m20s"),
        (600, "10m"), (3600, "60m"), (10_799, "179m"), (10_800, "3h"), (11_700, "3h15m"),
        (30_000, "8h"), (172_799, "47h"), (172_800, "2d"), (180_000, "2d2h"), (700_000, "8d"),
        (63_072_000, "2y"), (70_000_000, "2y80d"), (300_000_000, "9y"),
    ],
)  # fmt: skip
def test_durations_read_as_kubectls(seconds: int, shown: str) -> None:
    assert human_duration(seconds) == shown


def test_custom_resources_print_their_declared_columns() -> None:
    widget = custom_resource(
        group="example.com", version="v1", names={"kind": "Widget", "plural": "widgets"},
        namespaced=True, subresources=(), schema_name="",
    )  # fmt: skip
    obj = {
        "metadata": {"name": "w", "creationTimestamp": CREATED},
        "spec": {"size": 3, "on": True},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    columns: list[Object] = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Ready", "type": "string",
         "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "On", "type": "boolean", "jsonPath": ".spec.on", "priority": 1},
        {"name": "Gone", "type": "string", "jsonPath": ".spec.gone"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]  # fmt: skip
    table = to_table(widget, [obj], now=NOW, printer_columns=columns)
    assert table["rows"][0]["cells"] == ["w", 3, "True", True, None, "60m"]
    assert table["columnDefinitions"][0]["name"] == "Name"
    assert table["columnDefinitions"][3]["priority"] == 1
    plain = to_table(widget, [obj], now=NOW)
    assert [c["name"] for c in plain["columnDefinitions"]] == ["Name", "Age"]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b", [1]), ("{.a.b}", [1]), (".l[0]", ["x"]), (".l[-1]", ["y"]), (".l[*]", ["x", "y"]),
        (".gone.deeper", []), (".l[9]", []), (".a['b']", [1]), ("nonsense[", []),
    ],
)  # fmt: skip
def test_simple_json_paths(path: str, found: list[Any]) -> None:
    assert find_path({"a": {"b": 1}, "l": ["x", "y"]}, path) == found
