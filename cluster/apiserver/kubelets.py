"""The way from the API server to a node: log, exec, attach, port-forward and the proxies.

Plays pkg/registry/core/{pod,node}/rest and k8s.io/apimachinery/pkg/util/proxy. An upgrade (SPDY,
WebSocket) becomes a raw tunnel: whatever protocol the client chose, it speaks it with the kubelet
itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httptools

from cluster.api.errors import BadRequest, NotFound, ServiceUnavailable, StatusError
from cluster.api.meta import NODES, Object
from cluster.apiserver.attributes import Registry
from cluster.apiserver.config import ApiServerConfig
from cluster.httpserver import RawStream, Request, Response, StreamResponse

CONNECT_SECONDS = 10.0
HEAD_BYTES = 64 * 1024
CHUNK_BYTES = 64 * 1024
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_FORWARDED = frozenset({"authorization", "host", "content-length", "accept-encoding"})


@dataclass(frozen=True, slots=True)
class Target:
    """Where to. `tls` None is plain HTTP."""

    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None = None
    server_name: str = ""


class Kubelets:
    """Finds the kubelet of a node and the credentials for it."""

    def __init__(self, config: ApiServerConfig, registry: Registry) -> None:
        self._registry = registry
        self._tls: ssl.SSLContext | None = None
        self._config = config

    def _context(self) -> ssl.SSLContext:
        """Kubelets are told apart by their address, which their certificates name; all must be of
        the cluster's CA."""
        if self._tls is None:
            config = self._config
            context = ssl.create_default_context(cafile=config.kubelet_ca or None)
            context.check_hostname = False
            if config.kubelet_client_cert:
                context.load_cert_chain(config.kubelet_client_cert, config.kubelet_client_key)
            self._tls = context
        return self._tls

    def target(self, node_name: str, path: str) -> Target:
        """The kubelet of a node. Raises NotFound, ServiceUnavailable."""
        node = self._registry.get(NODES, "", node_name)
        if node is None:
            raise NotFound(
                f'nodes "{node_name}" not found', details={"name": node_name, "kind": "nodes"}
            )
        status = node.get("status") or {}
        host = _address(status)
        endpoint = (status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
        port = int(endpoint.get("Port") or 10250)
        if not host:
            raise ServiceUnavailable(
                f"no preferred addresses found; known addresses: {status.get('addresses') or []}"
            )
        return Target(host, port, path, self._context(), host)


def _address(status: Mapping[str, Any]) -> str:
    addresses = {a.get("type"): a.get("address", "") for a in status.get("addresses") or ()}
    for kind in ("InternalIP", "Hostname", "ExternalIP"):
        if addresses.get(kind):
            return str(addresses[kind])
    return ""


async def forward(
    request: Request, target: Target, method: str = ""
) -> Response | StreamResponse | None:
    """Send a request on and give its answer back as it comes. None: the connection was taken
    over."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                target.host,
                target.port,
                ssl=target.tls,
                server_hostname=target.server_name or None if target.tls else None,
            )
    except (OSError, TimeoutError, ssl.SSLError) as error:
        raise ServiceUnavailable(
            f"error trying to reach service: dial tcp {target.host}:{target.port}: {error}"
        ) from error
    writer.write(_head(request, target, method or request.method) + request.body)
    if request.wants_upgrade:
        return await _tunnel(request, reader, writer)
    return await _stream(reader, writer)


def _head(request: Request, target: Target, method: str) -> bytes:
    lines = [f"{method} {target.path} HTTP/1.1", f"Host: {target.host}:{target.port}"]
    for name, value in request.headers.items():
        if name in _NOT_FORWARDED or name.startswith("impersonate-"):
            continue
        if name in _HOP_BY_HOP and not request.wants_upgrade:
            continue
        for single in request.repeated.get(name) or (value,):
            lines.append(f"{name}: {single}")
    if request.body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(request.body)}")
    if not request.wants_upgrade:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


async def _tunnel(
    request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Response | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
        writer.close()
        raise ServiceUnavailable(f"error trying to reach service: {error}") from error
    status = int(head.split(b" ", 2)[1])
    if status != 101:
        body = await _refusal_body(reader, head)
        writer.close()
        return Response(status, body, "text/plain; charset=utf-8")
    raw = request.upgrade()
    raw.write(head)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump_in(raw, writer))
            group.create_task(_pump_out(reader, raw))
    except* OSError:
        pass
    finally:
        writer.close()
        raw.close()
    return None


async def _refusal_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            length = min(int(value), HEAD_BYTES)
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        return await reader.readexactly(length)
    return b""


async def _pump_in(raw: RawStream, writer: asyncio.StreamWriter) -> None:
    while data := await raw.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError, NotImplementedError):
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()


async def _pump_out(reader: asyncio.StreamReader, raw: RawStream) -> None:
    while data := await reader.read(CHUNK_BYTES):
        raw.write(data)
        await raw.drain()
    raw.close()


class _ResponseParts:
    """llhttp callbacks of one answer."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.head_done = False
        self.done = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.head_done = True

    def on_body(self, body: bytes) -> None:
        self.chunks.append(body)

    def on_message_complete(self) -> None:
        self.done = True


async def _stream(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Response | StreamResponse:
    parts = _ResponseParts()
    parser = httptools.HttpResponseParser(parts)
    try:
        while not parts.head_done:
            data = await reader.read(CHUNK_BYTES)
            if not data:
                raise ServiceUnavailable("error trying to reach service: EOF")
            parser.feed_data(data)
    except (httptools.HttpParserError, OSError) as error:
        writer.close()
        raise ServiceUnavailable(f"error trying to reach service: {error}") from error
    except StatusError:
        writer.close()
        raise
    content_type = parts.headers.get("content-type", "text/plain")
    headers = {
        name.title(): value
        for name, value in parts.headers.items()
        if name not in _HOP_BY_HOP and name not in ("content-type", "content-length", "date")
    }
    status = parser.get_status_code()
    if parts.done:
        writer.close()
        return Response(status, b"".join(parts.chunks), content_type, headers)

    async def produce(stream: StreamResponse) -> None:
        try:
            while True:
                if parts.chunks:
                    data = b"".join(parts.chunks)
                    parts.chunks.clear()
                    await stream.write(data)
                if parts.done:
                    return
                received = await reader.read(CHUNK_BYTES)
                if not received:
                    return
                parser.feed_data(received)
        except httptools.HttpParserError:
            return
        finally:
            writer.close()

    return StreamResponse(status, headers, content_type, producer=produce)


def node_of(pod: Object) -> str:
    """The node of a pod. Raises BadRequest if it has none."""
    name = (pod.get("spec") or {}).get("nodeName")
    if not name:
        raise BadRequest(f"pod {pod['metadata']['name']} does not have a host assigned")
    return str(name)
