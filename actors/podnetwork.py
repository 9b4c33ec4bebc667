"""The real pod network for the runtime: netlab's fabric behind `cluster.runtime`'s interface.

Requests that arrive while a batch is on its way to the kernel leave together in the next one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping, Sequence

from cluster.metrics.cni import CniMetrics
from cluster.runtime.network import (
    ExecProcess,
    ExecSpec,
    NetworkError,
    NetworkRequest,
    NetworkResult,
)
from netlab import Attachment, Fabric, HostPort, NetlabError, PodLink, sandbox

BATCH_PODS = 64
"""Pods in one batch at the most: later ones should not wait for hundreds before them."""
_log = logging.getLogger(__name__)


class FabricPodNetwork:
    """A `PodNetwork`. Belongs to the loop that uses it."""

    def __init__(self, fabric: Fabric, metrics: CniMetrics, hidden: Sequence[str]) -> None:
        """`hidden`: directories of the host that no command in a pod may see."""
        self._fabric = fabric
        self._metrics = metrics
        self._hidden = tuple(hidden)
        self._host_network: dict[str, NetworkResult] = {}
        self._adds: list[tuple[PodLink, asyncio.Future[NetworkResult]]] = []
        self._deletes: list[tuple[str, asyncio.Future[None]]] = []
        self._pump: asyncio.Task[None] | None = None

    async def add(self, request: NetworkRequest) -> NetworkResult:
        """See PodNetwork.add."""
        if request.host_network:
            fabric = str(self._fabric.config.fabric_path)
            result = NetworkResult(request.sandbox_id, request.node_ip, fabric)
            self._host_network[request.sandbox_id] = result
            return result
        ports = tuple(
            HostPort(p.host_port, p.container_port, p.protocol, p.host_ip or request.node_ip)
            for p in request.port_mappings
        )
        link = PodLink(request.sandbox_id, request.node_name, request.pod_cidr, host_ports=ports)
        future: asyncio.Future[NetworkResult] = asyncio.get_running_loop().create_future()
        self._adds.append((link, future))
        self._wake()
        return await future

    async def delete(self, sandbox_id: str) -> None:
        """See PodNetwork.delete."""
        if self._host_network.pop(sandbox_id, None) is not None:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._deletes.append((sandbox_id, future))
        self._wake()
        await future

    def attachments(self) -> Mapping[str, NetworkResult]:
        """See PodNetwork.attachments."""
        found = {a.id: _result(a) for a in self._fabric.attachments().values()}
        return found | self._host_network

    def listen(self, result: NetworkResult, kind: socket.SocketKind, port: int) -> socket.socket:
        """See PodNetwork.listen."""
        if not result.netns_path:
            raise NetworkError("the pod has no network namespace")
        host = result.sandbox_id in self._host_network
        address = result.ip if host else "0.0.0.0"
        try:
            return self._fabric.socket_in(result.netns_path, kind, address, port)
        except NetlabError as error:
            raise NetworkError(str(error)) from error

    async def run(self, spec: ExecSpec) -> ExecProcess:
        """See PodNetwork.run."""
        if not spec.netns_path:
            raise NetworkError("the pod has no network namespace to run a command in")
        wanted = sandbox.Command(
            argv=tuple(spec.argv),
            netns_path=spec.netns_path,
            root_dir=spec.root_dir,
            hostname=spec.hostname,
            env=dict(spec.env),
            working_dir=spec.working_dir,
            binds=dict(spec.binds),
            tty=spec.tty,
            uid=spec.uid,
            gid=spec.gid,
            hidden=self._hidden,
        )
        try:
            return await sandbox.run(wanted)
        except (NetlabError, OSError) as error:
            raise NetworkError(f"cannot run {spec.argv[0]}: {error}") from error

    def _wake(self) -> None:
        if self._pump is None or self._pump.done():
            self._pump = asyncio.ensure_future(self._run_batches())

    async def _run_batches(self) -> None:
        await asyncio.sleep(0)  # what the same turn of the loop asks for goes along
        while self._adds or self._deletes:
            if self._adds:
                adds, self._adds = self._adds[:BATCH_PODS], self._adds[BATCH_PODS:]
                await self._add_batch(adds)
            if self._deletes:
                deletes, self._deletes = (
                    self._deletes[:BATCH_PODS],
                    self._deletes[BATCH_PODS:],
                )
                await self._delete_batch(deletes)

    async def _add_batch(self, adds: list[tuple[PodLink, asyncio.Future[NetworkResult]]]) -> None:
        links = [link for link, _ in adds]
        try:
            done = await asyncio.wrap_future(self._fabric.submit(self._fabric.add_pods, links))
        except (NetlabError, OSError) as error:
            done = [NetlabError(str(error))] * len(adds)
        for (_, future), outcome in zip(adds, done, strict=True):
            if isinstance(outcome, NetlabError):
                self._metrics.failures.labels("ADD").inc()
                if not future.done():
                    future.set_exception(NetworkError(str(outcome)))
                continue
            self._metrics.seconds.labels("ADD").observe(outcome.seconds)
            if not future.done():
                future.set_result(_result(outcome))

    async def _delete_batch(self, deletes: list[tuple[str, asyncio.Future[None]]]) -> None:
        ids = [sandbox_id for sandbox_id, _ in deletes]
        failure: NetworkError | None = None
        try:
            await asyncio.wrap_future(self._fabric.submit(self._fabric.delete_pods, ids))
        except (NetlabError, OSError) as error:
            self._metrics.failures.labels("DEL").inc(len(ids))
            failure = NetworkError(str(error))
        for _, future in deletes:
            if future.done():
                continue
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)


def _result(attachment: Attachment) -> NetworkResult:
    return NetworkResult(
        attachment.id,
        attachment.ip,
        attachment.netns_path,
        attachment.interface,
        attachment.seconds,
    )
