"""What emulated servers answer: pure functions from a request to a response.

Plays the programs inside well-known images: nginx, Apache httpd, agnhost netexec and
serve-hostname, redis, an echo. Every answer names its pod, so that whoever calls a Service sees who
answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request to an emulated server. `peer` is `address:port`."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""
    peer: str = ""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Identity:
    """Who answers. `state` holds what a workload remembers (redis' keys, netexec's health)."""

    pod: str
    namespace: str
    node: str
    ip: str
    hostname: str
    image: str
    container: str
    state: dict[str, str] = field(default_factory=dict)


HttpHandler = Callable[[Identity, HttpRequest], HttpAnswer]

REASONS = {
    200: "OK",
    201: "Created",
    204: "No Content",
    301: "Moved Permanently",
    302: "Found",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    412: "Precondition Failed",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def encode(answer: HttpAnswer, server: str, *, head: bool = False, close: bool = False) -> bytes:
    """The answer as HTTP/1.1."""
    reason = REASONS.get(answer.status, "Status")
    lines = [
        f"HTTP/1.1 {answer.status} {reason}",
        f"Server: {server}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        f"Connection: {'close' if close else 'keep-alive'}",
        *(f"{name}: {value}" for name, value in answer.headers),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if head else answer.body)


_NGINX_ERROR = (
    b"<html>\r\n<head><title>%s</title></head>\r\n<body>\r\n"
    b"<center><h1>%s</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


def nginx(who: Identity, request: HttpRequest) -> HttpAnswer:
    """The welcome page, with the pod's name in it."""
    path = urlsplit(request.target).path
    if path not in ("/", "/index.html"):
        return HttpAnswer(404, _NGINX_ERROR % (b"404 Not Found", b"404 Not Found"), "text/html")
    if request.method not in ("GET", "HEAD"):
        return HttpAnswer(405, _NGINX_ERROR % (b"405 Not Allowed", b"405 Not Allowed"), "text/html")
    page = (
        "<!DOCTYPE html>\n<html>\n<head>\n<title>Welcome to nginx!</title>\n</head>\n<body>\n"
        "<h1>Welcome to nginx!</h1>\n"
        f"<p>Pod: {who.pod}</p>\n<p>Namespace: {who.namespace}</p>\n<p>Node: {who.node}</p>\n"
        f"<p>IP: {who.ip}</p>\n<p><em>Thank you for using nginx.</em></p>\n</body>\n</html>\n"
    )
    return HttpAnswer(200, page.encode(), "text/html")


def httpd(who: Identity, request: HttpRequest) -> HttpAnswer:
    """Apache's `It works!`."""
    path = urlsplit(request.target).path
    if path not in ("/", "/index.html"):
        return HttpAnswer(
            404,
            b"<h1>Not Found</h1><p>The requested URL was not found on this server.</p>\n",
            "text/html",
        )
    page = f"<html><body><h1>It works!</h1><p>Pod: {who.pod}</p></body></html>\n"
    return HttpAnswer(200, page.encode(), "text/html")


def hostname(who: Identity, request: HttpRequest) -> HttpAnswer:
    """agnhost serve-hostname: the host name and nothing else."""
    return HttpAnswer(200, who.hostname.encode())


def netexec(who: Identity, request: HttpRequest) -> HttpAnswer:
    """agnhost netexec's HTTP endpoints."""
    parts = urlsplit(request.target)
    path, query = parts.path, parse_qs(parts.query, keep_blank_values=True)
    if path in ("/hostname", "/hostName"):
        return HttpAnswer(200, who.hostname.encode())
    if path == "/echo":
        code = query.get("code", ["200"])[0]
        return HttpAnswer(int(code) if code.isdigit() else 200, query.get("msg", [""])[0].encode())
    if path == "/clientip":
        return HttpAnswer(200, request.peer.encode())
    if path == "/header":
        return HttpAnswer(200, request.headers.get(query.get("key", [""])[0].lower(), "").encode())
    if path in ("/healthz", "/readyz"):
        healthy = who.state.get("unhealthy") != "1"
        return HttpAnswer(200, b"") if healthy else HttpAnswer(412, b"")
    if path == "/healthz/fail":
        who.state["unhealthy"] = "1"
        return HttpAnswer(200, b"")
    if path == "/redirect":
        location = query.get("location", ["/"])[0]
        code = query.get("code", ["302"])[0]
        return HttpAnswer(
            int(code) if code.isdigit() else 302, b"", headers=(("Location", location),)
        )
    if path.startswith("/exit"):
        return HttpAnswer(200, b"", headers=(("X-Kubestage-Exit", query.get("code", ["0"])[0]),))
    if path == "/":
        return HttpAnswer(200, b"NOW: " + who.hostname.encode())
    return HttpAnswer(404, b"404 page not found\n")


