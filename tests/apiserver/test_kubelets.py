"""log, exec, port-forward and the proxies, with a kubelet that is only an HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cluster.api.meta import SystemClock
from cluster.apiserver.certificates import CertificateAuthority
from cluster.httpserver import HttpServer, Request, Response, StreamResponse, server_context
from tests.apiserver.api import ADMIN, Api, head, read_head, running
from tests.apiserver.test_list_watch import bind

SPEC = {"containers": [{"name": "c", "image": "i"}]}


def kubelet(request: Request) -> Any:
    if request.peer_cert is None:
        return Response(401, b"no certificate", "text/plain")
    if request.path.startswith("/containerLogs/"):
        return StreamResponse(200, content_type="text/plain", producer=logs)
    if request.wants_upgrade and "refused" in request.query.get("command", ()):
        return Response(400, b"not this command", "text/plain")
    if request.wants_upgrade:
        return echo(request)
    return Response(200, f"{request.method} {request.path}?{request.query_string}".encode())


async def logs(stream: StreamResponse) -> None:
    for i in range(3):
        await stream.write(b"line %d\n" % i)
        await asyncio.sleep(0.001)


async def echo(request: Request) -> None:
    raw = request.upgrade()
    first = f"{request.path}?{request.query_string}\n"
    raw.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\n\r\n" + first.encode())
    while data := await raw.read():
        raw.write(data)
    raw.close()


@asynccontextmanager
async def cluster(directory: Path) -> AsyncIterator[tuple[Api, str]]:
    """An API server, a kubelet, a node and a pod on it."""
    ca = CertificateAuthority.create("test", SystemClock())
    (directory / "ca.crt").write_bytes(ca.cert_pem)
    for name, server in (("kubelet", True), ("client", False)):
        cert, key = ca.issue(name, server=server, ips=("127.0.0.1",) if server else ())
        (directory / f"{name}.crt").write_bytes(cert)
        (directory / f"{name}.key").write_bytes(key)
    tls = server_context(directory / "kubelet.crt", directory / "kubelet.key", directory / "ca.crt")
    node_server = HttpServer(kubelet, ssl_context=tls)
    await node_server.start()
    try:
        async with running(
            directory,
            kubelet_ca=str(directory / "ca.crt"),
            kubelet_client_cert=str(directory / "client.crt"),
            kubelet_client_key=str(directory / "client.key"),
        ) as api:
            node = await api.ok("POST", "/api/v1/nodes", {"metadata": {"name": "n1"}})
            node["status"] = {
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": node_server.port}},
            }
            await api.ok("PUT", "/api/v1/nodes/n1/status", node)
            ns = await api.namespace()
            await api.ok("POST", f"{ns}/pods", {"metadata": {"name": "p"}, "spec": SPEC})
            await bind(api, ns, "p", "n1")
            yield api, ns
    finally:
        await node_server.stop(0.1)


def test_logs_come_from_the_kubelet_as_they_are_written(tmp_path: Path) -> None:
    async def steps() -> None:
        async with cluster(tmp_path) as (api, ns):
            answer = await api("GET", f"{ns}/pods/p/log?tailLines=5")
            assert (answer.status, answer.body) == (200, b"line 0\nline 1\nline 2\n")
            wrong = await api("GET", f"{ns}/pods/p/log?container=x")
            assert wrong.message == "container x is not valid for pod p"
            assert (await api("GET", f"{ns}/pods/p/log?tailLines=-1")).status == 422
            await api.ok("POST", f"{ns}/pods", {"metadata": {"name": "q"}, "spec": SPEC})
            assert (await api("GET", f"{ns}/pods/q/log")).body == b""

    asyncio.run(steps())


def test_exec_is_a_tunnel_to_the_kubelet(tmp_path: Path) -> None:
    async def steps() -> None:
        async with cluster(tmp_path) as (api, ns):
            path = f"{ns}/pods/p/exec?command=ls&command=-l&stdin=true&stdout=true"
            upgrade = {"Upgrade": "SPDY/3.1"}
            reader, writer = await api.connect()
            data = head("POST", path, b"", token=ADMIN, headers=upgrade)
            writer.write(data.replace(b"Connection: close", b"Connection: Upgrade"))
            status, headers = await read_head(reader)
            assert (status, headers["upgrade"]) == (101, "SPDY/3.1")
            name = ns.rpartition("/")[2]
            line = await reader.readline()
            assert line == f"/exec/{name}/p/c?input=1&output=1&command=ls&command=-l\n".encode()
            writer.write(b"x" * 300_000)
            assert await reader.readexactly(300_000) == b"x" * 300_000
            writer.close()
            assert (await api("POST", path)).message == "Upgrade request required"
            assert (await api("POST", f"{ns}/pods/p/exec?stdout=1")).status == 400

    asyncio.run(steps())


def test_a_kubelets_refusal_of_an_upgrade_reaches_the_client(tmp_path: Path) -> None:
    async def steps() -> None:
        async with cluster(tmp_path) as (api, ns):
            path = f"{ns}/pods/p/exec?command=refused&stdout=true"
            reader, writer = await api.connect()
            data = head("POST", path, b"", token=ADMIN, headers={"Upgrade": "SPDY/3.1"})
            writer.write(data.replace(b"Connection: close", b"Connection: Upgrade"))
            status, _ = await read_head(reader)
            assert status == 400
            assert await reader.readexactly(16) == b"not this command"
            writer.close()

    asyncio.run(steps())


def test_the_node_proxy_passes_path_and_query_on(tmp_path: Path) -> None:
    async def steps() -> None:
        async with cluster(tmp_path) as (api, _):
            answer = await api("GET", "/api/v1/nodes/n1/proxy/stats/summary?only=cpu")
            assert answer.body == b"GET /stats/summary?only=cpu"
            gone = await api("GET", "/api/v1/nodes/none/proxy/x")
            assert (gone.status, gone.message) == (404, 'nodes "none" not found')

    asyncio.run(steps())
