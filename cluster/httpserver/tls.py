"""TLS contexts of the cluster's servers."""

from __future__ import annotations

import ssl
from pathlib import Path


def server_context(
    cert: str | Path,
    key: str | Path,
    client_ca: str | Path | None = None,
    *,
    require_client: bool = False,
) -> ssl.SSLContext:
    """A TLS 1.2+ server context over PEM files. With `client_ca`, a client may (or, with
    `require_client`, must) show a certificate of that CA; one of another CA fails the handshake.

    # Unlike Kubernetes: a wrong client certificate ends the handshake instead of getting 401.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(str(cert), str(key))
    context.set_alpn_protocols(["http/1.1"])
    # Session tickets cost two encryptions a handshake and our clients keep their connections.
    context.num_tickets = 0
    if client_ca is not None:
        context.load_verify_locations(str(client_ca))
        context.verify_mode = ssl.CERT_REQUIRED if require_client else ssl.CERT_OPTIONAL
    return context
