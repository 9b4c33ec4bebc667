"""The other kinds: one bad object a rule, with the message Kubernetes gives."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.manifests import complaints, container, deployment, manifest, service, workload

ADMISSION = "admissionregistration.k8s.io"
RBAC = "rbac.authorization.k8s.io/v1"


def job(**spec: Any) -> dict[str, Any]:
    template = {"spec": {"restartPolicy": "Never", "containers": [container()]}}
    return manifest("batch/v1", "Job", {"template": template, **spec})


def cron(schedule: str = "* * * * *", **spec: Any) -> dict[str, Any]:
    body = {"schedule": schedule, "jobTemplate": {"spec": job()["spec"]}, **spec}
    return manifest("batch/v1", "CronJob", body)


def secret(kind: str = "Opaque", **data: str) -> dict[str, Any]:
    return manifest("v1", "Secret", type=kind, data=data)


def quota(**hard: str) -> dict[str, Any]:
    return manifest("v1", "ResourceQuota", {"hard": hard})


def limits(**item: Any) -> dict[str, Any]:
    return manifest("v1", "LimitRange", {"limits": [{"type": "Container", **item}]})


def budget(**spec: Any) -> dict[str, Any]:
    return manifest("policy/v1", "PodDisruptionBudget", spec)


def autoscaler(**spec: Any) -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}
    body = {"maxReplicas": 3, "scaleTargetRef": target, **spec}
    return manifest("autoscaling/v2", "HorizontalPodAutoscaler", body)


def ingress(**path: Any) -> dict[str, Any]:
    backend = {"service": {"name": "s", "port": {"number": 80}}}
    entry = {"path": "/", "pathType": "Prefix", "backend": backend, **path}
    return manifest("networking.k8s.io/v1", "Ingress", {"rules": [{"http": {"paths": [entry]}}]})


def rolling(**rolling_update: Any) -> dict[str, Any]:
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling_update}
    return deployment(strategy=strategy)


def claim(**spec: Any) -> dict[str, Any]:
    return manifest("v1", "PersistentVolumeClaim", spec)


def endpoint_slice(**fields: Any) -> dict[str, Any]:
    return manifest("discovery.k8s.io/v1", "EndpointSlice", **fields)


@pytest.mark.parametrize(
    "made",
    [
        deployment(),
        deployment(strategy={"type": "Recreate"}),
        workload("apps/v1", "ReplicaSet", replicas=0),
        workload("apps/v1", "StatefulSet", serviceName="s"),
        workload("apps/v1", "DaemonSet", updateStrategy={"type": "OnDelete"}),
        service(80, 443),
        service(clusterIP="None"),
        manifest("v1", "Service", {"type": "ExternalName", "externalName": "a.example.com."}),
        job(),
        job(completionMode="Indexed", completions=3),
        cron(),
        cron("@hourly"),
        cron("0 4 * * mon-fri", timeZone="Europe/Berlin"),
        secret(password="Yg=="),
        quota(**{"pods": "4", "requests.cpu": "1", "count/deployments.apps": "2"}),
        limits(max={"cpu": "1"}),
        budget(minAvailable="50%"),
        autoscaler(),
        ingress(),
        claim(accessModes=["ReadWriteOnce"], resources={"requests": {"storage": "1Gi"}}),
        endpoint_slice(addressType="IPv4", endpoints=[{"addresses": ["10.0.0.1"]}]),
        manifest(RBAC, "ClusterRole", rules=[{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]),
        manifest("scheduling.k8s.io/v1", "PriorityClass", value=10),
        manifest("storage.k8s.io/v1", "StorageClass", provisioner="example.com/p"),
        manifest("networking.k8s.io/v1", "NetworkPolicy", {"podSelector": {}}),
        manifest("coordination.k8s.io/v1", "Lease", {"leaseDurationSeconds": 40}),
        manifest("v1", "ServiceAccount"),
    ],
    ids=lambda made: made["kind"],
)
def test_a_good_object_is_accepted(made: dict[str, Any]) -> None:
    assert complaints(made) == []


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            deployment(replicas=-1),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (deployment(selector=None), "spec.selector: Required value"),
        (
            deployment(selector={"matchLabels": {"app": "y"}}),
            'spec.template.metadata.labels: Invalid value: {"app":"x"}: `selector` does not match '
            "template `labels`",
        ),
        (
            deployment(selector={}),
            "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
        ),
        (
            rolling(maxSurge=0, maxUnavailable=0),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when "
            "`maxSurge` is 0",
        ),
        (
            rolling(maxUnavailable="200%"),
            'spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "200%": must '
            "not be greater "
            "than 100%",
        ),
        (
            deployment(strategy={"type": "Blue"}),
            'spec.strategy.type: Unsupported value: "Blue": supported values: "Recreate", '
            '"RollingUpdate"',
        ),
        (
            deployment(progressDeadlineSeconds=5, minReadySeconds=5),
            "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
        ),
        (
            workload(
                "apps/v1",
                "ReplicaSet",
                template={
                    "metadata": {"labels": {"app": "x"}},
                    "spec": {"restartPolicy": "Never", "containers": [container()]},
                },
            ),
            'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: '
            '"Always"',
        ),
        (
            workload(
                "apps/v1",
                "DaemonSet",
                updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
            ),
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when "
            "maxUnavailable is non-zero",
        ),
        (
            service(0),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (manifest("v1", "Service", {}), "spec.ports: Required value"),
        (
            service(type="Magic"),
            'spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", '
            '"LoadBalancer", "NodePort"',
        ),
        (
            manifest("v1", "Service", {"ports": [{"port": 80, "nodePort": 30000}]}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            manifest(
                "v1", "Service", {"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}
            ),
            'spec.ports[1].name: Duplicate value: "a"',
        ),
        (
            service(clusterIP="10.0.0"),
            'spec.clusterIPs[0]: Invalid value: "10.0.0": must be a valid IP address, (e.g. '
            "10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            job(template={"spec": {"containers": [container()]}}),
            'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
        ),
        (
            job(completionMode="Indexed", completions=None, parallelism=1),
            "spec.completions: Required value: when completion mode is Indexed",
        ),
        (
            cron("bad"),
            'spec.schedule: Invalid value: "bad": expected exactly 5 fields, found 1: [bad]',
        ),
        (
            cron("60 * * * *"),
            'spec.schedule: Invalid value: "60 * * * *": end of range (60) above maximum (59): 60',
        ),
        (
            cron(concurrencyPolicy="X"),
            'spec.concurrencyPolicy: Unsupported value: "X": supported values: "Allow", "Forbid", '
            '"Replace"',
        ),
        (
            cron(timeZone="Mars/X"),
            'spec.timeZone: Invalid value: "Mars/X": unknown time zone Mars/X',
        ),
        (
            manifest("v1", "ConfigMap", data={"a b": "c"}),
            'data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric '
            "characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex "
            "used for validation is '[-._a-zA-Z0-9]+')",
        ),
        (
            manifest("v1", "ConfigMap", data={"a": "x" * 2**20 + "y"}),
            ": Too long: may not be more than 1048576 bytes",
        ),
        (secret("kubernetes.io/tls"), "data[tls.crt]: Required value"),
        (
            quota(cows="1"),
            'spec.hard[cows]: Invalid value: "cows": must be a standard resource for quota',
        ),
        (
            limits(max={"cpu": "1"}, min={"cpu": "2"}),
            'spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
        ),
        (
            budget(minAvailable=1, maxUnavailable=1),
            'spec: Invalid value: {"minAvailable":1,"maxUnavailable":1}: minAvailable and '
            "maxUnavailable cannot be both set",
        ),
        (autoscaler(maxReplicas=0), "spec.maxReplicas: Invalid value: 0: must be greater than 0"),
        (
            autoscaler(minReplicas=5),
            "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
        ),
        (
            ingress(pathType=None),
            "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
        ),
        (
            ingress(path="x"),
            'spec.rules[0].http.paths[0].path: Invalid value: "x": must be an absolute path',
        ),
        (claim(), "spec.accessModes: Required value: at least 1 access mode is required"),
        (
            endpoint_slice(addressType="IPv4", endpoints=[{"addresses": ["nope"]}]),
            'endpoints[0].addresses[0]: Invalid value: "nope": must be a valid IP address, (e.g. '
            "10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            manifest(RBAC, "Role", rules=[{"apiGroups": [""], "resources": ["pods"]}]),
            "rules[0].verbs: Required value: verbs must contain at least one value",
        ),
        (
            manifest(RBAC, "Role", rules=[{"verbs": ["get"], "nonResourceURLs": ["/x"]}]),
            'rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to '
            "non-resource URLs",
        ),
        (
            manifest(RBAC, "ClusterRoleBinding", roleRef={"kind": "Role", "name": "r"}),
            'roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"',
        ),
        (
            manifest("scheduling.k8s.io/v1", "PriorityClass", value=2_000_000_000),
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
        (manifest("storage.k8s.io/v1", "StorageClass"), "provisioner: Required value"),
        (
            manifest("storage.k8s.io/v1", "CSIDriver", {"fsGroupPolicy": "X"}),
            'spec.fsGroupPolicy: Unsupported value: "X": supported values: "File", "None", '
            '"ReadWriteOnceWithFSType"',
        ),
        (
            manifest("storage.k8s.io/v1", "VolumeAttachment", {"attacher": "a.b", "nodeName": "n"}),
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and "
            "persistentVolumeName",
        ),
        (
            manifest("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", {}),
            "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
        ),
        (
            manifest(f"{ADMISSION}/v1", "ValidatingAdmissionPolicy", {"validations": [{}]}),
            "spec.validations[0].expression: Required value: expression is not specified",
        ),
        (
            manifest(
                "apiextensions.k8s.io/v1",
                "CustomResourceDefinition",
                {"group": "example.com", "names": {"plural": "foos", "kind": "Foo"}},
            ),
            'metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group',
        ),
        (
            manifest("v1", "Node", {"taints": [{"key": "a", "effect": "x"}]}),
            'metadata.taints[0].effect: Unsupported value: "x": supported values: "NoSchedule", '
            '"PreferNoSchedule", "NoExecute"',
        ),
    ],
)
def test_a_bad_object_is_refused_in_kubernetes_words(made: dict[str, Any], message: str) -> None:
    assert message in complaints(made)


def test_a_cron_job_leaves_room_for_the_names_of_its_jobs() -> None:
    made = cron()
    made["metadata"]["name"] = "a" * 53
    assert f'metadata.name: Invalid value: "{"a" * 53}": must be no more than 52 characters' in (
        complaints(made)
    )
