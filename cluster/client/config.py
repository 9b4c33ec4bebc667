"""Where the API server is and who we are: kubeconfig files. Plays
k8s.io/client-go/tools/clientcmd."""

from __future__ import annotations

import base64
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster.client.batch import Batcher
from cluster.client.rest import Client
from cluster.client.retry import RetryPolicy
from cluster.client.transport import HttpTransport
from cluster.metrics.client import ClientMetrics


class ConfigError(Exception):
    """The kubeconfig cannot be used; the message names the file and what is missing."""


@dataclass(frozen=True, slots=True, repr=False)
class ClientConfig:
    """One server and one identity, certificates as PEM. Picklable: it may travel to another
    process."""

    server: str
    ca_pem: bytes = b""
    cert_pem: bytes = b""
    key_pem: bytes = b""
    token: str = ""
    insecure: bool = False
    namespace: str = "default"
    user_agent: str = "kubestage"

    @classmethod
    def from_kubeconfig(cls, path: str | Path, context: str = "") -> ClientConfig:
        """Raises ConfigError."""
        path = Path(path)
        try:
            loaded = yaml.safe_load(path.read_text())
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: not YAML: {error}") from error
        if not isinstance(loaded, dict):
            raise ConfigError(f"{path}: not a kubeconfig")
        name = context or loaded.get("current-context") or ""
        chosen = _entry(path, loaded, "contexts", name, "context")
        server = _entry(path, loaded, "clusters", chosen.get("cluster", ""), "cluster")
        user = _entry(path, loaded, "users", chosen.get("user", ""), "user")
        return cls(
            server=str(server.get("server", "")),
            ca_pem=_data(path, server, "certificate-authority"),
            cert_pem=_data(path, user, "client-certificate"),
            key_pem=_data(path, user, "client-key"),
            token=_token(path, user),
            insecure=bool(server.get("insecure-skip-tls-verify")),
            namespace=str(chosen.get("namespace") or "default"),
        )

    def ssl_context(self) -> ssl.SSLContext | None:
        """None for plain http."""
        if not self.server.startswith("https"):
            return None
        try:
            context = ssl.create_default_context(cadata=self.ca_pem.decode() or None)
        except ssl.SSLError as error:
            raise ConfigError(f"{self.server}: certificate authority: {error}") from error
        # Clusters made by a test are younger than a second and their own authorities lack newer
        # extensions.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert_pem:
            try:
                _load_chain(context, self.cert_pem + b"\n" + self.key_pem)
            except ssl.SSLError as error:
                raise ConfigError(f"{self.server}: client certificate: {error}") from error
        return context

    def connect(
        self,
        *,
        metrics: ClientMetrics | None = None,
        retry: RetryPolicy | None = None,
        pool_size: int = 100,
        batches: bool = True,
    ) -> Client:
        """A client with connections and a batcher of its own; `await client.close()` when done."""
        transport = HttpTransport(self.server, self.ssl_context(), pool_size=pool_size)
        batcher = None
        if batches:
            batcher = Batcher(
                transport,
                token=self.token,
                user_agent=self.user_agent,
                retry=retry,
                metrics=metrics,
            )
        return Client(
            transport, token=self.token, user_agent=self.user_agent, batcher=batcher,
            metrics=metrics, retry=retry,
        )  # fmt: skip


def _entry(
    path: Path, loaded: dict[str, Any], section: str, name: str, field: str
) -> dict[str, Any]:
    found: object = loaded.get(section)
    for each in found if isinstance(found, list) else ():
        if isinstance(each, dict) and each.get("name") == name:
            return dict(each.get(field) or {})
    raise ConfigError(f"{path}: {section} has no entry {name!r}")


def _data(path: Path, entry: dict[str, Any], field: str) -> bytes:
    inline = entry.get(f"{field}-data")
    if inline:
        try:
            return base64.b64decode(inline, validate=True)
        except ValueError as error:
            raise ConfigError(f"{path}: {field}-data is not base64") from error
    named = entry.get(field)
    return _read(path.parent / named) if named else b""


def _token(path: Path, user: dict[str, Any]) -> str:
    if user.get("token"):
        return str(user["token"])
    named = user.get("tokenFile")
    return _read(path.parent / named).decode().strip() if named else ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def _load_chain(context: ssl.SSLContext, pem: bytes) -> None:
    """OpenSSL takes a key from a file only: an anonymous one in memory, never on a disk."""
    descriptor = os.memfd_create("client-identity", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
