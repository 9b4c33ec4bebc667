"""The kube-apiserver actor, with the embedded store or as the client of a real etcd."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from actors import paths
from actors.component import Component
from actors.credentials import CredentialFiles
from actors.etcd import client_address
from cluster.api.meta import SystemClock, uid_maker
from cluster.apiserver import ApiServer, ApiServerConfig
from cluster.etcd import EtcdStore, EtcdTls, SqliteStore, Store
from cluster.metrics.apiserver import ApiServerMetrics
from cluster.metrics.etcd import StoreMetrics

ETCD_WAIT_SECONDS = 30.0


class ApiServerComponent(Component):
    """Plays kube-apiserver."""

    _store: Store
    _server: ApiServer

    async def start(self) -> None:
        clock = SystemClock()
        self._store = await self._open_store()
        self._server = ApiServer(
            self._config(), self._store, clock, random.Random(), uid_maker(random.Random()),
            ApiServerMetrics(self.registry),
        )  # fmt: skip
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()
        await self._store.close()

    def details(self) -> dict[str, Any]:
        return {"port": self.context.plan.configuration.port}

    def _config(self) -> ApiServerConfig:
        plan, settings = self.context.plan, self.context.plan.configuration
        serving = CredentialFiles(self.context.serving, self.context.state_dir / "serving")
        kubelets = CredentialFiles(self.context.client, self.context.state_dir / "kubelet-client")
        return ApiServerConfig(
            cluster_name=plan.name,
            kubernetes_version=settings.minor_version,
            bind_host="0.0.0.0",
            port=settings.port,
            advertise_address=plan.advertise_address,
            tls_cert=str(serving.cert),
            tls_key=str(serving.key),
            client_ca=str(serving.ca),
            kubelet_client_cert=str(kubelets.cert),
            kubelet_client_key=str(kubelets.key),
            kubelet_ca=str(serving.ca),
            service_account_key=str(Path(self.context.data_dir) / "pki" / "sa.key"),
            node_token_key=self.context.node_token_key,
            service_cidr=settings.service_cidr,
            cluster_domain=settings.cluster_domain,
        )

    async def _open_store(self) -> Store:
        metrics = StoreMetrics(self.registry)
        clock = SystemClock()
        if self.context.plan.configuration.store == "sqlite":
            directory = paths.private_dir(Path(self.context.data_dir) / "store")
            return await SqliteStore.open(directory / "kubestage.sqlite", clock, metrics)
        host, port = client_address(self.context)
        files = CredentialFiles(self.context.client, self.context.state_dir / "etcd-client")
        store = EtcdStore(
            f"{host}:{port}", clock, metrics, EtcdTls(files.ca, files.cert, files.key)
        )
        deadline = asyncio.get_running_loop().time() + ETCD_WAIT_SECONDS
        while not await _answers(store):
            if asyncio.get_running_loop().time() > deadline:
                raise RuntimeError(f"etcd at {host}:{port} does not answer")
            await asyncio.sleep(0.1)
        return store


async def _answers(store: Store) -> bool:
    from cluster.etcd import StoreError

    try:
        await store.current_revision()
    except StoreError:
        return False
    return True
