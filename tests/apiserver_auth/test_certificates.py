from __future__ import annotations

import ssl
from pathlib import Path

import yaml
from cryptography import x509

from cluster.apiserver.certificates import (
    CLIENTS,
    CertificateAuthority,
    PkiOptions,
    ensure_pki,
    write_kubeconfig,
)
from tests.apiserver_auth.fakes import FakeClock

OPTIONS = PkiOptions(ips=("10.96.0.1", "172.30.0.1"))


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_every_private_key_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path / "pki", OPTIONS, FakeClock())
    keys = [*pki.directory.glob("*.key")]
    assert len(keys) == len(CLIENTS) + 4
    assert {mode(key) for key in keys} == {0o600}
    assert mode(pki.directory) == 0o700


def test_the_second_call_changes_nothing(tmp_path: Path) -> None:
    def read() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in (tmp_path / "pki").iterdir()}

    ensure_pki(tmp_path / "pki", OPTIONS, FakeClock())
    before = read()
    ensure_pki(tmp_path / "pki", OPTIONS, FakeClock())
    assert read() == before


def test_a_new_address_and_old_age_renew_a_certificate(tmp_path: Path) -> None:
    clock = FakeClock()
    pki = ensure_pki(tmp_path, OPTIONS, clock)
    first = pki.apiserver.cert.read_bytes()
    admin = pki.clients["admin"].cert.read_bytes()
    ensure_pki(tmp_path, PkiOptions(ips=(*OPTIONS.ips, "192.0.2.7")), clock)
    second = pki.apiserver.cert.read_bytes()
    assert first != second and pki.clients["admin"].cert.read_bytes() == admin
    clock.time += 340 * 86_400
    ensure_pki(tmp_path, PkiOptions(ips=(*OPTIONS.ips, "192.0.2.7")), clock)
    assert pki.apiserver.cert.read_bytes() != second
    assert pki.clients["admin"].cert.read_bytes() != admin


def test_the_serving_certificate_has_upstreams_names(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path, OPTIONS, FakeClock())
    cert = x509.load_pem_x509_certificate(pki.apiserver.cert.read_bytes())
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "kubernetes.default.svc.cluster.local" in names.get_values_for_type(x509.DNSName)
    assert {str(ip) for ip in names.get_values_for_type(x509.IPAddress)} == {
        "127.0.0.1", "::1", "10.96.0.1", "172.30.0.1",
    }  # fmt: skip


def test_openssl_accepts_the_chain(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path, OPTIONS, FakeClock())
    context = ssl.create_default_context(cafile=str(pki.ca_cert))
    context.load_cert_chain(str(pki.clients["admin"].cert), str(pki.clients["admin"].key))
    ca = x509.load_pem_x509_certificate(pki.ca_cert.read_bytes())
    for pair in (pki.apiserver, *pki.clients.values()):
        x509.load_pem_x509_certificate(pair.cert.read_bytes()).verify_directly_issued_by(ca)


def test_a_loaded_authority_issues_certificates(tmp_path: Path) -> None:
    clock = FakeClock()
    ensure_pki(tmp_path, OPTIONS, clock)
    cert, _ = CertificateAuthority.load(tmp_path, clock).issue("ann", ["dev", "ops"])
    subject = x509.load_pem_x509_certificate(cert).subject.rfc4514_string()
    assert subject == "CN=ann,O=ops,O=dev"


def test_a_kubeconfig_is_complete_and_private(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path, OPTIONS, FakeClock())
    admin = pki.clients["admin"]
    path = tmp_path / "sub" / "config.yaml"
    write_kubeconfig(
        path,
        server="https://127.0.0.1:6443",
        ca_pem=pki.ca_pem(),
        cert_pem=admin.cert.read_bytes(),
        key_pem=admin.key.read_bytes(),
    )
    config = yaml.safe_load(path.read_text())
    assert mode(path) == 0o600
    assert config["current-context"] == "kubernetes-admin@kubestage"
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"
    assert set(config["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}
    assert [p.name for p in path.parent.iterdir()] == ["config.yaml"]
