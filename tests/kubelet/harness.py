"""A real API server and a pool of kubelets in one process, with an emulated pod network."""

from __future__ import annotations

import asyncio
import random
import ssl
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from cluster.api.errors import NotFound
from cluster.api.meta import NODES, PODS, SERVICEACCOUNTS, Object, SystemClock
from cluster.apiserver.certificates import CertificateAuthority
from cluster.apiserver.config import ApiServerConfig
from cluster.apiserver.server import ApiServer
from cluster.apiserver.tokens import NodeTokens
from cluster.client import Batcher, Client, HttpTransport
from cluster.etcd.sqlite import SqliteStore
from cluster.kubelet import KubeletConfig, KubeletPool, NodeSpec
from cluster.metrics.apiserver import ApiServerMetrics
from cluster.metrics.etcd import StoreMetrics
from cluster.runtime import EmulatedPodNetwork, ImageConfig, RuntimeConfig, RuntimeService

KEY = b"k" * 32


def new_uid() -> str:
    return str(uuid.uuid4())


class Stage:
    """What a test holds: an admin's client, the pool, its runtime."""

    def __init__(
        self, client: Client, connect: Callable[[str], Client], state: Path, url: str
    ) -> None:
        self.url = url
        self.certificates: dict[str, Any] = {
            "tls_cert": str(state / "kubelet.crt"),
            "tls_key": str(state / "kubelet.key"),
            "client_ca": str(state / "ca.crt"),
        }
        self.client = client
        self._connect = connect
        self._state = state
        self.pool: KubeletPool
        self.runtime: RuntimeService

    async def raise_pool(self, nodes: int = 1, **settings: Any) -> None:
        clock = SystemClock()
        network = settings.pop("network", None) or EmulatedPodNetwork()
        cidr = settings.pop("cidr", "10.244.{}.0/24")
        images = ImageConfig(registry_seconds=0.001, bandwidth_bytes_per_second=1e12)
        self.runtime = RuntimeService(
            network, clock, random.Random(1), config=RuntimeConfig(self._state / "runtime", images)
        )
        await self.runtime.start()
        shared = self._connect("host")
        tokens = NodeTokens(KEY)
        config = KubeletConfig(
            state_dir=self._state / "kubelet", server_port=0, **self.certificates,
            crash_backoff_initial_seconds=settings.pop("backoff", 10.0), **settings,
        )  # fmt: skip
        self.pool = KubeletPool(
            config, shared, lambda node: shared.with_token(tokens.token(node)), self.runtime,
            clock, random.Random(2), new_uid,
        )  # fmt: skip
        await self.pool.start()
        for index in range(nodes):
            self.pool.add_node(NodeSpec(f"node-{index}", "127.0.0.1", pod_cidr=cidr.format(index)))
        await self.pool.wait_registered()

    async def lower_pool(self) -> None:
        await self.pool.stop()
        await self.runtime.stop()

    async def create(self, pod: Object) -> Object:
        return await self.client.create(PODS, pod, "default")

    async def until(
        self, name: str, true: Callable[[Object], Any], seconds: float = 10.0
    ) -> Object:
        """The pod, once `true` of it."""
        found: Object = {}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    found = await self.client.get(PODS, name, "default")
                    if true(found):
                        return found
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"never came true of {found.get('status')}") from None

    async def until_gone(self, name: str, seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    await self.client.get(PODS, name, "default")
                except NotFound:
                    return
                await asyncio.sleep(0.02)

    async def node(self, name: str = "node-0") -> Object:
        return await self.client.get(NODES, name)


@asynccontextmanager
async def stage(directory: Path) -> AsyncIterator[Stage]:
    """Without TLS: identities are tokens."""
    tokens = directory / "tokens.csv"
    tokens.write_text(
        'admin,admin,1,"system:masters"\n'
        'host,system:kubestage:kubelet-host,2,"kubestage:kubelet-hosts"\n'
    )
    clock = SystemClock()
    registry = CollectorRegistry()
    store = await SqliteStore.open(directory / "store.db", clock, StoreMetrics(registry))
    make_certificates(directory, clock)
    config = ApiServerConfig(
        token_file=str(tokens), node_token_key=KEY, kubelet_ca=str(directory / "ca.crt"),
        kubelet_client_cert=str(directory / "apiserver.crt"),
        kubelet_client_key=str(directory / "apiserver.key"),
        tls_cert=str(directory / "serving.crt"), tls_key=str(directory / "serving.key"),
    )  # fmt: skip
    server = ApiServer(config, store, clock, random.Random(3), new_uid, ApiServerMetrics(registry))
    await server.start()
    transports: list[HttpTransport] = []

    def connect(token: str) -> Client:
        context = ssl.create_default_context(cafile=str(directory / "ca.crt"))
        transport = HttpTransport(server.url, context)
        transports.append(transport)
        return Client(transport, token=token, batcher=Batcher(transport, token=token))

    client = connect("admin")
    try:
        account = {"metadata": {"name": "default"}}
        await client.create(SERVICEACCOUNTS, account, "default")
        held = Stage(client, connect, directory, server.url)
        try:
            yield held
        finally:
            if hasattr(held, "pool"):
                await held.lower_pool()
    finally:
        for transport in transports:
            await transport.close()
        await server.stop(0.1)
        await store.close()


def make_certificates(directory: Path, clock: SystemClock) -> None:
    """A CA, the kubelets' serving certificate and the API server's to them."""
    authority = CertificateAuthority.create("test", clock)
    authority.save(directory)
    pairs = {
        "serving": authority.issue("kube-apiserver", server=True, ips=("127.0.0.1",)),
        "kubelet": authority.issue("kubelet", server=True, ips=("127.0.0.1",)),
        "apiserver": authority.issue("kube-apiserver-kubelet-client", ("system:masters",)),
    }
    for name, (cert, key) in pairs.items():
        (directory / f"{name}.crt").write_bytes(cert)
        (directory / f"{name}.key").write_bytes(key)


def pod(name: str = "web", node: str = "node-0", **spec: Any) -> Object:
    """A pod bound to a node already."""
    spec.setdefault("containers", [{"name": "c", "image": "nginx:1.29"}])
    spec.setdefault("automountServiceAccountToken", False)
    metadata: Object = {"name": name}
    if "annotations" in spec:
        metadata["annotations"] = spec.pop("annotations")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": node, **spec},
    }


def shell(script: str, **more: Any) -> list[Object]:
    """One busybox container running a script."""
    return [{"name": "c", "image": "busybox:1.36", "command": ["sh", "-c", script], **more}]
