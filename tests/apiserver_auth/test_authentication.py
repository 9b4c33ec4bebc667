from __future__ import annotations

from pathlib import Path

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from cluster.api.errors import BadRequest, Unauthorized
from cluster.api.meta import PODS, SERVICEACCOUNTS, rfc3339
from cluster.apiserver.attributes import UserInfo
from cluster.apiserver.authn import Authentication, plan_impersonation, read_token_file
from cluster.apiserver.certificates import CertificateAuthority, PkiOptions, ensure_pki
from cluster.apiserver.tokens import (
    NodeTokens,
    ObjectReference,
    ServiceAccountTokens,
    TokenRequest,
)
from tests.apiserver_auth.fakes import FakeClock, FakeRegistry, named, user

ISSUER = "https://kubernetes.default.svc.cluster.local"


class Bench:
    """An API server's authentication with every kind of credential."""

    def __init__(self, directory: Path, algorithm: str = "ES256") -> None:
        self.clock = FakeClock()
        self.registry = FakeRegistry()
        options = PkiOptions(service_account_algorithm=algorithm)
        self.pki = ensure_pki(directory, options, self.clock)
        self.ca = CertificateAuthority.load(directory, self.clock)
        self.ids = iter(f"jti-{n}" for n in range(1000))
        self.tokens = ServiceAccountTokens.load(
            self.pki.service_account_key,
            issuer=ISSUER,
            audiences=(ISSUER,),
            clock=self.clock,
            new_uid=lambda: next(self.ids),
        )
        self.nodes = NodeTokens(self.pki.node_token_key.read_bytes())
        self.authentication = Authentication(
            self.registry,
            self.clock,
            service_account_tokens=self.tokens,
            node_tokens=self.nodes,
            static_tokens={"s3cret": UserInfo("ann", ("dev", "system:authenticated"), "7")},
        )
        self.registry.put(SERVICEACCOUNTS, named("builder", "ci", "sa-uid"))
        self.registry.put(PODS, named("web", "ci", "pod-uid", spec={"nodeName": "n1"}))

    def request(self, **more: object) -> TokenRequest:
        return TokenRequest("ci", "builder", "sa-uid", **more)  # type: ignore[arg-type]

    def bearer(self, token: str) -> UserInfo:
        return self.authentication.authenticate({"authorization": f"Bearer {token}"}, None)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def der(pem: bytes) -> bytes:
    cert = x509.load_pem_x509_certificate(pem)
    return cert.public_bytes(serialization.Encoding.DER)


def test_a_certificate_names_the_user_and_the_groups(bench: Bench) -> None:
    cert = der(bench.pki.clients["admin"].cert.read_bytes())
    found = bench.authentication.authenticate({}, cert)
    assert found.name == "kubernetes-admin"
    assert found.groups == ("system:masters", "system:authenticated")
    assert found.extra["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")
    assert bench.authentication.authenticate({}, cert) is found


def test_an_expired_certificate_is_no_identity(bench: Bench) -> None:
    cert = der(bench.ca.issue("ann", days=1)[0])
    bench.authentication.authenticate({}, cert)
    bench.clock.time += 2 * 86_400
    with pytest.raises(Unauthorized):
        bench.authentication.authenticate({}, cert)


def test_a_servers_certificate_is_no_client(bench: Bench) -> None:
    cert = der(bench.pki.apiserver.cert.read_bytes())
    with pytest.raises(Unauthorized):
        bench.authentication.authenticate({}, cert)


def test_the_certificate_comes_before_a_token_but_after_a_node_token(bench: Bench) -> None:
    cert = der(bench.pki.clients["kubelet-host"].cert.read_bytes())
    headers = {"authorization": "Bearer s3cret"}
    host = "system:kubestage:kubelet-host"
    assert bench.authentication.authenticate(headers, cert).name == host
    headers = {"authorization": f"Bearer {bench.nodes.token('n1')}"}
    found = bench.authentication.authenticate(headers, cert)
    assert found.name == "system:node:n1" and "system:nodes" in found.groups


