"""Webhooks over real HTTPS, with certificates of a CA of the test's own."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cluster.api.errors import BadRequest, InternalError, NotEmulated, StatusError
from cluster.api.meta import (
    CONFIGMAPS,
    NAMESPACES,
    PODS,
    SERVICEACCOUNTS,
    SERVICES,
    Object,
    SystemClock,
)
from cluster.apiserver.admission import build_chain
from cluster.apiserver.admission.webhooks.configuration import MUTATING, VALIDATING
from cluster.apiserver.certificates import CertificateAuthority
from tests.admission.conftest import World, pod
from tests.apiserver_auth.fakes import named, user

Answer = Callable[[Object], Object]


def allow(_: Object) -> Object:
    return {"allowed": True}


def patching(*operations: Object) -> Answer:
    def answer(_: Object) -> Object:
        encoded = base64.b64encode(json.dumps(operations).encode()).decode()
        return {"allowed": True, "patchType": "JSONPatch", "patch": encoded}

    return answer


def label(key: str, value: str = "yes") -> Answer:
    return patching({"op": "add", "path": f"/metadata/labels/{key}", "value": value})


class Bench:
    """A world, and an HTTPS server whose paths are webhooks."""

    def __init__(self, directory: Path) -> None:
        self.world = World()
        self.chain = build_chain(
            self.world.registry, self.world.authorization, self.world.clock, random.Random(1)
        )
        self.asked: list[tuple[str, Object]] = []
        self.answers: dict[str, Answer] = {}
        self.port = 0
        ca = CertificateAuthority.create("webhooks", SystemClock())
        cert, key = ca.issue(
            "hooks", server=True, dns=["hooks.default.svc", "localhost"], ips=["127.0.0.1"]
        )
        self.bundle = base64.b64encode(ca.cert_pem).decode()
        self.cert = directory / "hook.pem"
        self.cert.write_bytes(cert + key)

    async def handle(self, request: web.Request) -> web.Response:
        review = await request.json()
        asked = review["request"]
        self.asked.append((request.path, asked))
        answer = {"uid": asked["uid"], **self.answers[request.path](asked)}
        return web.json_response({**review, "response": answer})

    def hook(self, path: str, **more: Any) -> Object:
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
        return {
            "name": f"{path.strip('/')}.example.com",
            "clientConfig": {
                "url": f"https://127.0.0.1:{self.port}{path}",
                "caBundle": self.bundle,
            },
            "rules": [{"operations": ["CREATE"], **rule}],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            **more,
        }

    def mutating(self, name: str, *hooks: Object) -> None:
        self.world.registry.put(MUTATING, named(name, webhooks=list(hooks)))

    def validating(self, name: str, *hooks: Object) -> None:
        self.world.registry.put(VALIDATING, named(name, webhooks=list(hooks)))

    async def admit(self, obj: Object, **more: Any) -> Any:
        request = self.world.request("CREATE", PODS, obj, **more)
        if self.chain.waits("CREATE", PODS, ""):
            await self.chain.mutate_async(request)
            await self.chain.validate_async(request)
        else:
            self.chain.admit(request)
        return request

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        async def serve() -> None:
            app = web.Application()
            app.router.add_post("/{path:.*}", self.handle)
            runner = web.AppRunner(app)
            await runner.setup()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.cert)
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
            await site.start()
            self.port = runner.addresses[0][1]
            try:
                await scenario()
            finally:
                await self.chain.close()
                await runner.cleanup()

        asyncio.run(serve())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def labelled() -> Object:
    made = pod()
    made["metadata"]["labels"] = {}
    return made


def test_without_configurations_nothing_waits(bench: Bench) -> None:
    for namespace in ("kube-system", "kube-public", "kube-node-lease"):
        bench.world.registry.put(SERVICEACCOUNTS, named("default", namespace))
    assert not bench.chain.waits("CREATE", PODS, "")


def test_mutating_webhooks_run_in_order_of_their_names(bench: Bench) -> None:
    async def scenario() -> None:
        bench.answers = {"/b": label("b"), "/a": label("a")}
        bench.mutating("z", bench.hook("/b"))
        bench.mutating("y", bench.hook("/a"))
        made = labelled()
        await bench.admit(made)
        assert made["metadata"]["labels"] == {"a": "yes", "b": "yes"}
        assert [path for path, _ in bench.asked] == ["/a", "/b"]
        assert bench.asked[1][1]["object"]["metadata"]["labels"] == {"a": "yes"}

    bench.run(scenario)


def test_the_review_says_everything_about_the_request(bench: Bench) -> None:
    async def scenario() -> None:
        bench.answers = {"/v": allow}
        bench.validating("v", bench.hook("/v"))
        await bench.admit(pod(), who=user("ann", "dev"))
        (_, asked) = bench.asked[0]
        assert asked["kind"]["version"] == "v1" and asked["resource"]["resource"] == "pods"
        assert asked["operation"] == "CREATE" and asked["namespace"] == "default"
        assert asked["userInfo"]["username"] == "ann" and "dev" in asked["userInfo"]["groups"]
        assert asked["object"]["spec"]["serviceAccountName"] == "default"
        assert asked["oldObject"] is None and asked["dryRun"] is False

    bench.run(scenario)


def test_containers_that_a_webhook_adds_get_what_every_container_gets(bench: Bench) -> None:
    async def scenario() -> None:
        sidecar = {"name": "sidecar", "image": "proxy"}
        bench.answers = {
            "/m": patching({"op": "add", "path": "/spec/containers/-", "value": sidecar})
        }
        bench.mutating("m", bench.hook("/m"))
        made = pod()
        await bench.admit(made)
        added = made["spec"]["containers"][1]
        assert added["volumeMounts"][0]["mountPath"].endswith("/serviceaccount")

    bench.run(scenario)


def test_a_hook_that_wants_it_sees_later_changes(bench: Bench) -> None:
    async def scenario() -> None:
        bench.answers = {"/first": label("first"), "/second": label("second")}
        bench.mutating(
            "m", bench.hook("/first", reinvocationPolicy="IfNeeded"), bench.hook("/second")
        )
        await bench.admit(labelled())
        assert [path for path, _ in bench.asked] == ["/first", "/second", "/first"]

    bench.run(scenario)


@pytest.mark.parametrize(
    ("status", "code", "reason", "message"),
    [
        ({"message": "no", "code": 403, "reason": "Forbidden"}, 403, "Forbidden", ": no"),
        ({"message": "no"}, 400, "", ": no"),
        ({"reason": "Odd", "code": 418}, 418, "Odd", ": Odd"),
        ({}, 400, "", " without explanation"),
    ],
)
def test_a_refusal_carries_the_webhooks_words(
    bench: Bench, status: Object, code: int, reason: str, message: str
) -> None:
    async def scenario() -> None:
        bench.answers = {"/v": lambda _: {"allowed": False, "status": status, "warnings": ["w"]}}
        bench.validating("v", bench.hook("/v"))
        with pytest.raises(StatusError) as caught:
            await bench.admit(pod())
        assert caught.value.message == (
            f'admission webhook "v.example.com" denied the request{message}'
        )
        assert (caught.value.code, caught.value.reason) == (code, reason)

    bench.run(scenario)


def test_warnings_reach_the_caller(bench: Bench) -> None:
    async def scenario() -> None:
        bench.answers = {"/v": lambda _: {"allowed": True, "warnings": ["careful"]}}
        bench.validating("v", bench.hook("/v"))
        assert (await bench.admit(pod())).warnings == ["careful"]

    bench.run(scenario)


def test_a_dead_webhook_fails_the_request_or_is_passed_over(bench: Bench) -> None:
    async def scenario() -> None:
        dead = {"url": "https://127.0.0.1:1/x", "caBundle": bench.bundle}
        bench.validating("v", bench.hook("/x", clientConfig=dead))
        with pytest.raises(InternalError) as caught:
            await bench.admit(pod())
        assert caught.value.message.startswith(
            'Internal error occurred: failed calling webhook "x.example.com": failed to call'
            ' webhook: Post "https://127.0.0.1:1/x?timeout=10s": dial tcp 127.0.0.1:1:'
            " connect: connection refused"
        )
        bench.validating("v", bench.hook("/x", clientConfig=dead, failurePolicy="Ignore"))
        await bench.admit(pod())

    bench.run(scenario)


def test_a_strangers_certificate_is_not_trusted(bench: Bench) -> None:
    async def scenario() -> None:
        bench.answers = {"/v": allow}
        other = CertificateAuthority.create("other", SystemClock())
        hook = bench.hook("/v")
        hook["clientConfig"]["caBundle"] = base64.b64encode(other.cert_pem).decode()
        bench.validating("v", hook)
        with pytest.raises(InternalError, match="failed to verify certificate"):
            await bench.admit(pod())
        assert not bench.asked

    bench.run(scenario)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"uid": "another", "allowed": True}, "expected response.uid="),
        ({"allowed": True, "patch": "!!", "patchType": "JSONPatch"}, "a patch that is none"),
        ({"allowed": True, "patch": "W10=", "patchType": "Other"}, "response.patchType"),
    ],
)
def test_a_nonsense_answer_is_a_failure(bench: Bench, answer: Object, message: str) -> None:
    async def scenario() -> None:
        bench.answers = {"/m": lambda _: answer}
        bench.mutating("m", bench.hook("/m"))
        with pytest.raises(InternalError, match=message):
            await bench.admit(pod())

    bench.run(scenario)


def test_a_patch_that_does_not_apply_is_a_failure(bench: Bench) -> None:
    async def scenario() -> None:
        bench.answers = {"/m": patching({"op": "remove", "path": "/spec/nothing"})}
        bench.mutating("m", bench.hook("/m"))
        with pytest.raises(InternalError, match="does not apply"):
            await bench.admit(pod())

    bench.run(scenario)


def test_a_service_is_called_on_its_address_under_its_name(bench: Bench) -> None:
    async def scenario() -> None:
        bench.answers = {"/check": allow}
        ports = [{"port": bench.port}]
        spec = {"clusterIP": "127.0.0.1", "ports": ports}
        bench.world.registry.put(SERVICES, named("hooks", "default", spec=spec))
        service = {"namespace": "default", "name": "hooks", "path": "/check", "port": bench.port}
        client = {"service": service, "caBundle": bench.bundle}
        bench.validating("v", bench.hook("/v", clientConfig=client))
        await bench.admit(pod())
        assert [path for path, _ in bench.asked] == ["/check"]
        client["service"] = {**service, "name": "ghost"}
        bench.validating("v", bench.hook("/v", clientConfig=client))
        with pytest.raises(InternalError, match='service "ghost" not found'):
            await bench.admit(pod())

    bench.run(scenario)


def test_selectors_and_rules_choose(bench: Bench) -> None:
    async def scenario() -> None:
        bench.answers = {"/v": lambda _: {"allowed": False}}
        namespace = named("default")
        namespace["metadata"]["labels"] = {"guarded": "yes"}
        bench.world.registry.put(NAMESPACES, namespace)

        async def refused(**more: Any) -> bool:
            bench.validating("v", bench.hook("/v", **more))
            try:
                await bench.admit(labelled())
            except StatusError:
                return True
            return False

        assert await refused(namespaceSelector={"matchLabels": {"guarded": "yes"}})
        assert not await refused(namespaceSelector={"matchLabels": {"guarded": "no"}})
        assert not await refused(objectSelector={"matchLabels": {"a": "b"}})
        rule = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}
        assert await refused(rules=[rule])
        assert await refused(rules=[{**rule, "scope": "Namespaced"}])
        assert not await refused(rules=[{**rule, "scope": "Cluster"}])
        assert not await refused(rules=[{**rule, "resources": ["pods/status"]}])
        assert not await refused(rules=[{**rule, "operations": ["UPDATE", "DELETE"]}])
        assert not await refused(rules=[{**rule, "apiGroups": ["apps"]}])
        assert not bench.chain.waits("CREATE", CONFIGMAPS, "")

    bench.run(scenario)


def test_no_webhook_guards_the_webhooks(bench: Bench) -> None:
    everything = {
        "operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"],
    }  # fmt: skip
    bench.validating("v", bench.hook("/v", rules=[everything]))
    assert bench.chain.waits("DELETE", CONFIGMAPS, "")
    assert not bench.chain.waits("DELETE", VALIDATING, "")
    bench.world.registry.remove(VALIDATING, "", "v")
    assert not bench.chain.waits("DELETE", CONFIGMAPS, "")


def test_a_dry_run_needs_a_webhook_without_side_effects(bench: Bench) -> None:
    async def scenario() -> None:
        bench.answers = {"/v": allow}
        bench.validating("v", bench.hook("/v", sideEffects="Some"))
        with pytest.raises(BadRequest) as caught:
            await bench.admit(pod(), dry_run=True)
        assert caught.value.message == (
            'admission webhook "v.example.com" does not support dry run'
        )

    bench.run(scenario)


def test_match_conditions_and_policies_are_refused_by_name(bench: Bench) -> None:
    conditions = [{"name": "x", "expression": "true"}]
    obj = named("v", webhooks=[bench.hook("/v", matchConditions=conditions)])
    with pytest.raises(NotEmulated, match=r"webhooks\[0\]\.matchConditions"):
        bench.chain.admit(bench.world.request("CREATE", VALIDATING, obj))
    policy = VALIDATING._replace(plural="validatingadmissionpolicies")
    with pytest.raises(NotEmulated, match="validatingadmissionpolicies"):
        bench.chain.admit(bench.world.request("CREATE", policy, named("p")))
