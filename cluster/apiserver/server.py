"""The API server, composed: store, caches, identities, admission, front door. Plays
cmd/kube-apiserver and pkg/controlplane.

`start` loads what the store holds, puts in what every cluster has, and listens; `stop` ends
watches, lets answers finish and leaves the store to whoever opened it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import orjson

from cluster.api.catalogue import Catalogue
from cluster.api.errors import RequestEntityTooLarge
from cluster.api.meta import Clock, NewUid
from cluster.api.schema import Schemas
from cluster.apiserver.admission import AdmissionChain, build_chain
from cluster.apiserver.allocators import ServiceAllocators
from cluster.apiserver.authn import Authentication, read_token_file
from cluster.apiserver.authz import Authorization, AuthorizationOptions
from cluster.apiserver.backend import Backend
from cluster.apiserver.bootstrap import BootstrapConfig, ensure
from cluster.apiserver.config import ApiServerConfig
from cluster.apiserver.documents import Documents
from cluster.apiserver.flow import FlowLog
from cluster.apiserver.front import Front
from cluster.apiserver.health import Health
from cluster.apiserver.kubelets import Kubelets
from cluster.apiserver.registry import CacheRegistry
from cluster.apiserver.tokens import NodeTokens, ServiceAccountTokens
from cluster.apiserver.watchcache import Storage
from cluster.etcd.store import Store, StoreError
from cluster.httpserver import HttpServer, Limits, Response, server_context
from cluster.httpserver.server import plain_refusal
from cluster.metrics.apiserver import ApiServerMetrics

STOP_GRACE_SECONDS = 5.0
COMPACT_SECONDS = 300.0
"""kube-apiserver's --etcd-compaction-interval."""
log = logging.getLogger(__name__)


