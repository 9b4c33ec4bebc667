"""How fast the API server is, over TLS, with RBAC and durable SQLite: POST, GET and LIST.

Raises a server of its own in a child process and loads it from this one with raw sockets: the
client must not be what is measured. Run: `python scripts/bench_apiserver.py [--seconds 5]`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import ssl
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import uvloop
import yaml
from prometheus_client import CollectorRegistry

from cluster.api.meta import SystemClock
from cluster.apiserver.certificates import PkiOptions, ensure_pki, write_kubeconfig
from cluster.apiserver.config import ApiServerConfig
from cluster.apiserver.server import ApiServer
from cluster.etcd.sqlite import SqliteStore
from cluster.metrics.apiserver import ApiServerMetrics
from cluster.metrics.etcd import StoreMetrics

TARGETS = {"POST ConfigMap": 3_500, "GET ConfigMap": 7_500, "LIST 500": 1_130, "BATCH pods": 1_000}
_READY_SECONDS = 30.0


# -- the server, in a process of its own ----------


async def serve(directory: Path) -> None:
    """Run an API server until stdin ends; prints its port once it is ready."""
    clock, registry = SystemClock(), CollectorRegistry()
    pki = ensure_pki(directory / "pki", PkiOptions(), clock)
    store = await SqliteStore.open(directory / "store.db", clock, StoreMetrics(registry))
    config = ApiServerConfig(
        tls_cert=str(pki.apiserver.cert),
        tls_key=str(pki.apiserver.key),
        client_ca=str(pki.ca_cert),
        service_account_key=str(pki.service_account_key),
        node_token_key=pki.node_token_key.read_bytes(),
    )
    server = ApiServer(
        config,
        store,
        clock,
        random.Random(),
        lambda: str(uuid.uuid4()),
        ApiServerMetrics(registry, config.kubernetes_version),
    )
    await server.start()
    # Not an administrator: system:masters would pass RBAC by.
    client = pki.clients["kube-controller-manager"]
    write_kubeconfig(
        directory / "bench.kubeconfig",
        server=server.url,
        ca_pem=pki.ca_pem(),
        cert_pem=client.cert.read_bytes(),
        key_pem=client.key.read_bytes(),
    )
    admin = pki.clients["admin"]
    write_kubeconfig(
        directory / "admin.kubeconfig",
        server=server.url,
        ca_pem=pki.ca_pem(),
        cert_pem=admin.cert.read_bytes(),
        key_pem=admin.key.read_bytes(),
    )
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0.5)
    await store.close()


# -- the load ----------


class Connection(asyncio.Protocol):
    """One keep-alive connection that always has one request under way."""

    def __init__(self, next_request: Callable[[], bytes | None], load: Load) -> None:
        self._next = next_request
        self._load = load
        self._buffer = bytearray()
        self._expected = -1
        self._transport: asyncio.Transport | None = None
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        request = self._next()
        assert self._transport is not None
        if request is None:
            self._transport.close()
            return
        self._sent = self._load.loop.time()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._expected < 0:
            head = self._buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            at = self._buffer.index(b"Content-Length: ") + 16
            length = int(self._buffer[at : self._buffer.index(b"\r", at)])
            self._expected = head + 4 + length
            if self._buffer[9:10] != b"2":
                self._load.failed += 1
                self._load.failure = bytes(self._buffer[:400])
        if len(self._buffer) >= self._expected:
            self._buffer.clear()
            self._expected = -1
            self._load.seconds.append(self._load.loop.time() - self._sent)
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.open -= 1
        if self._load.open == 0:
            self._load.done.set()


class Load:
    """Some connections that send for a while."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.seconds: list[float] = []
        self.failed = 0
        self.failure = b""
        self.server_cpu = 0.0
        self.open = 0
        self.done = asyncio.Event()

    async def run(
        self,
        address: tuple[str, int],
        tls: ssl.SSLContext,
        connections: int,
        duration: float,
        make: Callable[[int], bytes],
    ) -> float:
        """Requests a second."""
        started = self.loop.time()
        count = 0

        def next_request() -> bytes | None:
            nonlocal count
            if self.loop.time() - started > duration:
                return None
            count += 1
            return make(count)

        self.open = connections
        await asyncio.gather(
            *(
                self.loop.create_connection(
                    lambda: Connection(next_request, self),
                    *address,
                    ssl=tls,
                    server_hostname="localhost",
                )
                for _ in range(connections)
            )
        )
        await self.done.wait()
        return len(self.seconds) / (self.loop.time() - started)


