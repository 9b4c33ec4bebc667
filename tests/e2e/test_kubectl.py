"""Unmodified kubectl, the machine's and the newest: every subcommand of the first stage."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import yaml

from .conftest import BIN, Cluster

pytestmark = [pytest.mark.root, pytest.mark.ray]

BINARIES = [b for b in (shutil.which("kubectl"), str(BIN / "kubectl")) if b]
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: nginx, ports: [{containerPort: 80}]}
"""


@pytest.fixture(
    params=sorted(set(BINARIES)), ids=lambda b: "venv" if b.startswith(str(BIN)) else "machine"
)
def k(request: pytest.FixtureRequest, cluster: Cluster, namespace: str) -> Iterator[Cluster]:
    """kubectl of one version, in a namespace of the test's own."""
    cluster.kubectl("config", "set-context", "--current", f"--namespace={namespace}")
    before, cluster.binary = cluster.binary, request.param
    yield cluster
    cluster.binary = before
    cluster.kubectl("config", "set-context", "--current", "--namespace=default")


def test_run_get_describe_delete(k: Cluster, namespace: str) -> None:
    k.run_ready("nginx", "nginx", "--labels=app=nginx,tier=web")
    line = k.out("get pods").splitlines()[1].split()
    assert line[:4] == ["nginx", "1/1", "Running", "0"]
    wide = k.out("get pods -o wide").splitlines()
    assert wide[0].split()[5:7] == ["IP", "NODE"]
    pod = k.get("pod nginx")
    assert pod["status"]["podIP"] in wide[1] and pod["spec"]["nodeName"] in wide[1]
    assert k.out("get pod nginx -o name") == "pod/nginx"
    assert k.out("get pod nginx -o jsonpath={.status.phase}") == "Running"
    assert yaml.safe_load(k.out("get pod nginx -o yaml"))["kind"] == "Pod"
    assert "nginx" in k.out("get pods -A") and namespace in k.out("get pods -A")
    assert k.out("get pods -l tier=web -o name") == "pod/nginx"
    assert k.out("get pods -l tier!=web -o name") == ""
    assert k.out("get pods --field-selector status.phase=Running -o name") == "pod/nginx"
    assert k.out("get pods --field-selector status.phase=Failed -o name") == ""
    text = k.out("describe pod nginx")
    for words in ("Successfully assigned", "Pulled", "Created", "Started", "Ready", "Node:"):
        assert words in text, f"{words} is missing:\n{text}"
    assert k.out("delete pod nginx").startswith('pod "nginx" deleted')
    assert k.kubectl("get", "pod", "nginx", check=False).stderr.strip() == (
        'Error from server (NotFound): pods "nginx" not found'
    )


def test_get_watch_prints_changes(k: Cluster) -> None:
    k.run_ready("nginx", "nginx")
    done = k.kubectl("get", "pods", "-w", "--request-timeout=2s", check=False)
    assert "nginx" in done.stdout


def test_create_apply_and_server_side_apply(k: Cluster) -> None:
    assert k.kubectl("create", "-f", "-", stdin=DEPLOYMENT).stdout.strip() == (
        "deployment.apps/web created"
    )
    again = k.kubectl("create", "-f", "-", stdin=DEPLOYMENT, check=False)
    assert 'deployments.apps "web" already exists' in again.stderr
    k.kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    more = DEPLOYMENT.replace("replicas: 2", "replicas: 3")
    assert "configured" in k.kubectl("apply", "-f", "-", stdin=more).stdout
    assert "unchanged" in k.kubectl("apply", "-f", "-", stdin=more).stdout
    k.out("rollout status deployment/web --timeout=30s")
    applied = k.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=more)
    assert "serverside-applied" in applied.stdout
    managers = {
        m["manager"]
        for m in k.get("deployment web --show-managed-fields")["metadata"]["managedFields"]
    }
    assert "kubectl" in managers
    other = more.replace("replicas: 3", "replicas: 4")
    refused = k.kubectl(
        "apply", "--server-side", "--field-manager=other", "-f", "-", stdin=other, check=False
    )
    assert "conflict" in refused.stderr and ".spec.replicas" in refused.stderr
    assert k.kubectl("diff", "-f", "-", stdin=other, check=False).returncode == 1
    assert "deleted" in k.kubectl("delete", "-f", "-", stdin=DEPLOYMENT).stdout


def test_server_side_apply_of_a_new_object_does_not_conflict_with_itself(k: Cluster) -> None:
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n"
    for text in (manifest, manifest.replace("'1'", "'2'")):
        k.kubectl("apply", "--server-side", "-f", "-", stdin=text)
    found = k.get("configmap c --show-managed-fields")
    assert found["data"] == {"a": "2"}
    managed = found["metadata"]["managedFields"]
    assert [(m["manager"], m["operation"]) for m in managed] == [("kubectl", "Apply")]


def test_label_annotate_patch_edit_and_replace(k: Cluster) -> None:
    k.out("create configmap c --from-literal=a=1")
    k.out("label configmap c x=y")
    k.out("annotate configmap c note=hello")
    k.kubectl("patch", "configmap", "c", "--type=merge", "-p", '{"data":{"b":"2"}}')
    k.kubectl("patch", "configmap", "c", "--type=json", "-p",
              '[{"op":"replace","path":"/data/a","value":"9"}]')  # fmt: skip
    k.kubectl("patch", "configmap", "c", "-p", '{"data":{"d":"4"}}')
    found = k.get("configmap c")
    assert found["data"] == {"a": "9", "b": "2", "d": "4"}
    assert found["metadata"]["labels"] == {"x": "y"}
    assert found["metadata"]["annotations"]["note"] == "hello"
    conflict = k.kubectl("label", "configmap", "c", "x=z", check=False)
    assert "already has a value (y)" in conflict.stderr
    edited = k.environment | {"KUBE_EDITOR": "sed -i s/hello/goodbye/"}
    import subprocess

    subprocess.run([k.binary, "edit", "configmap", "c"], env=edited, check=True,
                   capture_output=True)  # fmt: skip
    assert k.get("configmap c")["metadata"]["annotations"]["note"] == "goodbye"
    k.out("label configmap c x-")
    assert "labels" not in k.get("configmap c")["metadata"]


