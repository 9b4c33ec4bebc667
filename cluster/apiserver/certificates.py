"""The cluster's certificates and keys: what `kubeadm init phase certs` and `... kubeconfig` write.

One CA signs the serving certificate of the API server and a client certificate for every
component. Private keys and kubeconfigs are files of mode 0600 in a directory of mode 0700. What is
there and still valid is kept: `ensure_pki` may run at every start.

# Unlike Kubernetes: keys are EC P-256 (a handshake costs a tenth of RSA), and one CA signs for all.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cluster.api.meta import Clock

CA_DAYS = 3650
CERTIFICATE_DAYS = 365
RENEW_BEFORE_DAYS = 30
_SKEW = timedelta(minutes=5)

SERVER_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
)

# File stem -> (common name, organizations) of each client.
CLIENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "admin": ("kubernetes-admin", ("system:masters",)),
    "kube-controller-manager": ("system:kube-controller-manager", ()),
    "kube-scheduler": ("system:kube-scheduler", ()),
    "kube-proxy": ("system:kube-proxy", ()),
    "dns": ("system:kubestage:dns", ()),
    "kubelet-host": ("system:kubestage:kubelet-host", ("kubestage:kubelet-hosts",)),
    "apiserver-kubelet-client": ("kube-apiserver-kubelet-client", ("system:masters",)),
}


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Pki:
    """Where everything is. `clients` has the keys of CLIENTS."""

    directory: Path
    ca_cert: Path
    ca_key: Path
    apiserver: KeyPair
    clients: dict[str, KeyPair]
    service_account_key: Path
    service_account_public_key: Path
    node_token_key: Path

    def ca_pem(self) -> str:
        return self.ca_cert.read_text()


@dataclass(frozen=True, slots=True)
class PkiOptions:
    """Names and addresses of the API server, beyond those it always has."""

    ips: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    service_account_algorithm: str = "ES256"


@dataclass(slots=True)
class CertificateAuthority:
    """A self-signed CA that issues EC P-256 certificates."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    clock: Clock = field(repr=False)

    @classmethod
    def create(cls, name: str, clock: Clock) -> CertificateAuthority:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.fromtimestamp(clock.now(), UTC)
        usage = x509.KeyUsage(True, False, True, False, False, True, False, False, False)
        cert = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .sign(key, hashes.SHA256())
        )
        return cls(cert, key, clock)

    @classmethod
    def load(cls, directory: Path, clock: Clock, stem: str = "ca") -> CertificateAuthority:
        """Read DIR/ca.crt and DIR/ca.key. Raises FileNotFoundError or ValueError."""
        cert = x509.load_pem_x509_certificate((directory / f"{stem}.crt").read_bytes())
        key = serialization.load_pem_private_key((directory / f"{stem}.key").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{directory / stem}.key is not an EC key")
        return cls(cert, key, clock)

    def save(self, directory: Path, stem: str = "ca") -> None:
        write_file(directory / f"{stem}.key", _key_pem(self.key), 0o600)
        write_file(directory / f"{stem}.crt", self.cert_pem, 0o644)

    @property
    def cert_pem(self) -> bytes:
        return self.cert.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        common_name: str,
        organizations: Sequence[str] = (),
        *,
        server: bool = False,
        client: bool = True,
        dns: Sequence[str] = (),
        ips: Sequence[str] = (),
        days: int = CERTIFICATE_DAYS,
    ) -> tuple[bytes, bytes]:
        """A new key and its certificate: (cert PEM, key PEM)."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self.sign(
            key.public_key(),
            _subject(common_name, organizations),
            server=server,
            client=client,
            dns=dns,
            ips=ips,
            days=days,
        )
        return cert, _key_pem(key)

    def sign(
        self,
        public_key: ec.EllipticCurvePublicKey,
        subject: x509.Name,
        *,
        server: bool,
        client: bool,
        dns: Sequence[str] = (),
        ips: Sequence[str] = (),
        days: int = CERTIFICATE_DAYS,
    ) -> bytes:
        """The certificate (PEM) of somebody's public key."""
        now = datetime.fromtimestamp(self.clock.now(), UTC)
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH] if server else []
        if client:
            purposes.append(ExtendedKeyUsageOID.CLIENT_AUTH)
        usage = x509.KeyUsage(True, False, True, False, False, False, False, False, False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.cert.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(authority, critical=False)
        )
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in dict.fromkeys(dns)]
        names += [x509.IPAddress(ipaddress.ip_address(ip)) for ip in dict.fromkeys(ips)]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        cert = builder.sign(self.key, hashes.SHA256())
        return cert.public_bytes(serialization.Encoding.PEM)


