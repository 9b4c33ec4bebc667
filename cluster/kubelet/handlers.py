"""What probes and lifecycle hooks do: HTTP, TCP and commands against a running container.

Plays pkg/probe and pkg/kubelet/lifecycle/handlers.go. Connections go from this host to the pod's
own address; where the pod network is emulated the workload is asked in memory.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.api.meta import Object
from cluster.runtime.answers import HttpRequest
from cluster.runtime.model import Container, RuntimeFailure, Sandbox
from cluster.runtime.service import RuntimeService

BODY_BYTES = 10 * 1024
OUTPUT_BYTES = 10 * 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ok`, or the text of the Unhealthy event. `unknown`: the probe itself could not run."""

    ok: bool
    output: str = ""
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """The container that is asked."""

    sandbox: Sandbox
    container: Container
    spec: Object
    env: Mapping[str, str] | None = None

    @property
    def emulated(self) -> bool:
        return not self.sandbox.network.netns_path and not self.sandbox.config.host_network


async def run_handler(
    runtime: RuntimeService, target: Target, handler: Object, timeout_seconds: float, agent: str
) -> Verdict:
    """An exec, httpGet, tcpSocket, grpc or sleep handler to its end."""
    if (action := handler.get("exec")) is not None:
        return await _exec(runtime, target, action.get("command") or [], timeout_seconds)
    if (action := handler.get("httpGet")) is not None:
        return await _http(runtime, target, action, timeout_seconds, agent)
    if (action := handler.get("tcpSocket")) is not None:
        return await _tcp(runtime, target, action.get("host"), action["port"], timeout_seconds)
    if (action := handler.get("grpc")) is not None:
        # Unlike Kubernetes: a connection that opens counts as SERVING.
        return await _tcp(runtime, target, None, action["port"], timeout_seconds)
    if (action := handler.get("sleep")) is not None:
        await asyncio.sleep(action.get("seconds", 0))
        return Verdict(True)
    return Verdict(True)


def port_number(spec: Object, port: int | str) -> int:
    """A port given by number or by a container port's name. Raises ValueError."""
    if isinstance(port, int):
        return port
    for declared in spec.get("ports") or ():
        if declared.get("name") == port:
            return int(declared["containerPort"])
    if port.isdigit():
        return int(port)
    raise ValueError(f"couldn't find port: {port}")


async def _exec(
    runtime: RuntimeService, target: Target, command: list[str], timeout_seconds: float
) -> Verdict:
    try:
        result = await runtime.exec_sync(
            target.container.id, command, timeout_seconds, env=target.env
        )
    except TimeoutError:
        shown = " ".join(command)
        return Verdict(False, f'command timed out: "{shown}" timed out after {timeout_seconds:g}s')
    except RuntimeFailure as error:
        return Verdict(False, str(error), unknown=True)
    output = (result.stdout + result.stderr)[:OUTPUT_BYTES].decode(errors="replace")
    return Verdict(result.exit_code == 0, output)


async def _tcp(
    runtime: RuntimeService, target: Target, host: str | None, port: int | str, timeout: float
) -> Verdict:
    ip = host or target.sandbox.ip
    try:
        number = port_number(target.spec, port)
    except ValueError as error:
        return Verdict(False, str(error), unknown=True)
    try:
        if target.emulated:
            runtime.local_endpoint(target.sandbox.id, number)
            return Verdict(True)
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(ip, number)
            writer.close()
    except TimeoutError:
        return Verdict(False, f"dial tcp {ip}:{number}: i/o timeout")
    except OSError as error:
        return Verdict(False, f"dial tcp {ip}:{number}: {_errno_text(error)}")
    return Verdict(True)


async def _http(
    runtime: RuntimeService, target: Target, action: Object, timeout: float, agent: str
) -> Verdict:
    scheme = (action.get("scheme") or "HTTP").lower()
    host = action.get("host") or target.sandbox.ip
    path = action.get("path") or "/"
    path = path if path.startswith("/") else "/" + path
    try:
        port = port_number(target.spec, action["port"])
    except ValueError as error:
        return Verdict(False, str(error), unknown=True)
    url = f"{scheme}://{host}:{port}{path}"
    headers = {"Host": f"{host}:{port}", "User-Agent": agent, "Accept": "*/*"}
    for header in action.get("httpHeaders") or ():
        headers[header["name"]] = header.get("value", "")
    try:
        if target.emulated:
            lower = {k.lower(): v for k, v in headers.items()}
            request = HttpRequest("GET", path, lower, peer="127.0.0.1:0")
            status = runtime.local_http(target.sandbox.id, port, request).status
        else:
            async with asyncio.timeout(timeout):
                status = await _get_status(scheme, host, port, path, headers)
    except TimeoutError:
        return Verdict(
            False,
            f'Get "{url}": context deadline exceeded '
            "(Client.Timeout exceeded while awaiting headers)",
        )
    except (OSError, EOFError, ValueError) as error:
        text = f"dial tcp {host}:{port}: {_errno_text(error)}"
        if isinstance(error, EOFError):
            text = "EOF"
        elif isinstance(error, ValueError):
            text = f"net/http: HTTP/1.x transport connection broken: {error}"
        return Verdict(False, f'Get "{url}": {text}')
    if 200 <= status < 400:
        return Verdict(True)
    return Verdict(False, f"HTTP probe failed with statuscode: {status}")


async def _get_status(
    scheme: str, host: str, port: int, path: str, headers: Mapping[str, str]
) -> int:
    context: ssl.SSLContext | None = None
    if scheme == "https":
        # As upstream: a probe does not verify the certificate.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        lines = [f"GET {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        writer.write(("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode())
        first = await reader.readline()
        if not first:
            raise EOFError
        words = first.split()
        if len(words) < 2 or not first.startswith(b"HTTP/"):
            raise ValueError(f'malformed HTTP response "{first[:40].decode("latin-1").strip()}"')
        await reader.read(BODY_BYTES)
        return int(words[1])
    finally:
        writer.close()


def _errno_text(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connect: connection refused"
    number = getattr(error, "errno", None)
    texts = {113: "connect: no route to host", 101: "connect: network is unreachable",
             104: "read: connection reset by peer"}  # fmt: skip
    return texts.get(number or 0, str(error))
