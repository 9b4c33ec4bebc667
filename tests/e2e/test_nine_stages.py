"""One pod's way through all nine stages, each looked at where it happens."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from pathlib import Path

import pytest

from actors import paths

from .conftest import Cluster

pytestmark = [pytest.mark.root, pytest.mark.ray]
CURL = "curl -s --max-time 3 --retry 8 --retry-connrefused --retry-all-errors --retry-delay 1"


def curl(address: str) -> str:
    return subprocess.run(
        [*CURL.split(), address], capture_output=True, text=True, check=True
    ).stdout


def test_a_pod_travels_all_nine_stages(cluster: Cluster, namespace: str) -> None:
    k, n = cluster, f"-n {namespace}"
    k.out(f"run nginx --image=nginx --port=80 {n}")
    k.out(f"wait --for=condition=Ready pod/nginx --timeout=30s {n}")
    pod = k.get(f"pod nginx {n}")
    status = pod["status"]
    # 2: admission gave it a service account, its token's volume and the default tolerations.
    assert pod["spec"]["serviceAccountName"] == "default"
    assert any(v["name"].startswith("kube-api-access-") for v in pod["spec"]["volumes"])
    keys = {t["key"] for t in pod["spec"]["tolerations"]}
    assert {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"} <= keys
    # 4: bound to a node that exists; 6: an address out of that node's range.
    node = k.get(f"node {pod['spec']['nodeName']}")
    assert ipaddress.ip_address(status["podIP"]) in ipaddress.ip_network(node["spec"]["podCIDR"])
    # 7: status as the kubelet writes it.
    container = status["containerStatuses"][0]
    assert container["containerID"].partition("://")[2].isalnum()
    assert container["ready"] and container["started"] and container["restartCount"] == 0
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    assert conditions.items() >= {
        "PodScheduled": "True", "Initialized": "True", "ContainersReady": "True", "Ready": "True",
        "PodReadyToStartContainers": "True",
    }.items()  # fmt: skip
    reasons = {e["reason"] for e in k.get(f"events {n}")["items"]}
    assert {"Scheduled", "Pulled", "Created", "Started"} <= reasons
    # 8: by address from the host, by name from a pod on another node.
    k.out(f"expose pod nginx --port=80 {n}")
    assert "nginx" in curl(f"http://{status['podIP']}")
    service = k.get(f"service nginx {n}")
    assert "nginx" in curl(f"http://{service['spec']['clusterIP']}")
    k.run_ready("client", "curlimages/curl", "--overrides",
                json.dumps({"spec": {"affinity": _elsewhere(pod["spec"]["nodeName"])}}),
                "--command", "--", "sleep", "3600", namespace=namespace)  # fmt: skip
    assert k.get(f"pod client {n}")["spec"]["nodeName"] != pod["spec"]["nodeName"]
    for name in ("nginx", f"nginx.{namespace}.svc", f"nginx.{namespace}.svc.cluster.local"):
        answer = k.out(f"exec client {n} -- {CURL} http://{name}")
        assert "nginx" in answer
    # 9 and the measured way.
    assert k.out(f"get pod nginx {n}").splitlines()[1].split()[:3] == ["nginx", "1/1", "Running"]
    flow = json.loads(k.kubestage("flow", f"{namespace}/nginx", "-o", "json").stdout)
    numbers = {stage["number"] for stage in flow["stages"]}
    assert numbers == set(range(1, 10)), flow


def _elsewhere(node: str) -> dict[str, object]:
    expression = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node]}
    terms = [{"matchExpressions": [expression]}]
    return {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}
    }}  # fmt: skip


def test_node_port_answers_on_every_node_address(cluster: Cluster, namespace: str) -> None:
    k, n = cluster, f"-n {namespace}"
    k.run_ready("nginx", "nginx", "--port=80", namespace=namespace)
    k.out(f"expose pod nginx --type=NodePort --port=80 {n}")
    port = k.get(f"service nginx {n}")["spec"]["ports"][0]["nodePort"]
    for node in k.get("nodes")["items"][:3]:
        address = next(
            a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"
        )
        assert "nginx" in curl(f"http://{address}:{port}")


def test_a_headless_service_resolves_to_its_pods(cluster: Cluster, namespace: str) -> None:
    k, n = cluster, f"-n {namespace}"
    k.out(f"create deployment web --image=nginx --replicas=3 {n}")
    k.out(f"rollout status deployment/web --timeout=30s {n}")
    k.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 80}]},
    }))  # fmt: skip
    k.run_ready("client", "busybox", "--command", "--", "sleep", "3600",
                namespace=namespace)  # fmt: skip
    ips = {p["status"]["podIP"] for p in k.get(f"pods -l app=web {n}")["items"]}
    lookup = "import socket;print(*{a[4][0] for a in socket.getaddrinfo('web',80)})"
    for _ in range(20):
        found = k.kubectl("exec", "client", "-n", namespace, "--", "python3", "-c", lookup,
                          check=False).stdout.split()  # fmt: skip
        if set(found) == ips:
            return
    raise AssertionError(f"{found} instead of {ips}")


def test_config_maps_secrets_and_tokens_are_files_in_the_pod(
    cluster: Cluster, namespace: str
) -> None:
    k, n = cluster, f"-n {namespace}"
    k.out(f"create configmap c --from-literal=greeting=hello {n}")
    k.out(f"create secret generic s --from-literal=word=xyzzy {n}")
    volumes = [
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "s", "secret": {"secretName": "s"}},
        {"name": "e", "emptyDir": {}},
        {"name": "d", "downwardAPI": {"items": [
            {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]  # fmt: skip
    mounts = [{"name": v["name"], "mountPath": f"/mnt/{v['name']}"} for v in volumes]
    k.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "box"},
        "spec": {"volumes": volumes, "containers": [{
            "name": "box", "image": "busybox", "command": ["sleep", "3600"],
            "volumeMounts": mounts}]},
    }))  # fmt: skip
    k.out(f"wait --for=condition=Ready pod/box --timeout=30s {n}")
    read = f"exec box {n} -- cat"
    assert k.out(f"{read} /mnt/c/greeting") == "hello"
    assert k.out(f"{read} /mnt/s/word") == "xyzzy"
    assert k.out(f"{read} /mnt/d/name") == "box"
    account = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert k.out(f"{read} {account}/token").count(".") == 2
    assert k.out(f"{read} {account}/namespace") == namespace
    # The token opens the API from inside the pod, with the account's rights and no more.
    url = "https://kubernetes.default.svc/api"
    script = (
        f'curl -s --cacert {account}/ca.crt -H "Authorization: Bearer $(cat {account}/token)" {url}'
    )
    answer = k.kubectl("exec", "box", "-n", namespace, "--", "sh", "-c", script).stdout
    assert json.loads(answer)["kind"] == "APIVersions"
    forbidden = k.kubectl("exec", "box", "-n", namespace, "--", "sh", "-c",
                          f"{script}/v1/namespaces/{namespace}/secrets").stdout  # fmt: skip
    assert json.loads(forbidden)["reason"] == "Forbidden"
    k.out(f"exec box {n} -- touch /mnt/e/written")
    # What a command writes stays in the pod: the host's files are out of reach.
    k.kubectl("exec", "box", "-n", namespace, "--", "touch", "/etc/written", check=False)
    assert not Path("/etc/written").exists()


def test_containers_end_restart_and_back_off(cluster: Cluster, namespace: str) -> None:
    k, n = cluster, f"-n {namespace}"
    k.out(f"run done --image=busybox --restart=Never {n} --command -- true")
    k.wait_for(f"get pod done {n} -o jsonpath={{.status.phase}}", "Succeeded")
    k.kubectl("run", "bad", "--image=busybox", "--restart=Never", "-n", namespace, "--command",
              "--", "sh", "-c", "exit 3")  # fmt: skip
    k.wait_for(f"get pod bad {n} -o jsonpath={{.status.phase}}", "Failed")
    code = "{.status.containerStatuses[0].state.terminated.exitCode}"
    assert k.out(f"get pod bad {n} -o jsonpath={code}") == "3"
    k.kubectl("run", "crash", "--image=busybox", "-n", namespace, "--command", "--", "false")
    waiting = "{.status.containerStatuses[0].state.waiting.reason}"
    k.wait_for(f"get pod crash {n} -o jsonpath={waiting}", "CrashLoopBackOff")
    row = k.out(f"get pod crash {n}").splitlines()[1].split()
    assert row[1] == "0/1" and row[2] in ("CrashLoopBackOff", "Error")


def test_probes_connect_to_the_pod(cluster: Cluster, namespace: str) -> None:
    k, n = cluster, f"-n {namespace}"
    probe = {"httpGet": {"path": "/", "port": 81}, "periodSeconds": 1}
    k.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "deaf"},
        "spec": {"containers": [{"name": "web", "image": "nginx", "readinessProbe": probe}]},
    }))  # fmt: skip
    k.wait_for(f"get pod deaf {n} -o jsonpath={{.status.phase}}", "Running")
    for _ in range(100):
        events = [e for e in k.get(f"events {n}")["items"] if e["reason"] == "Unhealthy"]
        if events:
            break
    assert "Readiness probe failed" in events[0]["message"]
    assert "connection refused" in events[0]["message"]
    assert k.out(f"get pod deaf {n}").splitlines()[1].split()[1] == "0/1"


def test_unschedulable_pods_wait_and_say_why(cluster: Cluster, namespace: str) -> None:
    k, n = cluster, f"-n {namespace}"
    override = json.dumps({"spec": {"nodeSelector": {"disk": "ssd"}}})
    k.kubectl("run", "picky", "--image=nginx", "-n", namespace, "--overrides", override)
    message = "{.status.conditions[?(@.type=='PodScheduled')].message}"
    wanted = (
        "0/6 nodes are available: 6 node(s) didn't match Pod's node affinity/selector. "
        "preemption: 0/6 nodes are available: 6 Preemption is not helpful for scheduling."
    )
    for _ in range(100):
        found = k.out(f"get pod picky {n} -o jsonpath={message}")
        if found:
            break
    assert found.rstrip(".") == wanted.rstrip(".")
    k.out("label node node-2 disk=ssd")
    try:
        k.out(f"wait --for=condition=Ready pod/picky --timeout=20s {n}")
        assert k.get(f"pod picky {n}")["spec"]["nodeName"] == "node-2"
    finally:
        k.out("label node node-2 disk-")


def test_the_cni_list_and_private_files(cluster: Cluster) -> None:
    assert cluster.kubeconfig.stat().st_mode & 0o777 == 0o600
    run_dir = paths.run_dir(cluster.name)
    lists = [json.loads(p.read_text()) for p in run_dir.glob("hosts/*/net.d/*.conflist")]
    assert lists and lists[0]["cniVersion"] and lists[0]["plugins"]
    loose = [p for p in run_dir.rglob("*.key") if p.stat().st_mode & 0o077]
    assert not loose and not Path(run_dir).stat().st_mode & 0o077