def ensure_pki(directory: Path, options: PkiOptions, clock: Clock) -> Pki:
    """Make what is missing, expired or lacks a name; keep the rest. Idempotent."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)
    try:
        ca = CertificateAuthority.load(directory, clock)
    except FileNotFoundError:
        ca = CertificateAuthority.create("kubernetes", clock)
        ca.save(directory)
    dns = (*SERVER_NAMES, f"kubernetes.default.svc.{options.cluster_domain}", *options.dns)
    ips = ("127.0.0.1", "::1", *options.ips)
    serving = _pair(directory, "apiserver")
    if not _usable(serving, ca, clock, dns, ips):
        _write_pair(
            serving, ca.issue("kube-apiserver", server=True, client=False, dns=dns, ips=ips)
        )
    clients: dict[str, KeyPair] = {}
    for stem, (common_name, organizations) in CLIENTS.items():
        pair = clients[stem] = _pair(directory, stem)
        if not _usable(pair, ca, clock):
            _write_pair(pair, ca.issue(common_name, organizations))
    pki = Pki(
        directory=directory,
        ca_cert=directory / "ca.crt",
        ca_key=directory / "ca.key",
        apiserver=serving,
        clients=clients,
        service_account_key=directory / "sa.key",
        service_account_public_key=directory / "sa.pub",
        node_token_key=directory / "node-token.key",
    )
    _ensure_service_account_key(pki, options.service_account_algorithm)
    if not pki.node_token_key.exists():
        write_file(pki.node_token_key, secrets.token_bytes(32), 0o600)
    return pki


def write_kubeconfig(
    path: Path,
    *,
    server: str,
    ca_pem: bytes | str,
    cert_pem: bytes | str = b"",
    key_pem: bytes | str = b"",
    token: str = "",
    cluster: str = "kubestage",
    user: str = "kubernetes-admin",
    namespace: str = "",
) -> None:
    """A kubeconfig with everything embedded, mode 0600, replaced at once."""

    def encode(pem: bytes | str) -> str:
        return base64.b64encode(pem.encode() if isinstance(pem, str) else pem).decode()

    credentials: dict[str, str] = {}
    if cert_pem:
        credentials["client-certificate-data"] = encode(cert_pem)
        credentials["client-key-data"] = encode(key_pem)
    if token:
        credentials["token"] = token
    context = {"cluster": cluster, "user": user}
    if namespace:
        context["namespace"] = namespace
    name = f"{user}@{cluster}"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "clusters": [
            {
                "name": cluster,
                "cluster": {"server": server, "certificate-authority-data": encode(ca_pem)},
            }
        ],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }
    write_file(Path(path), yaml.safe_dump(config, sort_keys=False).encode(), 0o600)


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Write beside and rename: readers see the old file or the new one, never a half, and a key is
    never readable by others, not even for a moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _pair(directory: Path, stem: str) -> KeyPair:
    return KeyPair(directory / f"{stem}.crt", directory / f"{stem}.key")


def _write_pair(pair: KeyPair, issued: tuple[bytes, bytes]) -> None:
    cert, key = issued
    write_file(pair.key, key, 0o600)
    write_file(pair.cert, cert, 0o644)


def _usable(
    pair: KeyPair,
    ca: CertificateAuthority,
    clock: Clock,
    dns: Sequence[str] = (),
    ips: Sequence[str] = (),
) -> bool:
    """Is the pair there, signed by this CA, valid for a month more, and has it all these names?"""
    if not (pair.cert.exists() and pair.key.exists()):
        return False
    try:
        cert = x509.load_pem_x509_certificate(pair.cert.read_bytes())
        cert.verify_directly_issued_by(ca.cert)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, a new one is made
        return False
    deadline = datetime.fromtimestamp(clock.now(), UTC) + timedelta(days=RENEW_BEFORE_DAYS)
    if cert.not_valid_after_utc < deadline:
        return False
    if not dns and not ips:
        return True
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    have_ips = {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}
    wanted_ips = {str(ipaddress.ip_address(ip)) for ip in ips}
    return set(dns) <= set(names.get_values_for_type(x509.DNSName)) and wanted_ips <= have_ips


def _ensure_service_account_key(pki: Pki, algorithm: str) -> None:
    if pki.service_account_key.exists() and pki.service_account_public_key.exists():
        return
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if algorithm == "ES256":
        key = ec.generate_private_key(ec.SECP256R1())
    elif algorithm == "RS256":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        raise ValueError(f"service account tokens are signed with ES256 or RS256, not {algorithm}")
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_file(pki.service_account_key, _key_pem(key), 0o600)
    write_file(pki.service_account_public_key, public, 0o644)


def _subject(common_name: str, organizations: Sequence[str]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