@dataclass(frozen=True, slots=True)
class Access:
    """Where the server is and who we are."""

    address: tuple[str, int]
    tls: ssl.SSLContext


def access(kubeconfig: Path) -> Access:
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    host, _, port = cluster["server"].removeprefix("https://").partition(":")
    ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
    tls = ssl.create_default_context(cadata=ca)
    tls.check_hostname = False
    with tempfile.NamedTemporaryFile() as pem:
        for field in ("client-certificate-data", "client-key-data"):
            pem.write(base64.b64decode(user[field]))
        pem.flush()
        tls.load_cert_chain(pem.name)
    return Access((host, int(port)), tls)


def request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
    head += "User-Agent: bench\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def config_map(name: str) -> bytes:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {"app": "bench"}},
            "data": {"key": "value", "other": "x" * 100},
        }
    ).encode()


async def bench(
    admin: Access, client: Access, pid: int, seconds: float, only: str
) -> dict[str, tuple[float, Load]]:
    """Each figure with the load that measured it."""
    loop = asyncio.get_running_loop()
    run = uuid.uuid4().hex[:8]
    small, big = f"bench-{run}", f"bench-list-{run}"
    results: dict[str, tuple[float, Load]] = {}
    for namespace in (small, big):
        body = json.dumps({"metadata": {"name": namespace}}).encode()
        await once(admin, request("POST", "/api/v1/namespaces", body))
    account = json.dumps({"metadata": {"name": "bench", "namespace": small}}).encode()
    await once(admin, request("POST", f"/api/v1/namespaces/{small}/serviceaccounts", account))
    base = f"/api/v1/namespaces/{small}/configmaps"
    listed = f"/api/v1/namespaces/{big}/configmaps"
    for i in range(500):
        await once(admin, request("POST", listed, config_map(f"c-{i:04d}")))
    plan: list[tuple[str, int, Callable[[int], bytes]]] = [
        ("POST ConfigMap", 16, lambda i: request("POST", base, config_map(f"c-{run}-{i}"))),
        ("GET ConfigMap", 16, lambda i: request("GET", f"{listed}/c-0001")),
        ("LIST 500", 4, lambda i: request("GET", listed)),
    ]
    for title, connections, make in plan:
        if only and only not in title:
            continue
        load = Load(loop)
        who = admin if title.startswith("POST") else client
        before = cpu_seconds(pid)
        rate = await load.run(who.address, who.tls, connections, seconds, make)
        load.server_cpu = cpu_seconds(pid) - before
        results[title] = (rate, load)
    if not only or only in "BATCH pods":
        results["BATCH pods"] = await bench_pods(admin, small, pid)
    return results


PODS = 2_000
PODS_A_BATCH = 50


async def bench_pods(admin: Access, namespace: str, pid: int) -> tuple[float, Load]:
    """Pods a second on their way through the API server alone, as our components send them: create,
    bind, an event, and three statuses, in batches, with four watches on all pods."""
    load = Load(asyncio.get_running_loop())
    watchers = [await watch_all(admin, "/api/v1/pods?watch=true") for _ in range(4)]
    before, started = cpu_seconds(pid), load.loop.time()
    queue = [list(range(i, i + PODS_A_BATCH)) for i in range(0, PODS, PODS_A_BATCH)]

    def batches() -> Iterator[list[dict[str, Any]]]:
        for numbers in queue:
            yield from pod_batches(namespace, numbers)

    pending = batches()

    def next_request() -> bytes | None:
        batch = next(pending, None)
        if batch is None:
            return None
        return request("POST", "/apis/kubestage.io/v1/batch", json.dumps(batch).encode())

    # One connection: a batch needs the ones before it to be done.
    load.open = 1
    await load.loop.create_connection(
        lambda: Connection(next_request, load),
        *admin.address,
        ssl=admin.tls,
        server_hostname="localhost",
    )
    await load.done.wait()
    seconds = load.loop.time() - started
    load.server_cpu = (cpu_seconds(pid) - before) / PODS * len(load.seconds)
    for watcher in watchers:
        watcher.close()
    return PODS / seconds, load


