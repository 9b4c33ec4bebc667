"""Whatever a client sends: never a 500, never a hang, never a crash."""

from __future__ import annotations

import asyncio
import random
import string

import orjson

from tests.apiserver.api import ADMIN, Api
from tests.apiserver.conftest import Run

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "labels": {"a": "b"}, "annotations": {"x": "y"}, "finalizers": []},
    "spec": {
        "containers": [
            {
                "name": "c",
                "image": "i",
                "ports": [{"containerPort": 80}],
                "env": [{"name": "A", "value": "1"}],
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}},
            }
        ],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "tolerations": [{"key": "k", "operator": "Exists"}],
    },
}
JUNK: tuple[object, ...] = (
    None, True, -1, 0, 1 << 62, -(1 << 63), 1.5, 1e308, "", "x" * 5000, "\x00", "ä\U0001f600",
    "../..",
    [], {}, [None], [[]], {"": None}, [1, "a"], {"name": 1}, "9" * 400, "2026-01-01T00:00:00Z",
)  # fmt: skip
PATCHES = (
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",
)
KINDS = (
    ("/api/v1/namespaces/default/pods", "Pod"),
    ("/api/v1/namespaces/default/services", "Service"),
    ("/apis/apps/v1/namespaces/default/deployments", "Deployment"),
    ("/api/v1/namespaces/default/configmaps", "ConfigMap"),
    ("/api/v1/nodes", "Node"),
    ("/apis/rbac.authorization.k8s.io/v1/clusterroles", "ClusterRole"),
    ("/apis/batch/v1/namespaces/default/cronjobs", "CronJob"),
    ("/apis/policy/v1/namespaces/default/poddisruptionbudgets", "PodDisruptionBudget"),
    ("/apis/authorization.k8s.io/v1/subjectaccessreviews", "SubjectAccessReview"),
    ("/api/v1/namespaces/default/bindings", "Binding"),
)


def mutated(rng: random.Random, value: object, depth: int = 0) -> object:
    """The value with some of it replaced, dropped or doubled."""
    if rng.random() < 0.08:
        return rng.choice(JUNK)
    if isinstance(value, dict):
        changed = {k: mutated(rng, v, depth + 1) for k, v in value.items() if rng.random() > 0.05}
        if rng.random() < 0.05:
            changed[rng.choice(["x", "metadata", "spec", "status", "", "kind"])] = rng.choice(JUNK)
        return changed
    if isinstance(value, list):
        items = [mutated(rng, v, depth + 1) for v in value if rng.random() > 0.05]
        return items * 2 if rng.random() < 0.05 else items
    return value


def test_mutated_bodies_are_answered(run: Run) -> None:
    async def steps(api: Api) -> None:
        rng = random.Random(1)
        await api(
            "POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}}
        )
        for i in range(400):
            path, kind = rng.choice(KINDS)
            body = mutated(rng, {**POD, "kind": kind})
            if isinstance(body, dict) and rng.random() < 0.5:
                body.pop("apiVersion", None)
            answer = await api("POST", path, body)
            assert answer.status < 500, (path, body, answer.body)
            if i % 2:
                patch = rng.choice(PATCHES)
                answer = await api(
                    "PATCH", f"{path}/p?fieldManager=f", mutated(rng, body), content_type=patch
                )
                assert answer.status < 500, (path, patch, body, answer.body)
                answer = await api("PUT", f"{path}/p", mutated(rng, body))
                assert answer.status < 500, (path, body, answer.body)
            if i % 7 == 0:
                answer = await api("DELETE", f"{path}/p", mutated(rng, {"gracePeriodSeconds": 0}))
                assert answer.status < 500, (path, body, answer.body)

    run(steps)