def generic(who: Identity, request: HttpRequest) -> HttpAnswer:
    """An image we know nothing of: 200 for every path, with the pod's name."""
    path = unquote(urlsplit(request.target).path)
    text = (
        f"Pod: {who.pod}\nNamespace: {who.namespace}\nNode: {who.node}\nIP: {who.ip}\n"
        f"Image: {who.image}\nPath: {path}\n"
    )
    return HttpAnswer(200, text.encode())


def netexec_udp(who: Identity, data: bytes, peer: str) -> bytes:
    """agnhost netexec's UDP commands: `echo TEXT`, `hostname`, `clientip`."""
    command, _, rest = data.strip().partition(b" ")
    word = command.lower()
    if word in (b"hostname",):
        return who.hostname.encode()
    if word == b"echo":
        return rest
    if word == b"clientip":
        return peer.encode()
    return b""


def redis(who: Identity, words: list[bytes]) -> bytes:
    """One redis command; RESP2 answer."""
    name = words[0].upper() if words else b""
    if name == b"PING":
        return _bulk(words[1]) if len(words) > 1 else b"+PONG\r\n"
    if name == b"ECHO" and len(words) == 2:
        return _bulk(words[1])
    if name == b"SET" and len(words) >= 3:
        who.state[words[1].decode("latin-1")] = words[2].decode("latin-1")
        return b"+OK\r\n"
    if name == b"GET" and len(words) == 2:
        value = who.state.get(words[1].decode("latin-1"))
        return b"$-1\r\n" if value is None else _bulk(value.encode("latin-1"))
    if name in (b"DEL", b"EXISTS") and len(words) >= 2:
        keys = [w.decode("latin-1") for w in words[1:]]
        found = [k for k in keys if k in who.state]
        if name == b"DEL":
            for key in found:
                who.state.pop(key, None)
        return b":%d\r\n" % len(found)
    if name in (b"INCR", b"DECR") and len(words) == 2:
        return _incr(who, words[1].decode("latin-1"), 1 if name == b"INCR" else -1)
    if name == b"DBSIZE":
        return b":%d\r\n" % len(who.state)
    if name in (b"FLUSHALL", b"FLUSHDB"):
        who.state.clear()
        return b"+OK\r\n"
    if name == b"INFO":
        lines = (
            "# Server", "redis_version:7.4.0", "redis_mode:standalone", "os:Linux", "tcp_port:6379",
            "# Replication", "role:master", "connected_slaves:0", "# Keyspace",
            f"db0:keys={len(who.state)}",
        )  # fmt: skip
        return _bulk("".join(f"{line}\r\n" for line in lines).encode())
    if name in (b"SELECT", b"AUTH", b"QUIT", b"CLIENT"):
        return b"+OK\r\n"
    if name in (b"COMMAND", b"CONFIG"):
        return b"*0\r\n"
    shown = (words[0] if words else b"").decode("latin-1")
    return f"-ERR unknown command '{shown}'\r\n".encode()


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(value), value)


def _incr(who: Identity, key: str, by: int) -> bytes:
    try:
        value = int(who.state.get(key, "0")) + by
    except ValueError:
        return b"-ERR value is not an integer or out of range\r\n"
    who.state[key] = str(value)
    return b":%d\r\n" % value
