"""Pods: what is refused, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.manifests import complaints, container, pod

CONTAINERS = "spec.containers[0]"


def one(**fields: Any) -> dict:
    return pod(containers=[container(**fields)])


def test_a_plain_pod_is_fine() -> None:
    assert complaints(pod()) == []


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (pod(containers=[]), "spec.containers: Required value"),
        (pod(containers=[{"name": "c"}]), f"{CONTAINERS}.image: Required value"),
        (pod(containers=[{"image": "i"}]), f"{CONTAINERS}.name: Required value"),
        (
            pod(containers=[container(), container()]),
            'spec.containers[1].name: Duplicate value: "c"',
        ),
        (
            one(imagePullPolicy="Sometimes"),
            f'{CONTAINERS}.imagePullPolicy: Unsupported value: "Sometimes": supported values: '
            '"Always", "IfNotPresent", "Never"',
        ),
        (
            pod(restartPolicy="Maybe"),
            'spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", '
            '"OnFailure", "Never"',
        ),
        (
            one(ports=[{"containerPort": 70000}]),
            f"{CONTAINERS}.ports[0].containerPort: Invalid value: 70000: must be between 1 and "
            "65535, inclusive",
        ),
        (
            one(ports=[{"containerPort": 80, "protocol": "tcp"}]),
            f'{CONTAINERS}.ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", '
            '"TCP", "UDP"',
        ),
        (
            one(volumeMounts=[{"name": "v", "mountPath": "/v"}]),
            f'{CONTAINERS}.volumeMounts[0].name: Not found: "v"',
        ),
        (
            one(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
            f'{CONTAINERS}.resources.requests: Invalid value: "2": must be less than or equal to '
            "cpu limit of 1",
        ),
        (
            one(resources={"requests": {"cpu": "-1"}}),
            f'{CONTAINERS}.resources.requests[cpu]: Invalid value: "-1": must be greater than or '
            "equal to 0",
        ),
        (
            one(resources={"requests": {"gpus": "1"}}),
            f'{CONTAINERS}.resources.requests[gpus]: Invalid value: "gpus": must be a standard '
            "resource type or fully qualified",
        ),
        (
            one(resources={"requests": {"example.com/gpu": "1"}}),
            f"{CONTAINERS}.resources.limits: Required value: Limit must be set for non "
            "overcommitable resources",
        ),
        (
            one(livenessProbe={}),
            f"{CONTAINERS}.livenessProbe: Required value: must specify a handler type",
        ),
        (
            one(livenessProbe={"tcpSocket": {"port": 80}, "successThreshold": 2}),
            f"{CONTAINERS}.livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            one(readinessProbe={"exec": {"command": ["a"]}, "httpGet": {"port": 80}}),
            f"{CONTAINERS}.readinessProbe.httpGet: Forbidden: may not specify more than 1 handler "
            "type",
        ),
        (one(env=[{"value": "b"}]), f"{CONTAINERS}.env[0].name: Required value"),
        (
            one(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]),
            f'{CONTAINERS}.env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.nope": error '
            "converting fieldPath: field label not supported: spec.nope",
        ),
        (
            one(securityContext={"allowPrivilegeEscalation": False, "privileged": True}),
            f"{CONTAINERS}.securityContext: Invalid value: "
            '{"allowPrivilegeEscalation":false,"privileged":true}: cannot set '
            "`allowPrivilegeEscalation` to false and `privileged` to true",
        ),
        (
            one(image=" nginx"),
            f'{CONTAINERS}.image: Invalid value: " nginx": must not have leading or trailing '
            "whitespace",
        ),
        (
            pod(volumes=[{"name": "a"}, {"name": "a"}]),
            'spec.volumes[1].name: Duplicate value: "a"',
        ),
        (
            pod(volumes=[{"name": "a", "emptyDir": {}, "hostPath": {"path": "/"}}]),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            pod(volumes=[{"name": "a", "configMap": {}}]),
            "spec.volumes[0].configMap.name: Required value",
        ),
        (
            pod(tolerations=[{"operator": "Equal", "value": "x"}]),
            'spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when '
            '`key` is empty, which means "match all values and all keys"',
        ),
        (
            pod(tolerations=[{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5}]),
            'spec.tolerations[0].effect: Invalid value: "NoSchedule": effect must be \'NoExecute\' '
            "when `tolerationSeconds` is set",
        ),
        (
            pod(dnsPolicy="None"),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            pod(activeDeadlineSeconds=0),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, "
            "inclusive",
        ),
        (
            pod(ephemeralContainers=[container(name="e")]),
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
        ),
        (
            pod(initContainers=[container(name="i", livenessProbe={"exec": {"command": ["a"]}})]),
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers "
            "without restartPolicy=Always",
        ),
        (
            pod(schedulingGates=[{"name": "a"}], nodeName="n"),
            "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
        ),
        (
            pod(hostNetwork=True, containers=[
                container(ports=[{"containerPort": 80, "hostPort": 81}])
            ]),
            f"{CONTAINERS}.ports[0].hostPort: Invalid value: 81: must match `containerPort` when "
            "`hostNetwork` is true",
        ),
    ],
)  # fmt: skip
def test_a_bad_pod_is_refused_in_kubernetes_words(made: dict, message: str) -> None:
    assert message in complaints(made)


def test_two_containers_may_not_share_a_host_port() -> None:
    ports = [{"containerPort": 80, "hostPort": 8080}]
    made = pod(containers=[container(ports=ports), container(name="d", ports=[dict(ports[0])])])
    assert complaints(made) == [
        'spec.containers[1].ports[0].hostPort: Duplicate value: "TCP//8080"'
    ]


def test_every_mistake_is_reported_at_once() -> None:
    made = pod(restartPolicy="x", dnsPolicy="y", containers=[{"name": "c"}])
    assert len(complaints(made)) == 3


def test_affinity_is_checked_to_its_leaves() -> None:
    bad = {"matchExpressions": [{"key": "a", "operator": "In"}]}
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [bad]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "preference": {}}],
        },
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}}]
        },
    }
    messages = complaints(pod(affinity=affinity))
    assert (
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
        ".nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when "
        "`operator` is 'In' or 'NotIn'"
    ) in messages
    assert any(m.endswith("weight: Invalid value: 0: must be in the range 1-100") for m in messages)
    assert any(m.endswith("topologyKey: Required value: can not be empty") for m in messages)


def test_real_world_options_are_accepted() -> None:
    sidecar = container(name="s", restartPolicy="Always", startupProbe={"tcpSocket": {"port": 1}})
    full = pod(
        initContainers=[sidecar],
        hostAliases=[{"ip": "10.0.0.1", "hostnames": ["a.b"]}],
        topologySpreadConstraints=[
            {
                "maxSkew": 1,
                "topologyKey": "zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"a": "b"}},
            }
        ],
        securityContext={"runAsUser": 0, "fsGroup": 1, "sysctls": [{"name": "a.b", "value": "1"}]},
        tolerations=[{"operator": "Exists"}],
        os={"name": "linux"},
        subdomain="s",
        hostname="h",
    )
    assert complaints(full) == []