class ApiServer:
    """One API server over one store. Several may share a store (etcd)."""

    def __init__(
        self,
        config: ApiServerConfig,
        store: Store,
        clock: Clock,
        rng: random.Random,
        new_uid: NewUid,
        metrics: ApiServerMetrics,
    ) -> None:
        self.config = config
        self._store = store
        self._clock = clock
        self._rng = rng
        self._new_uid = new_uid
        self._metrics = metrics
        schemas = Schemas(config.kubernetes_version)
        catalogue = Catalogue(schemas)
        self.storage = Storage(store, catalogue, clock, metrics)
        self.registry = CacheRegistry(self.storage, clock, new_uid)
        self.health = Health()
        self.flow = FlowLog(clock)
        self._catalogue, self._schemas = catalogue, schemas
        self._server: HttpServer | None = None
        self._bootstrapped = False
        self._compaction: asyncio.Task[None] | None = None
        self.backend: Backend
        self.front: Front

    @property
    def port(self) -> int:
        return self._server.port if self._server is not None else 0

    @property
    def url(self) -> str:
        scheme = "https" if self.config.tls_cert else "http"
        return f"{scheme}://{self.config.advertise_address}:{self.port}"

    async def start(self, *, socks: tuple[socket.socket, ...] = ()) -> None:
        """Load, compose, listen (on `socks` or the configured host and port), put in the
        defaults."""
        with _without_collector():
            await self.storage.start()
            self._compose()
        config = self.config
        context = None
        if config.tls_cert:
            context = server_context(config.tls_cert, config.tls_key, config.client_ca or None)
        self._server = HttpServer(
            self.front.handle, ssl_context=context, limits=Limits(), refusal=_refusal
        )
        if socks:
            for sock in socks:
                await self._server.start(sock=sock)
        else:
            await self._server.start(host=config.bind_host, port=config.port)
        await self._bootstrap()
        self._compaction = asyncio.create_task(self._compact_forever())

    async def _compact_forever(self) -> None:
        """Every COMPACT_SECONDS the store forgets what is older than that, as upstream's etcd3
        compactor has it: watches may resume, and lists go on, from up to then."""
        keep = await self._store.current_revision()
        while True:
            await asyncio.sleep(COMPACT_SECONDS)
            try:
                await self._store.compact(keep)
                keep = await self._store.current_revision()
            except StoreError as error:
                log.warning("the store was not compacted: %s", error)

    def _compose(self) -> None:
        config, registry, clock = self.config, self.registry, self._clock
        tokens = self._tokens()
        authorization = Authorization(
            registry, AuthorizationOptions(modes=config.authorization_mode)
        )
        authentication = Authentication(
            registry,
            clock,
            service_account_tokens=tokens,
            node_tokens=NodeTokens(config.node_token_key) if config.node_token_key else None,
            static_tokens=read_token_file(Path(config.token_file)) if config.token_file else None,
            **({} if config.anonymous else {"anonymous_paths": ()}),
        )
        allocators = ServiceAllocators(config, self._rng)
        allocators.follow(registry)
        self.backend = Backend(
            config=config,
            catalogue=self._catalogue,
            schemas=self._schemas,
            storage=self.storage,
            registry=registry,
            admission=self._admission(authorization),
            authorization=authorization,
            allocators=allocators,
            metrics=self._metrics,
            clock=clock,
            rng=self._rng,
            new_uid=self._new_uid,
            flow=self.flow,
            tokens=tokens,
            authentication=authentication,
            kubelets=Kubelets(config, registry),
        )
        documents = Documents(self.backend, lambda: f"{config.advertise_address}:{self.port}")
        self.front = Front(self.backend, documents, self.health, self.flow)
        self.health.add("etcd", lambda: "" if self.storage.synced else "the store is loading")
        self.health.add(
            "poststarthook/rbac/bootstrap-roles",
            lambda: "" if self._bootstrapped else "not finished",
        )
        self.health.add(
            "informer-sync", lambda: "" if self.storage.synced else "the caches are loading"
        )

    def _tokens(self) -> ServiceAccountTokens | None:
        config = self.config
        if not config.service_account_key:
            return None
        return ServiceAccountTokens.load(
            Path(config.service_account_key),
            issuer=config.service_account_issuer,
            audiences=config.api_audiences,
            clock=self._clock,
            new_uid=self._new_uid,
        )

    def _admission(self, authorization: Authorization) -> AdmissionChain:
        return build_chain(
            self.registry,
            authorization,
            self._clock,
            self._rng,
            disabled=self.config.disabled_admission_plugins,
        )

    async def _bootstrap(self) -> None:
        config = self.config
        ca = await asyncio.to_thread(_read, config.client_ca) if config.client_ca else ""
        await ensure(
            self.registry,
            BootstrapConfig(
                service_ip=config.service_ip,
                advertise_addresses=(config.advertise_address,),
                port=self.port,
                client_ca_pem=ca,
                cluster_domain=config.cluster_domain,
            ),
            self._clock,
        )
        self._bootstrapped = True

    async def stop(self, grace: float = STOP_GRACE_SECONDS) -> None:
        """End watches, finish answers, stop. The store stays open."""
        self.health.shutting_down = True
        if self._compaction is not None:
            self._compaction.cancel()
            await asyncio.gather(self._compaction, return_exceptions=True)
        self.storage.close_watches()
        await self.backend.admission.close()
        if self._server is not None:
            await self._server.stop(grace)
        with contextlib.suppress(StoreError):
            await self.storage.stop()


def _refusal(status: int, text: str) -> Response:
    """A request that was too large gets a Status like any other failed request."""
    if status != 413:
        return plain_refusal(status, text)
    limit = Limits().body_bytes
    error = RequestEntityTooLarge(f"Request entity too large: limit is {limit}")
    return Response(413, orjson.dumps(error.to_status()), "application/json")


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Loading makes hundreds of thousands of objects that all stay: looking for garbage among them
    would double its time, and every full collection afterwards would look at them again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def _read(path: str) -> str:
    return Path(path).read_text()
