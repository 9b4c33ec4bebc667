"""How an AdmissionReview gets to a webhook: HTTPS, by URL or by Service."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from cluster.api.meta import SERVICES
from cluster.apiserver.attributes import Registry
from cluster.apiserver.authz.messages import quoted

MAX_ANSWER_BYTES = 3 * 1024 * 1024
_CONTEXTS = 256

Resolve = Callable[[str, str, int], tuple[str, int]]
"""(namespace, service, port) -> address to connect to. Raises CallFailed."""


class CallFailed(Exception):
    """The webhook could not be asked; the message says why, as upstream's does."""


def cluster_ip_resolver(registry: Registry) -> Resolve:
    """The Service's cluster IP, as upstream's default resolver."""

    def resolve(namespace: str, name: str, port: int) -> tuple[str, int]:
        service = registry.get(SERVICES, namespace, name)
        if service is None:
            raise CallFailed(f"service {quoted(name)} not found")
        spec = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            return str(spec.get("externalName")), port
        if not any(p.get("port") == port for p in spec.get("ports") or ()):
            raise CallFailed(f"no service port {port} found for service {quoted(name)}")
        address = spec.get("clusterIP")
        if not address or address == "None":
            raise CallFailed(f"service {quoted(name)} has no cluster IP")
        return str(address), port

    return resolve


class WebhookClient:
    """Keeps connections open, and a TLS context for each CA bundle."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def call(self, client: Mapping[str, Any], body: bytes, timeout_seconds: int) -> bytes:
        """POST the review. Raises CallFailed."""
        shown, url, server_name = self._address(client)
        query = f"timeout={timeout_seconds}s"
        shown, url = f"{shown}?{query}", f"{url}?{query}"
        context = self._context(str(client.get("caBundle") or ""))
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=True)
        headers = {"Content-Type": "application/json", "Accept": "application/json, */*"}
        if server_name:
            headers["Host"] = server_name
        try:
            async with self._session.post(
                url,
                data=body,
                headers=headers,
                ssl=context,
                server_hostname=server_name or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            ) as response:
                answer = await response.content.read(MAX_ANSWER_BYTES + 1)
                if len(answer) > MAX_ANSWER_BYTES:
                    raise CallFailed("the answer is too large")
                if response.status != 200:
                    raise CallFailed(_status_text(response.status))
                return answer
        except TimeoutError:
            why = "context deadline exceeded"
        except aiohttp.ClientConnectorCertificateError as error:
            why = f"tls: failed to verify certificate: x509: {error.certificate_error}"
        except aiohttp.ClientConnectorDNSError as error:
            why = f"dial tcp: lookup {error.host}: no such host"
        except aiohttp.ClientConnectorError as error:
            said = os.strerror(error.errno).lower() if error.errno else str(error)
            why = f"dial tcp {error.host}:{error.port}: connect: {said}"
        except (aiohttp.ClientError, ssl.SSLError, OSError, asyncio.IncompleteReadError) as error:
            why = str(error) or type(error).__name__
        raise CallFailed(f"Post {quoted(shown)}: {why}")

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def forget(self) -> None:
        """The configurations have changed: their CA bundles may have, too."""
        self._contexts.clear()

    def _address(self, client: Mapping[str, Any]) -> tuple[str, str, str]:
        """(URL as it is shown, URL to connect to, server name of the certificate)"""
        service = client.get("service")
        if not service:
            url = str(client.get("url") or "")
            return url, url, ""
        namespace, name = str(service["namespace"]), str(service["name"])
        port = int(service.get("port") or 443)
        path = "/" + str(service.get("path") or "").lstrip("/")
        host, target_port = self._resolve(namespace, name, port)
        server_name = f"{name}.{namespace}.svc"
        address = f"[{host}]" if ":" in host else host
        return (
            f"https://{server_name}:{port}{path}",
            f"https://{address}:{target_port}{path}",
            server_name,
        )

    def _context(self, bundle: str) -> ssl.SSLContext:
        known = self._contexts.get(bundle)
        if known is None:
            if bundle:
                try:
                    pem = base64.b64decode(bundle).decode()
                    known = ssl.create_default_context(cadata=pem)
                except (binascii.Error, UnicodeDecodeError, ssl.SSLError, ValueError):
                    raise CallFailed("unable to load root certificates") from None
            else:
                known = ssl.create_default_context()
            if len(self._contexts) >= _CONTEXTS:
                self._contexts.clear()
            self._contexts[bundle] = known
        return known


def _status_text(status: int) -> str:
    return {
        401: "the server has asked for the client to provide credentials",
        403: "forbidden",
        404: "the server could not find the requested resource",
        500: "an error on the server has prevented the request from succeeding",
        503: "the server is currently unable to handle the request",
    }.get(status, "the server rejected our request for an unknown reason")