def pod_batches(namespace: str, numbers: list[int]) -> Iterator[list[dict[str, Any]]]:
    base = f"/api/v1/namespaces/{namespace}/pods"
    patch = "application/strategic-merge-patch+json"
    yield [{"m": "POST", "p": base, "b": pod(f"p-{i}"), "a": 1} for i in numbers]
    target = {"kind": "Node", "name": "node-1"}
    yield [
        {"m": "POST", "p": f"{base}/p-{i}/binding", "b": {"target": target}, "a": 0}
        for i in numbers
    ]
    yield [
        {"m": "POST", "p": base.replace("pods", "events"), "b": event(namespace, i), "a": 0}
        for i in numbers
    ]
    for phase, ready in (("Pending", "False"), ("Running", "False"), ("Running", "True")):
        status = {
            "status": {
                "phase": phase,
                "podIP": "10.244.0.9",
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [
                    {
                        "name": "c",
                        "image": "nginx",
                        "imageID": "x",
                        "ready": True,
                        "restartCount": 0,
                    }
                ],
            }
        }
        yield [
            {"m": "PATCH", "p": f"{base}/p-{i}/status", "b": status, "a": 0, "c": patch}
            for i in numbers
        ]


def pod(name: str) -> dict[str, Any]:
    container = {
        "name": "c",
        "image": "nginx",
        "ports": [{"containerPort": 80}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    }
    metadata = {"name": name, "labels": {"app": "bench", "pod-template-hash": "abc"}}
    return {
        "metadata": metadata,
        "spec": {"containers": [container], "serviceAccountName": "bench"},
    }


def event(namespace: str, i: int) -> dict[str, Any]:
    return {
        "metadata": {"name": f"p-{i}.1"},
        "involvedObject": {"kind": "Pod", "namespace": namespace, "name": f"p-{i}"},
        "reason": "Scheduled",
        "type": "Normal",
        "message": "Successfully assigned",
    }


async def watch_all(who: Access, path: str) -> asyncio.Transport:
    """A watch whose events are read and forgotten."""
    transport, _ = await asyncio.get_running_loop().create_connection(
        asyncio.Protocol, *who.address, ssl=who.tls, server_hostname="localhost"
    )
    transport.write(request("GET", path))
    return transport


def cpu_seconds(pid: int) -> float:
    """What a process has used so far: on a shared machine a fairer measure than the clock."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def once(who: Access, data: bytes) -> None:
    load = Load(asyncio.get_running_loop())
    left = [data]
    load.open = 1
    await load.loop.create_connection(
        lambda: Connection(lambda: left.pop() if left else None, load),
        *who.address,
        ssl=who.tls,
        server_hostname="localhost",
    )
    await load.done.wait()
    if load.failed:
        raise RuntimeError(load.failure.decode(errors="replace"))


async def measure(seconds: float, only: str) -> int:
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        child = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--serve", temporary,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert child.stdin is not None and child.stdout is not None
        try:
            await asyncio.wait_for(child.stdout.readline(), _READY_SECONDS)
            results = await bench(
                access(directory / "admin.kubeconfig"),
                access(directory / "bench.kubeconfig"),
                child.pid,
                seconds,
                only,
            )
        finally:
            child.stdin.close()
            await child.wait()
    return report(results)


def report(results: dict[str, tuple[float, Load]]) -> int:
    missed = 0
    for title, (rate, load) in results.items():
        times = sorted(load.seconds)
        p50, p99 = times[len(times) // 2] * 1e3, times[int(len(times) * 0.99)] * 1e3
        target = TARGETS[title]
        verdict = "ok" if rate >= target else "MISSED"
        missed += rate < target
        print(
            f"{title:16} {rate:8.0f}/s  target {target:6}/s  p50 {p50:6.2f} ms  p99 {p99:6.2f} ms  "
            f"server CPU {load.server_cpu / len(times) * 1e6:4.0f} us  failed "
            f"{load.failed}  {verdict}"
        )
        if load.failed:
            print(load.failure.decode(errors="replace"))
    return 1 if missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument("--only", default="", help="measure what has this in its name, e.g. POST")
    arguments = parser.parse_args()
    if arguments.serve:
        uvloop.run(serve(arguments.serve))
        return 0
    return uvloop.run(measure(arguments.seconds, arguments.only))


if __name__ == "__main__":
    sys.exit(main())