def test_scale_rollout_and_undo(k: Cluster) -> None:
    k.kubectl("create", "-f", "-", stdin=DEPLOYMENT)
    assert "successfully rolled out" in k.out("rollout status deployment/web --timeout=30s")
    k.out("scale deployment web --replicas=4")
    k.out("rollout status deployment/web --timeout=30s")
    assert k.get("deployment web")["status"]["readyReplicas"] == 4
    k.out("set image deployment/web web=httpd")
    k.out("rollout status deployment/web --timeout=60s")
    assert k.out("rollout history deployment/web").count("<none>") == 2
    k.out("rollout undo deployment/web")
    k.out("rollout status deployment/web --timeout=60s")
    image = "get deployment web -o jsonpath={.spec.template.spec.containers[0].image}"
    assert k.out(image) == "nginx"
    k.out("rollout restart deployment/web")
    k.out("rollout status deployment/web --timeout=60s")
    assert len(k.get("replicasets")["items"]) == 3


def test_create_subcommands_and_expose(k: Cluster) -> None:
    assert k.out("create deployment d --image=nginx --replicas=1") == "deployment.apps/d created"
    assert k.out("expose deployment d --port=80") == "service/d exposed"
    assert k.out("create secret generic s --from-literal=p=q") == "secret/s created"
    assert k.out("create service nodeport n --tcp=80:80") == "service/n created"
    assert k.out("create service clusterip h --clusterip=None") == "service/h created"
    assert k.out("create serviceaccount robot") == "serviceaccount/robot created"
    assert k.out("create role r --verb=get --resource=pods").endswith("/r created")
    assert k.out("create quota q --hard=pods=5") == "resourcequota/q created"
    ports = k.get("service n")["spec"]["ports"][0]
    assert 30000 <= ports["nodePort"] <= 32767
    assert k.get("service d")["spec"]["clusterIP"].startswith("10.")
    assert k.get("service h")["spec"]["clusterIP"] == "None"
    assert "token" not in k.get("secret s")["data"]
    assert k.out("create token robot").count(".") == 2


def test_explain_api_resources_versions_and_cluster_info(k: Cluster) -> None:
    text = k.out("explain pod.spec.containers.image")
    assert "FIELD: image" in text and "string" in text
    assert "RESTARTPOLICY" in k.out("explain pod.spec").upper()
    names = k.out("api-resources -o name").split()
    assert {"pods", "deployments.apps", "endpointslices.discovery.k8s.io"} <= set(names)
    assert "po" in k.out("api-resources --api-group=").split()
    assert "apps/v1" in k.out("api-versions").split()
    assert "Server Version: v1." in k.out("version")
    assert "is running at" in k.out("cluster-info")


def test_events_logs_and_exec(k: Cluster) -> None:
    k.run_ready("box", "busybox", "--command", "--", "sh", "-c", "echo hello; sleep 3600")
    assert k.out("logs box") == "hello"
    assert "Started" in k.out("events --for pod/box")
    assert k.out("exec box -- echo from inside") == "from inside"
    failed = k.kubectl("exec", "box", "--", "sh", "-c", "exit 7", check=False)
    assert failed.returncode == 7
    piped = k.kubectl("exec", "-i", "box", "--", "cat", stdin="through and through")
    assert piped.stdout == "through and through"
    assert k.out("exec box -- hostname") == "box"


def test_wait_for_deletion_and_conditions(k: Cluster) -> None:
    k.run_ready("nginx", "nginx")
    k.out("delete pod nginx --wait=false")
    k.out("wait --for=delete pod/nginx --timeout=40s")
    late = k.kubectl("wait", "--for=condition=Ready", "pod/none", "--timeout=1s", check=False)
    assert "not found" in late.stderr


def test_auth_can_i_and_whoami(k: Cluster) -> None:
    assert k.out("auth can-i create deployments") == "yes"
    robot = "--as=system:serviceaccount:default:robot"
    assert k.kubectl("auth", "can-i", "list", "secrets", robot, check=False).stdout.strip() == "no"
    assert "kubernetes-admin" in k.out("auth whoami")


def test_cordon_drain_taint_and_top(k: Cluster) -> None:
    k.out("cordon node-5")
    assert "SchedulingDisabled" in k.out("get node node-5")
    k.out("uncordon node-5")
    k.out("taint node node-5 test=1:NoSchedule")
    assert "test=1:NoSchedule" in k.out("describe node node-5")
    k.out("taint node node-5 test-")
    k.kubectl("create", "-f", "-", stdin=DEPLOYMENT)
    k.out("rollout status deployment/web --timeout=30s")
    try:
        drained = k.out("drain node-5 --ignore-daemonsets --force --delete-emptydir-data")
        assert "drained" in drained
        k.out("rollout status deployment/web --timeout=30s")
        nodes = k.out("get pods -o jsonpath={.items[*].spec.nodeName}").split()
        assert "node-5" not in nodes
    finally:
        k.out("uncordon node-5")
    assert "etrics" in k.kubectl("top", "nodes", check=False).stderr


def test_proxy_free_raw_reads(k: Cluster) -> None:
    assert k.out("get --raw /readyz") == "ok"
    assert k.out("get --raw /livez?verbose").endswith("livez check passed")
