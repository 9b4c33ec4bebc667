"""The kubelets' HTTPS server: logs, exec, attach, port-forward, pods, statistics, metrics.

Plays pkg/kubelet/server. One server answers for all nodes of a pool: a pod is looked up among all
of them. Callers show a client certificate of the cluster's CA; who may come in is decided by its
names.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import orjson
from cryptography import x509
from cryptography.x509.oid import NameOID
from prometheus_client import generate_latest

from cluster.api.errors import BadRequest, NotFound, StatusError
from cluster.api.meta import Object
from cluster.httpserver import HttpServer, Request, Response, StreamResponse, server_context
from cluster.kubelet import logserver, stats
from cluster.kubelet.podstate import ContainerView
from cluster.kubelet.streaming.sessions import serve_attach, serve_exec, serve_port_forward
from cluster.runtime.model import RuntimeFailure

if TYPE_CHECKING:
    from cluster.kubelet.pool import KubeletPool
    from cluster.kubelet.worker import PodWorker

ALLOWED_NAMES = frozenset({"kube-apiserver-kubelet-client", "kube-apiserver"})
ALLOWED_GROUPS = frozenset({"system:masters", "kubestage:kubelet-clients"})
Answer = Response | StreamResponse | None


class KubeletServer:
    """Switched on by KubeletConfig's certificate paths or, in tests, by `insecure`."""

    def __init__(self, pool: KubeletPool) -> None:
        self._pool = pool
        self._server: HttpServer | None = None
        self._verdicts: dict[bytes, bool] = {}
        self.insecure = False

    @property
    def port(self) -> int:
        return self._server.port if self._server is not None else 0

    async def start(self, sock: socket.socket | None = None) -> None:
        config = self._pool.context.config
        if not config.tls_cert and not self.insecure:
            if sock is not None:
                sock.close()
            return
        context = None
        if config.tls_cert:
            context = server_context(config.tls_cert, config.tls_key, config.client_ca or None)
        self._server = HttpServer(self.handle, ssl_context=context)
        if sock is not None:
            await self._server.start(sock=sock)
        else:
            host = config.server_host or "127.0.0.1"
            await self._server.start(host=host, port=config.server_port)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0.2)

    async def handle(self, request: Request) -> Answer:
        """Route one request."""
        if not self.insecure and not self._allowed(request):
            return Response(401, b"Unauthorized", "text/plain")
        try:
            return await self._route(request)
        except StatusError as error:
            # Unlike Kubernetes: a Status object, which the API server passes on as it is.
            return Response(error.code, orjson.dumps(error.to_status()))
        except RuntimeFailure as error:
            return Response(500, str(error).encode(), "text/plain; charset=utf-8")

    async def _route(self, request: Request) -> Answer:
        parts = [p for p in request.path.split("/") if p]
        match parts:
            case ["healthz", *_]:
                return Response(200, b"ok", "text/plain; charset=utf-8")
            case ["pods"]:
                return _json(self._pod_list())
            case ["runningpods"]:
                return _json(self._pod_list(running=True))
            case ["stats", "summary"]:
                return _json(stats.summary(self._pool, request.headers.get("host", "")))
            case ["metrics"]:
                self._count()
                text = generate_latest(self._pool.context.metrics.registry)
                return Response(200, text, "text/plain; version=0.0.4; charset=utf-8")
            case ["metrics", "resource"]:
                return Response(
                    200, stats.resource_metrics(self._pool), "text/plain; version=0.0.4"
                )
            case ["metrics", ("cadvisor" | "probes")]:
                return Response(200, b"", "text/plain; version=0.0.4")
            case ["configz"]:
                config = {"kubeletconfig": {"clusterDNS": self._pool.context.config.cluster_dns}}
                return _json(config)
            case ["containerLogs", namespace, pod, container]:
                worker, view = self._find(namespace, pod, "", container)
                return logserver.container_log(worker, view, request)
            case ["exec", namespace, pod, container]:
                worker, view = self._find(namespace, pod, "", container)
                return await serve_exec(worker, view, request)
            case ["exec", namespace, pod, uid, container]:
                worker, view = self._find(namespace, pod, uid, container)
                return await serve_exec(worker, view, request)
            case ["attach", namespace, pod, *uid, container]:
                worker, view = self._find(namespace, pod, uid[0] if uid else "", container)
                return await serve_attach(worker, view, request)
            case ["run", namespace, pod, *uid, container]:
                worker, view = self._find(namespace, pod, uid[0] if uid else "", container)
                return await self._run(worker, view, request)
            case ["portForward", namespace, pod, *uid]:
                worker = self._worker(namespace, pod, uid[0] if uid else "")
                return await serve_port_forward(worker, request)
        return Response(404, b"404 page not found\n", "text/plain; charset=utf-8")

    async def _run(self, worker: PodWorker, view: ContainerView, request: Request) -> Response:
        assert view.current is not None
        argv = request.query.get("cmd", [""])[0].split()
        result = await worker.node.context.runtime.exec_sync(view.current.id, argv)
        return Response(200, result.stdout + result.stderr, "text/plain; charset=utf-8")

    def _worker(self, namespace: str, pod: str, uid: str) -> PodWorker:
        worker = self._pool.worker_of(namespace, pod, uid)
        if worker is None:
            raise NotFound(f'pod "{pod}" not found in namespace "{namespace}"')
        return worker

    def _find(
        self, namespace: str, pod: str, uid: str, container: str
    ) -> tuple[PodWorker, ContainerView]:
        worker = self._worker(namespace, pod, uid)
        for view in worker.state.views:
            if view.name == container:
                return worker, view
        raise BadRequest(f'container "{container}" not found in pod "{pod}"')

    def _pod_list(self, running: bool = False) -> Object:
        items = [
            {"apiVersion": "v1", "kind": "Pod", **worker.state.pod}
            for agent in self._pool.agents.values()
            for worker in agent.workers.values()
            if not running or any(v.running for v in worker.state.views)
        ]
        return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}

    def _count(self) -> None:
        metrics = self._pool.context.metrics
        runtime = self._pool.context.runtime
        by_state: dict[str, int] = {"running": 0, "exited": 0, "created": 0}
        for container in runtime.list_containers():
            by_state[container.state] += 1
        for state, number in by_state.items():
            metrics.running_containers.labels(state).set(number)
        metrics.running_pods.set(sum(s.ready for s in runtime.list_pod_sandboxes()))

    def _allowed(self, request: Request) -> bool:
        certificate = request.peer_cert
        if certificate is None:
            return False
        verdict = self._verdicts.get(certificate)
        if verdict is None:
            verdict = self._verdicts[certificate] = _may_enter(certificate)
        return verdict


def _may_enter(certificate: bytes) -> bool:
    """TLS has checked that it is of the cluster's CA; here it is asked whose it is."""
    subject = x509.load_der_x509_certificate(certificate).subject
    names = {str(a.value) for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    groups = {str(a.value) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)}
    return bool(names & ALLOWED_NAMES or groups & ALLOWED_GROUPS)


def _json(value: Object) -> Response:
    return Response(200, orjson.dumps(value))