def test_a_static_token_is_its_user(bench: Bench) -> None:
    assert bench.bearer("s3cret").name == "ann"


@pytest.mark.parametrize(
    "header", ["Bearer wrong", "Bearer a.b.c", "Bearer node.n1.00", "bearer x"]
)
def test_a_wrong_token_is_401_and_not_in_the_message(bench: Bench, header: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        bench.authentication.authenticate({"authorization": header}, None, "/healthz")
    assert caught.value.message == "Unauthorized"
    assert caught.value.__suppress_context__


def test_a_node_token_of_another_name_is_refused(bench: Bench) -> None:
    digest = bench.nodes.token("n1").rpartition(".")[2]
    with pytest.raises(Unauthorized):
        bench.bearer(f"node.n2.{digest}")
    assert bench.bearer(bench.nodes.token("node.with.dots")).name == "system:node:node.with.dots"


def test_anonymous_may_ask_for_health_and_version_only(bench: Bench) -> None:
    found = bench.authentication.authenticate({}, None, "/readyz")
    assert found.name == "system:anonymous" and found.groups == ("system:unauthenticated",)
    for path in ("/api/v1/pods", "/apis", "/healthzz", ""):
        with pytest.raises(Unauthorized):
            bench.authentication.authenticate({}, None, path)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_pods_token_says_who_and_where_it_is(tmp_path: Path, algorithm: str) -> None:
    bench = Bench(tmp_path, algorithm)
    pod = ObjectReference("Pod", "web", "pod-uid")
    token, expires = bench.tokens.issue(
        bench.request(expiration_seconds=3607, bound=pod, node_name="n1", node_uid="node-uid")
    )
    claims = jwt.decode(token, options={"verify_signature": False})
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    now = int(bench.clock.now())
    assert expires == now + 3607
    assert claims == {
        "aud": [ISSUER],
        "exp": now + 365 * 86_400,
        "iat": now,
        "iss": ISSUER,
        "jti": "jti-0",
        "kubernetes.io": {
            "namespace": "ci",
            "node": {"name": "n1", "uid": "node-uid"},
            "pod": {"name": "web", "uid": "pod-uid"},
            "serviceaccount": {"name": "builder", "uid": "sa-uid"},
            "warnafter": now + 3607,
        },
        "nbf": now,
        "sub": "system:serviceaccount:ci:builder",
    }
    found = bench.bearer(token)
    assert found.name == "system:serviceaccount:ci:builder" and found.uid == "sa-uid"
    assert found.groups == (
        "system:serviceaccounts",
        "system:serviceaccounts:ci",
        "system:authenticated",
    )
    assert found.extra["authentication.kubernetes.io/pod-name"] == ("web",)
    assert found.extra["authentication.kubernetes.io/node-name"] == ("n1",)


def test_deleting_the_account_or_the_pod_revokes_the_token_at_once(bench: Bench) -> None:
    pod = ObjectReference("Pod", "web", "pod-uid")
    bound, _ = bench.tokens.issue(bench.request(bound=pod))
    free, _ = bench.tokens.issue(bench.request())
    assert bench.bearer(bound) and bench.bearer(free)
    bench.registry.remove(PODS, "ci", "web")
    with pytest.raises(Unauthorized):
        bench.bearer(bound)
    assert bench.bearer(free)
    bench.registry.put(SERVICEACCOUNTS, named("builder", "ci", "another"))
    with pytest.raises(Unauthorized):
        bench.bearer(free)


def test_a_pod_being_deleted_keeps_its_token_for_a_minute(bench: Bench) -> None:
    pod = named("web", "ci", "pod-uid", spec={})
    pod["metadata"]["deletionTimestamp"] = rfc3339(bench.clock.now())
    bench.registry.put(PODS, pod)
    token, _ = bench.tokens.issue(bench.request(bound=ObjectReference("Pod", "web", "pod-uid")))
    assert bench.bearer(token)
    bench.clock.time += 61
    with pytest.raises(Unauthorized):
        bench.bearer(token)


def test_a_token_expires(bench: Bench) -> None:
    token, _ = bench.tokens.issue(bench.request(expiration_seconds=600))
    bench.bearer(token)
    bench.clock.time += 600
    with pytest.raises(Unauthorized):
        bench.bearer(token)


def test_a_token_of_another_key_or_audience_is_refused(bench: Bench, tmp_path: Path) -> None:
    other = Bench(tmp_path / "other")
    foreign, _ = other.tokens.issue(other.request())
    vault, _ = bench.tokens.issue(bench.request(audiences=("vault",)))
    for token in (foreign, vault, vault[:-3] + "AAA"):
        with pytest.raises(Unauthorized):
            bench.bearer(token)
    review = bench.authentication.review_token(vault, ["vault", "consul"])
    assert review.authenticated and review.audiences == ("vault",)
    refused = bench.authentication.review_token(foreign)
    assert not refused.authenticated and foreign not in refused.error


def test_a_token_without_a_signature_is_refused(bench: Bench) -> None:
    good, _ = bench.tokens.issue(bench.request())
    claims = jwt.decode(good, options={"verify_signature": False})
    kid = jwt.get_unverified_header(good)["kid"]
    unsigned = jwt.encode(claims, None, algorithm="none", headers={"kid": kid})  # type: ignore[arg-type]
    public = bench.pki.service_account_public_key.read_text()
    assert public.startswith("-----BEGIN PUBLIC KEY")
    with pytest.raises(Unauthorized):
        bench.bearer(unsigned)


def test_the_openid_documents_verify_a_token(bench: Bench) -> None:
    token, _ = bench.tokens.issue(bench.request())
    document = bench.tokens.openid_configuration()
    assert document["jwks_uri"] == f"{ISSUER}/openid/v1/jwks"
    keys = jwt.PyJWKSet.from_dict(bench.tokens.jwks())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, algorithms=["ES256"], audience=ISSUER, options={
        "verify_exp": False, "verify_iat": False, "verify_nbf": False,
    })  # fmt: skip


