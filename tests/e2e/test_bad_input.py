"""Bad input gets a clear answer and loses nothing."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from .conftest import BIN, Cluster, free_port

pytestmark = [pytest.mark.root, pytest.mark.ray]


def server(cluster: Cluster) -> str:
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    return str(config["clusters"][0]["cluster"]["server"])


def request(
    cluster: Cluster, path: str, *, body: bytes | None = None, token: str = ""
) -> tuple[int, dict[str, object]]:
    """A request without a client certificate."""
    context = ssl._create_unverified_context()
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    made = urllib.request.Request(server(cluster) + path, data=body, headers=headers)
    try:
        with urllib.request.urlopen(made, context=context, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_no_token_and_a_wrong_token_are_unauthorized(cluster: Cluster) -> None:
    for token in ("", "nonsense", "a.b.c"):
        code, answer = request(cluster, "/api/v1/pods", token=token)
        if token:
            assert (code, answer["reason"], answer["message"]) == (
                401, "Unauthorized", "Unauthorized",
            )  # fmt: skip
        else:
            assert code in (401, 403)


def test_a_token_without_rights_is_forbidden_in_rbacs_words(cluster: Cluster) -> None:
    token = cluster.out("create token default")
    code, answer = request(cluster, "/api/v1/namespaces/default/secrets", token=token)
    assert code == 403
    assert answer["message"] == (
        'secrets is forbidden: User "system:serviceaccount:default:default" cannot list resource '
        '"secrets" in API group "" in the namespace "default"'
    )


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({"metadata": {"name": "Bad_Name"}}, "a lowercase RFC 1123 subdomain must consist of"),
        (
            {"metadata": {"name": "x"}, "spec": {"containers": []}},
            "spec.containers: Required value",
        ),
        (
            {"metadata": {"name": "x"}, "spec": {"containers": [
                {"name": "a", "image": "b", "foo": 1}]}},
            'unknown field "spec.containers[0].foo"',
        ),
        (
            {"metadata": {"name": "x"}, "spec": {"containers": "none"}},
            "cannot unmarshal string into Go",
        ),
        (
            {"metadata": {"name": "x"}, "spec": {"containers": [
                {"name": "a", "image": "b", "ports": [{"containerPort": 99999}]}]}},
            "must be between 1 and 65535, inclusive",
        ),
        (
            {"metadata": {"name": "x"}, "spec": {"containers": [
                {"name": "a", "image": "b", "resources": {"requests": {"cpu": "lots"}}}]}},
            "quantities must match the regular expression",
        ),
    ],
)  # fmt: skip
def test_an_invalid_manifest_is_refused_in_upstreams_words(
    cluster: Cluster, manifest: dict[str, object], words: str
) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "a", "image": "b"}]}}
    done = cluster.kubectl("create", "--validate=strict", "-f", "-",
                           stdin=json.dumps(pod | manifest), check=False)  # fmt: skip
    assert done.returncode == 1 and words in done.stderr, done.stderr


def test_an_immutable_field_stays(cluster: Cluster, namespace: str) -> None:
    cluster.out(f"create deployment d --image=nginx --replicas=0 -n {namespace}")
    patch = '{"spec":{"selector":{"matchLabels":{"app":"other"}}}}'
    done = cluster.kubectl("patch", "deployment", "d", "-n", namespace, "-p", patch, check=False)
    assert "field is immutable" in done.stderr


def test_a_body_over_the_limit_is_413(cluster: Cluster) -> None:
    token = cluster.out("create token default")
    body = b'{"data":"' + b"x" * (4 << 20) + b'"}'
    code, answer = request(cluster, "/api/v1/namespaces/default/configmaps", body=body, token=token)
    assert (code, answer["reason"]) == (413, "RequestEntityTooLarge")


def test_garbage_on_the_port_harms_nobody(cluster: Cluster) -> None:
    port = int(server(cluster).rpartition(":")[2])
    for garbage in (b"\x00" * 64, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 500):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.sendall(garbage)
            sock.settimeout(5)
            try:
                sock.recv(100)
            except (TimeoutError, ConnectionResetError):
                pass
    assert cluster.out("get --raw /readyz") == "ok"


def kubestage(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "kubestage"), *argv], capture_output=True, text=True, check=False, timeout=60
    )


def test_a_second_up_of_the_same_name_joins_or_says_what_differs(cluster: Cluster) -> None:
    port = server(cluster).rpartition(":")[2]
    same = cluster.kubestage(
        "up", "--nodes", "6", "--port", port, "--kubeconfig", str(cluster.kubeconfig)
    )
    assert "is ready" in same.stdout
    other = cluster.kubestage("up", "--nodes", "7", "--port", port, check=False)
    assert other.returncode == 1
    assert "exists with other settings (nodes is 6, not 7)" in other.stderr


def test_a_taken_port_is_refused_before_anything_starts(cluster: Cluster, tmp_path: Path) -> None:
    port = server(cluster).rpartition(":")[2]
    done = kubestage("up", "--name", "late", "--port", port)
    assert done.returncode == 1 and f"port {port} is taken" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_ray_address_that_does_not_answer(tmp_path: Path) -> None:
    done = kubestage(
        "up", "--name", "nowhere", "--ray-address", f"127.0.0.1:{free_port()}",
        "--port", str(free_port()), "--kubeconfig", str(tmp_path / "k"),
    )  # fmt: skip
    assert done.returncode == 1 and "does not answer" in done.stderr
    assert kubestage("down", "--name", "nowhere").returncode == 0


def test_without_root_real_networks_are_refused_with_the_way_out(tmp_path: Path) -> None:
    script = (
        "import os; os.setuid(65534)\n"
        "from actors.configuration import ClusterConfiguration\n"
        "from actors.up import refuse_impossible\n"
        "refuse_impossible(ClusterConfiguration(port=1))"
    )
    # The interpreter may live where nobody else may read: ask as root, with the answer faked off.
    script = script.replace("import os; os.setuid(65534)", "import os; os.geteuid = lambda: 65534")
    done = subprocess.run([str(BIN / "python"), "-c", script], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert "run as root, or use --network none" in done.stderr


def test_an_unknown_cluster_is_named(tmp_path: Path) -> None:
    for command in (["down"], ["status"], ["flow", "default/x"], ["logs", "kubelet-0"]):
        done = kubestage(*command, "--name", "nobody")
        assert done.returncode == 1
        assert "no cluster 'nobody' on this machine" in done.stderr