def test_raw_bodies_are_answered(run: Run) -> None:
    async def steps(api: Api) -> None:
        deep = b"[" * 5000 + b"]" * 5000
        nested = b'{"metadata":' * 400 + b"{}" + b"}" * 400
        annotated = b'{"metadata":{"name":"n","annotations":{"a":' + deep + b"}}}"
        wide = orjson.dumps({"metadata": {"name": "x" * 1_000_000}})
        bodies = [
            b"", b"{", b"null", b"[]", b"1", b'"x"', b"\xff\xfe", b'{"metadata":{"name":"\xff"}}',
            deep,
            nested,
            annotated, wide, b'{"metadata":{"name":"a"},"data":{"a":"\\ud800"}}', b"\x00" * 100,
            b'{"metadata":{"name":"n"},"data":{"k":"' + b"9" * 500 + b'"}}', b'{"metadata":null}',
            b'{"metadata":{"generation":123456789012345678901234567890,"name":"n"}}',
            b'{"metadata":{"name":"n","name":"m"}}', b"k8s\x00\x0a\xff\xff\xff\xff", b"k8s\x00",
        ]  # fmt: skip
        types = (
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
            "x/y",
            "",
        )
        for body in bodies:
            for content_type in types:
                path = "/api/v1/namespaces/default/configmaps"
                answer = await api("POST", path, body, content_type=content_type)
                assert answer.status < 500, (content_type, body[:80], answer.body)
            for patch in PATCHES:
                answer = await api("PATCH", f"{path}/none", body, content_type=patch)
                assert answer.status < 500, (patch, body[:80], answer.body)
        bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n".encode()
            for i in range(9)
        )
        answer = await api("POST", path, bomb, content_type="application/yaml")
        assert answer.status == 400

    run(steps)


def test_odd_paths_and_queries_are_answered(run: Run) -> None:
    async def steps(api: Api) -> None:
        rng = random.Random(2)
        parts = [
            "api", "apis", "v1", "namespaces", "default", "pods", "status", "log", "exec", "",
            "..", "%2e", "%00", "%ff", "watch", "a" * 300, "apps", "deployments", "scale",
            "proxy", "finalize", "nodes", "kubestage.io", "flow", "batch", "openapi", "v3",
            "token", "binding", "eviction", "events.k8s.io", "events",
        ]  # fmt: skip
        names = [
            "limit", "continue", "resourceVersion", "resourceVersionMatch", "labelSelector",
            "fieldSelector", "timeoutSeconds", "dryRun", "fieldValidation", "fieldManager",
            "force", "pretty", "sendInitialEvents", "propagationPolicy", "gracePeriodSeconds",
            "container", "tailLines", "includeObject",
        ]  # fmt: skip
        values = [
            "",
            "0",
            "1",
            "-1",
            "x",
            "true",
            "9" * 30,
            "a=b",
            "a in (b",
            "%ff",
            "%00",
            "All",
            "metadata.name=x",
        ]
        accepts = [
            "",
            "*/*",
            "text/html",
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            ";;,=",
            "application/yaml",
        ]
        for _ in range(600):
            path = "/" + "/".join(rng.choice(parts) for _ in range(rng.randint(0, 8)))
            if rng.random() < 0.6:
                path = "/api/v1/namespaces/default/pods" + rng.choice(
                    ["", "/x", "/x/log", "/x/status"]
                )
            query = "&".join(
                f"{rng.choice(names)}={rng.choice(values)}" for _ in range(rng.randint(0, 4))
            )
            method = rng.choice(["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS"])
            target = f"{path.replace(' ', '%20')}?{query.replace(' ', '%20')}"
            answer = await api(method, target, headers={"Accept": rng.choice(accepts)})
            assert answer.status < 500 or answer.status in (501, 503, 504), (
                method,
                target,
                answer.body,
            )

    run(steps)


def test_half_requests_and_garbage_close_only_their_own_connection(run: Run) -> None:
    async def steps(api: Api) -> None:
        rng = random.Random(3)
        for _ in range(60):
            reader, writer = await api.connect()
            if rng.random() < 0.5:
                junk = "".join(rng.choices(string.printable, k=rng.randint(1, 400))).encode()
            else:
                whole = (
                    b"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\n"
                    b"Authorization: Bearer " + ADMIN.encode() + b"\r\nContent-Length: 50\r\n\r\n{}"
                )
                junk = whole[: rng.randint(1, len(whole))]
            writer.write(junk)
            writer.write_eof()
            data = await asyncio.wait_for(reader.read(), 10)
            assert b" 500 " not in data[:20]
            writer.close()
        assert (await api("GET", "/healthz")).body == b"ok"

    run(steps)