def test_a_token_file_is_read_and_its_errors_name_no_token(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    path.write_text('abc,ann,1,"dev,ops"\ndef,bob,2\n')
    users = read_token_file(path)
    assert users["abc"].groups == ("dev", "ops", "system:authenticated")
    assert users["def"].name == "bob"
    path.write_text("onlyatoken\n")
    with pytest.raises(ValueError, match=r"tokens\.csv:1") as caught:
        read_token_file(path)
    assert "onlyatoken" not in str(caught.value)


def test_impersonation_asks_for_a_permission_for_each_header() -> None:
    admin = user("admin")
    assert plan_impersonation({}, admin) is None
    planned = plan_impersonation(
        {
            "impersonate-user": "ann",
            "impersonate-group": "dev",
            "impersonate-uid": "u-1",
            "impersonate-extra-scopes": "view",
        },
        admin,
        {"impersonate-group": ["dev", "ops"]},
    )
    assert planned is not None
    assert planned.user == UserInfo(
        "ann", ("dev", "ops", "system:authenticated"), "u-1", {"scopes": ("view",)}
    )
    checks = [(c.group, c.resource, c.subresource, c.name) for c in planned.checks]
    assert checks == [
        ("", "users", "", "ann"),
        ("", "groups", "", "dev"),
        ("", "groups", "", "ops"),
        ("authentication.k8s.io", "userextras", "scopes", "view"),
        ("authentication.k8s.io", "uids", "", "u-1"),
    ]
    assert {c.verb for c in planned.checks} == {"impersonate"}


def test_an_impersonated_service_account_gets_its_groups() -> None:
    planned = plan_impersonation(
        {"impersonate-user": "system:serviceaccount:ci:builder"}, user("admin")
    )
    assert planned is not None
    assert planned.checks[0].resource == "serviceaccounts"
    assert planned.checks[0].namespace == "ci" and planned.checks[0].name == "builder"
    assert "system:serviceaccounts:ci" in planned.user.groups
    with pytest.raises(BadRequest):
        plan_impersonation({"impersonate-group": "system:masters"}, user("admin"))
