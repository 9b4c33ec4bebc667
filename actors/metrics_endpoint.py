"""The /metrics endpoint of an actor: HTTPS, for client certificates of the cluster's CA only.

/healthz alone answers without one. Certificates in a group that may read metrics are let in:
system:masters and system:monitoring, as Kubernetes' bootstrap roles have it.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography import x509
from cryptography.x509.oid import NameOID

from actors.context import Context
from actors.credentials import CredentialFiles
from cluster.httpserver import HttpServer, Request, Response, server_context

READERS = frozenset({"system:masters", "system:monitoring"})
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class MetricsEndpoint:
    """Serves one actor's metrics on a port of its host's underlay address."""

    def __init__(self, collect: Callable[[], bytes], context: Context) -> None:
        self._collect = collect
        self._context = context
        files = CredentialFiles(context.serving, context.state_dir / "metrics-tls")
        tls = server_context(files.cert, files.key, files.ca)
        self._server = HttpServer(self.handle, ssl_context=tls)

    async def start(self) -> int:
        """Listen; the port."""
        await self._server.start(host=self._context.host.host.underlay_ip)
        return self._server.port

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        if request.path == "/healthz":
            return Response(200, body=b"ok", content_type="text/plain")
        if not request.peer_cert:
            return Response(401, body=b"Unauthorized", content_type="text/plain")
        if not READERS & organizations(request.peer_cert):
            return Response(403, body=b"Forbidden", content_type="text/plain")
        if request.path != "/metrics":
            return Response(404, body=b"404 page not found", content_type="text/plain")
        return Response(200, body=self._collect(), content_type=_TEXT)


def organizations(certificate_der: bytes) -> set[str]:
    """The groups that a client certificate carries."""
    subject = x509.load_der_x509_certificate(certificate_der).subject
    names = subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return {str(name.value) for name in names}
