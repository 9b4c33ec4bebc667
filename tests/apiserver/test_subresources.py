"""status, scale, binding, eviction, token and the reviews."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.api import NOBODY, Api
from tests.apiserver.conftest import Run
from tests.apiserver.test_list_watch import bind

SPEC = {"containers": [{"name": "c", "image": "i"}]}
DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "d"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "d"}},
        "template": {"metadata": {"labels": {"app": "d"}}, "spec": SPEC},
    },
}


def test_status_and_spec_are_changed_apart(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        pod = await api.ok("POST", f"{ns}/pods", {"metadata": {"name": "p"}, "spec": SPEC})
        pod["status"] = {"phase": "Running"}
        pod["metadata"]["labels"] = {"not": "this-way"}
        after = await api.ok("PUT", f"{ns}/pods/p/status", pod)
        assert after["status"]["phase"] == "Running"
        assert "image" in after["spec"]["containers"][0]
        after["status"] = {"phase": "Failed"}
        again = await api.ok("PUT", f"{ns}/pods/p", after)
        assert again["status"]["phase"] == "Running"

    run(steps)


def test_scale_is_read_and_written(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        base = f"/apis/apps/v1/namespaces/{ns.rpartition('/')[2]}/deployments"
        await api.ok("POST", base, DEPLOYMENT)
        scale = await api.ok("GET", f"{base}/d/scale")
        assert (scale["kind"], scale["spec"]) == ("Scale", {"replicas": 2})
        assert scale["status"]["selector"] == "app=d"
        scale["spec"]["replicas"] = 5
        assert (await api.ok("PUT", f"{base}/d/scale", scale))["spec"] == {"replicas": 5}
        patched = await api.ok(
            "PATCH", f"{base}/d/scale", {"spec": {"replicas": 7}},
            content_type="application/merge-patch+json",
        )  # fmt: skip
        assert patched["spec"]["replicas"] == 7
        deployment = await api.ok("GET", f"{base}/d")
        assert deployment["spec"]["replicas"] == 7
        assert deployment["metadata"]["generation"] == 3
        stale = await api("PUT", f"{base}/d/scale", scale)
        assert stale.status == 409

    run(steps)


def test_a_pod_is_bound_once(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        await api.ok("POST", f"{ns}/pods", {"metadata": {"name": "p"}, "spec": SPEC})
        await bind(api, ns, "p", "n1")
        pod = await api.ok("GET", f"{ns}/pods/p")
        assert pod["spec"]["nodeName"] == "n1"
        (condition,) = pod["status"]["conditions"]
        assert (condition["type"], condition["status"]) == ("PodScheduled", "True")
        again = await api(
            "POST", f"{ns}/pods/p/binding", {"target": {"kind": "Node", "name": "n2"}}
        )
        assert again.message == (
            'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned '
            'to node "n1"'
        )
        wrong = await api("POST", f"{ns}/pods/p/binding", {"target": {"kind": "Pod"}})
        assert wrong.status == 422

    run(steps)


def test_an_eviction_respects_the_disruption_budget(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        budgets = f"/apis/policy/v1/namespaces/{ns.rpartition('/')[2]}/poddisruptionbudgets"
        pod = {"metadata": {"name": "p", "labels": {"app": "p"}}, "spec": SPEC}
        made = await api.ok("POST", f"{ns}/pods", pod)
        made["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        await api.ok("PUT", f"{ns}/pods/p/status", made)
        budget = await api.ok(
            "POST", budgets,
            {
                "metadata": {"name": "b"},
                "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "p"}}},
            },
        )  # fmt: skip
        status = {
            "observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1,
            "desiredHealthy": 1, "expectedPods": 1,
        }  # fmt: skip
        budget["status"] = status
        budget = await api.ok("PUT", f"{budgets}/b/status", budget)
        refused = await api("POST", f"{ns}/pods/p/eviction", {"metadata": {"name": "p"}})
        assert refused.status == 429
        assert refused.message == (
            "Cannot evict pod as it would violate the pod's disruption budget."
        )
        assert refused.json["details"]["causes"] == [
            {
                "reason": "DisruptionBudget",
                "message": "The disruption budget b needs 1 healthy pods and has 1 currently",
            }
        ]
        budget["status"]["disruptionsAllowed"] = 1
        await api.ok("PUT", f"{budgets}/b/status", budget)
        await api.ok("POST", f"{ns}/pods/p/eviction", {"metadata": {"name": "p"}})
        assert (await api("GET", f"{ns}/pods/p")).status == 404
        assert (await api.ok("GET", f"{budgets}/b"))["status"]["disruptionsAllowed"] == 0

    run(steps)


def test_reviews_answer_what_the_authorizer_says(run: Run) -> None:
    async def steps(api: Api) -> None:
        base = "/apis/authorization.k8s.io/v1"
        spec = {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}
        mine = await api("POST", f"{base}/selfsubjectaccessreviews", {"spec": spec})
        assert (mine.status, mine.json["status"]["allowed"]) == (201, True)
        other = await api.ok(
            "POST", f"{base}/subjectaccessreviews", {"spec": {**spec, "user": "nobody"}}
        )
        assert other["status"]["allowed"] is False
        who = await api.ok(
            "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, token=NOBODY
        )
        assert who["status"]["userInfo"]["username"] == "nobody"
        bad = await api("POST", f"{base}/selfsubjectaccessreviews", {"spec": {}})
        assert bad.status == 422

    run(steps)


@pytest.fixture(scope="module")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path_factory.mktemp("key") / "sa.key"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_a_token_request_gives_a_token_that_authenticates(
    signing_key: Path, tmp_path: Path
) -> None:
    import asyncio

    from tests.apiserver.api import running

    async def steps() -> None:
        async with running(tmp_path, service_account_key=str(signing_key)) as api:
            ns = await api.namespace()
            made = await api("POST", f"{ns}/serviceaccounts/default/token", {"spec": {}})
            assert made.status == 201
            token = made.json["status"]["token"]
            who = await api.ok(
                "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, token=token
            )
            name = f"system:serviceaccount:{ns.rpartition('/')[2]}:default"
            assert who["status"]["userInfo"]["username"] == name
            short = {"spec": {"expirationSeconds": 10}}
            refused = await api("POST", f"{ns}/serviceaccounts/default/token", short)
            assert refused.status == 422
            keys = await api.ok("GET", "/openid/v1/jwks")
            assert len(keys["keys"]) == 1

    asyncio.run(steps())


def test_services_get_addresses_and_ports_and_give_them_back(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        ports = [{"port": 80}]
        body = {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": ports}}
        made = await api.ok("POST", f"{ns}/services", body)
        address, port = made["spec"]["clusterIP"], made["spec"]["ports"][0]["nodePort"]
        assert address.startswith("10.96.") and made["spec"]["clusterIPs"] == [address]
        assert 30000 <= port <= 32767
        taken = {"metadata": {"name": "t"}, "spec": {"clusterIP": address, "ports": ports}}
        refused = await api("POST", f"{ns}/services", taken)
        assert refused.message == (
            f'Service "t" is invalid: spec.clusterIPs: Invalid value: ["{address}"]: failed to '
            f"allocate IP {address}: provided IP is already allocated"
        )
        taken = {
            "metadata": {"name": "t"},
            "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]},
        }
        refused = await api("POST", f"{ns}/services", taken)
        assert refused.message.endswith(
            f"Invalid value: {port}: provided port is already allocated"
        )
        await api.ok("DELETE", f"{ns}/services/s")
        assert (await api("POST", f"{ns}/services", taken)).status == 201
        headless = {"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": ports}}
        assert (await api.ok("POST", f"{ns}/services", headless))["spec"]["clusterIP"] == "None"

    run(steps)
