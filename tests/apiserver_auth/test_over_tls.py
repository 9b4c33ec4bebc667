"""Identities over a real TLS connection to a real API server."""

from __future__ import annotations

import asyncio
import random
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from cluster.api.meta import SystemClock
from cluster.apiserver.certificates import (
    CertificateAuthority,
    KeyPair,
    Pki,
    PkiOptions,
    ensure_pki,
)
from cluster.apiserver.config import ApiServerConfig
from cluster.apiserver.server import ApiServer
from cluster.apiserver.tokens import NodeTokens
from cluster.etcd.sqlite import SqliteStore
from cluster.metrics.apiserver import ApiServerMetrics
from cluster.metrics.etcd import StoreMetrics

REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
Answer = tuple[int, Any]


class Cluster:
    def __init__(self, url: str, pki: Pki, directory: Path) -> None:
        self.url = url
        self.pki = pki
        self.directory = directory

    def issue(self, name: str, *groups: str, ca: CertificateAuthority | None = None) -> KeyPair:
        ca = ca or CertificateAuthority.load(self.pki.directory, SystemClock())
        cert, key = ca.issue(name, groups)
        pair = KeyPair(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        pair.cert.write_bytes(cert)
        pair.key.write_bytes(key)
        return pair

    async def ask(
        self,
        path: str,
        pair: KeyPair | None = None,
        body: Any = None,
        method: str = "",
        **headers: str,
    ) -> Answer:
        context = ssl.create_default_context(cafile=str(self.pki.ca_cert))
        if pair is not None:
            context.load_cert_chain(str(pair.cert), str(pair.key))
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
            session.request(
                method or ("POST" if body is not None else "GET"),
                self.url + path,
                json=body,
                headers=sent,
            ) as response,
        ):
            json = "json" in response.content_type
            return response.status, await (response.json() if json else response.text())

    async def whoami(self, pair: KeyPair | None = None, **headers: str) -> Answer:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        status, answer = await self.ask(REVIEWS, pair, body, **headers)
        return status, answer["status"]["userInfo"] if status == 201 else answer


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Cluster]:
    clock = SystemClock()
    pki = ensure_pki(directory / "pki", PkiOptions(), clock)
    tokens = directory / "tokens.csv"
    tokens.write_text('s3cret,carl,3,"system:masters"\n')
    config = ApiServerConfig(
        tls_cert=str(pki.apiserver.cert),
        tls_key=str(pki.apiserver.key),
        client_ca=str(pki.ca_cert),
        service_account_key=str(pki.service_account_key),
        node_token_key=pki.node_token_key.read_bytes(),
        token_file=str(tokens),
    )
    store = await SqliteStore.open(directory / "store.db", clock, StoreMetrics(CollectorRegistry()))
    server = ApiServer(
        config,
        store,
        clock,
        random.Random(1),
        lambda: str(uuid.uuid4()),
        ApiServerMetrics(CollectorRegistry()),
    )
    await server.start()
    try:
        yield Cluster(server.url, pki, directory)
    finally:
        await server.backend.admission.close()
        await server.stop(1)
        await store.close()


def run(directory: Path, scenario: Callable[[Cluster], Awaitable[None]]) -> None:
    async def main() -> None:
        async with running(directory) as cluster:
            await scenario(cluster)

    asyncio.run(main())


def test_certificates_tokens_and_impersonation(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        admin = cluster.pki.clients["admin"]
        ann = cluster.issue("ann", "dev")
        assert (await cluster.whoami(admin))[1]["username"] == "kubernetes-admin"
        status, found = await cluster.whoami(ann)
        assert status == 201
        assert found["groups"] == ["dev", "system:authenticated"]
        _, found = await cluster.whoami(Authorization="Bearer s3cret")
        assert found["username"] == "carl"
        token = NodeTokens(cluster.pki.node_token_key.read_bytes()).token("n1")
        host = cluster.pki.clients["kubelet-host"]
        _, found = await cluster.whoami(host, Authorization=f"Bearer {token}")
        assert found["username"] == "system:node:n1"
        _, found = await cluster.whoami(admin, Impersonate_User="bob", Impersonate_Group="ops")
        assert (found["username"], found["groups"]) == ("bob", ["ops", "system:authenticated"])
        status, refused = await cluster.ask("/api/v1/pods", ann, Impersonate_User="bob")
        assert status == 403
        assert refused["message"] == (
            'users "bob" is forbidden: User "ann" cannot impersonate resource "users" in API group'
            ' "" at the cluster scope'
        )

    run(tmp_path, scenario)


def test_a_wrong_token_is_401_and_nobody_may_ask_for_health_only(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        status, answer = await cluster.ask("/api/v1/pods", Authorization="Bearer wrong")
        assert (status, answer["reason"], answer["message"]) == (401, *["Unauthorized"] * 2)
        for path, code in (("/readyz", 200), ("/version", 200), ("/api", 401), ("/metrics", 401)):
            assert (await cluster.ask(path))[0] == code, path

    run(tmp_path, scenario)


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        other = CertificateAuthority.create("kubernetes", SystemClock())
        pair = cluster.issue("kubernetes-admin", "system:masters", ca=other)
        with pytest.raises(aiohttp.ClientError):
            await cluster.whoami(pair)

    run(tmp_path, scenario)


def test_a_service_accounts_token_works_until_the_account_is_gone(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        admin = cluster.pki.clients["admin"]
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bot"}}
        assert (await cluster.ask(accounts, admin, account))[0] == 201
        status, answer = await cluster.ask(f"{accounts}/bot/token", admin, {"spec": {}})
        assert status == 201
        bearer = f"Bearer {answer['status']['token']}"
        assert (await cluster.whoami(Authorization=bearer))[1]["username"].endswith(":default:bot")
        assert (await cluster.ask("/openid/v1/jwks", Authorization=bearer))[0] == 200
        assert (await cluster.ask("/api/v1/namespaces/default/pods", Authorization=bearer))[
            0
        ] == 403
        assert (await cluster.ask(f"{accounts}/bot", admin, method="DELETE"))[0] == 200
        assert (await cluster.whoami(Authorization=bearer))[0] == 401

    run(tmp_path, scenario)
