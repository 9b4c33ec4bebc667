"""HTTP/1.1 over asyncio, as fast as Python goes: llhttp's parser, one protocol object a connection,
no framework.

Plays the part of Go's net/http server under kube-apiserver, the kubelet and every metrics endpoint.
Promises: answers in request order (pipelining), keep-alive, chunked bodies both ways,
WebSocket/SPDY takeover, back-pressure, a limit on everything with a clear answer (400, 408, 413,
414, 431), and a graceful stop. Leaves out HTTP/2: kubectl and client-go fall back to 1.1 by ALPN.
"""

from cluster.httpserver.messages import Handler, Limits, Request, Response, StreamResponse
from cluster.httpserver.raw import RawStream
from cluster.httpserver.server import HttpServer
from cluster.httpserver.tls import server_context

__all__ = [
    "Handler",
    "HttpServer",
    "Limits",
    "RawStream",
    "Request",
    "Response",
    "StreamResponse",
    "server_context",
]
