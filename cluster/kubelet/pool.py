"""Many kubelets in one process: one watch for the pods of all their nodes, one loop, one runtime.

Plays cmd/kubelet for each node of a pool. Each node acts under its own identity; what they share is
connections, the pods watch, the cache of ConfigMaps and Secrets and the container runtime.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from cluster.api.meta import PODS, SERVICES, Clock, NewUid, Object
from cluster.client import Change, Client, EventRecorder, Informer
from cluster.client.flow import FlowReporter
from cluster.kubelet.config import KubeletConfig, NodeSpec
from cluster.kubelet.heartbeat import Heartbeat
from cluster.kubelet.node import NodeAgent, PoolContext
from cluster.kubelet.server import KubeletServer
from cluster.kubelet.statusmanager import StatusManager
from cluster.kubelet.volumes import SourceCache, VolumeManager
from cluster.kubelet.worker import PodWorker
from cluster.metrics.kubelet import KubeletMetrics
from cluster.runtime.model import Container, Sandbox
from cluster.runtime.service import RuntimeService

log = logging.getLogger(__name__)


class KubeletPool:
    """`shared_client` has the identity of the process (watches pods and services, reports flow);
    `client_for_node` gives each node's own. `runtime` is started by the caller before."""

    def __init__(
        self,
        config: KubeletConfig,
        shared_client: Client,
        client_for_node: Callable[[str], Client],
        runtime: RuntimeService,
        clock: Clock,
        rng: random.Random,
        new_uid: NewUid,
        metrics: KubeletMetrics | None = None,
    ) -> None:
        metrics = metrics or KubeletMetrics()
        sources = SourceCache(clock)
        self._config = config
        self._client = shared_client
        self._client_for_node = client_for_node
        self._clock = clock
        self._rng = rng
        self._new_uid = new_uid
        self._agents: dict[str, NodeAgent] = {}
        self._pods: Informer | None = None
        self._services = Informer(shared_client, SERVICES, clock=clock, rng=rng)
        self._tasks: set[asyncio.Task[None]] = set()
        self._over: asyncio.Future[None] | None = None
        self._joining: list[NodeAgent] = []
        self._joins: set[asyncio.Future[None]] = set()
        self.context = PoolContext(
            config, runtime, clock, metrics, sources, VolumeManager(config, sources, clock),
            StatusManager(clock, metrics), FlowReporter(shared_client, clock), self._services,
        )  # fmt: skip
        self._heartbeat = Heartbeat(self.context, self._agents.values, self._network_ready)
        self.server = KubeletServer(self)

    # -- life ----------

    async def start(self, server_socket: socket.socket | None = None) -> None:
        """Listen (on `server_socket`, or config.server_host:port) and begin to work. Nodes join by
        `add_node`."""
        self._over = asyncio.get_running_loop().create_future()
        self.context.runtime.subscribe(self._container_ended)
        self._services.add_handler(self._service_changed)
        await self.server.start(server_socket)
        self.context.server_port = self.server.port
        for work in (self._services.run(), self._heartbeat.run(), self._resync()):
            self._spawn(work)

    async def run(self) -> None:
        """Until `stop`. Raises what ended one of the pool's tasks, which must not happen."""
        assert self._over is not None, "start first"
        await asyncio.shield(self._over)

    async def stop(self) -> None:
        """Let go of everything; pods stay as they are and are found again by the next process."""
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for agent in self._agents.values():
            for worker in agent.workers.values():
                worker.close()
        self.context.statuses.close()
        self.context.flow.close()
        await self.context.sources.close()
        await self.server.stop()

    def add_node(self, spec: NodeSpec) -> None:
        """One more node. It registers in the background, together with those added in this turn."""
        self._joining.append(self._add_agent(spec))
        if len(self._joining) == 1:
            self._spawn(self._join())

    async def wait_registered(self) -> None:
        """Until every node added so far is registered and its pods are known."""
        while self._joining or self._joins:
            await (asyncio.wait(self._joins) if self._joins else asyncio.sleep(0))
        if self._pods is not None:
            await self._pods.wait_synced()

    async def remove_node(self, name: str) -> None:
        """Forget a node: its pods' containers end, its objects stay for the controllers."""
        agent = self._agents.pop(name, None)
        if agent is None:
            return
        self._follow_pods()
        for worker in list(agent.workers.values()):
            worker.handle_gone()
        self.context.runtime.images.forget_node(name)

    # -- what the server and others look at ----------

    @property
    def agents(self) -> dict[str, NodeAgent]:
        return self._agents

    def worker_of(self, namespace: str, name: str, uid: str = "") -> PodWorker | None:
        """The worker of a pod of any of our nodes."""
        if self._pods is None:
            return None
        pod = self._pods.get(f"{namespace}/{name}")
        if pod is None or (uid and pod["metadata"]["uid"] != uid):
            return None
        agent = self._agents.get(pod["spec"].get("nodeName", ""))
        return agent.workers.get(pod["metadata"]["uid"]) if agent else None

    @property
    def has_synced(self) -> bool:
        return self._pods is not None and self._pods.has_synced

    # -- inside ----------

    def _add_agent(self, spec: NodeSpec) -> NodeAgent:
        client = self._client_for_node(spec.name)
        recorder = EventRecorder(client, "kubelet", spec.name, self._clock, self._new_uid)
        agent = NodeAgent(self.context, spec, client, recorder)
        self._agents[spec.name] = agent
        self.context.metrics.nodes.labels(spec.name).set(1)
        return agent

    async def _join(self) -> None:
        await asyncio.sleep(0)
        agents, self._joining = self._joining, []
        self._follow_pods()
        task = asyncio.ensure_future(self._heartbeat.register(agents))
        self._joins.add(task)
        try:
            await task
        finally:
            self._joins.discard(task)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("a task of the pool ended", exc_info=error)
        if self._over is not None and not self._over.done():
            self._over.set_exception(error)

    def _follow_pods(self) -> None:
        """One watch for the pods of all nodes."""
        if not self._agents:
            return
        names = ",".join(sorted(self._agents))
        one = len(self._agents) == 1
        selector = f"spec.nodeName={names}" if one else f"spec.nodeName in ({names})"
        if self._pods is not None:
            self._pods.set_field_selector(selector)
            return
        self._pods = Informer(
            self._client, PODS, field_selector=selector, clock=self._clock, rng=self._rng
        )
        self._pods.add_handler_batch(self._pods_changed)
        self._spawn(self._pods.run())
        self._spawn(self._drop_orphans(self._pods))

    def _pods_changed(self, changes: Iterable[Change]) -> None:
        held: dict[str, tuple[Sandbox, list[Container]]] | None = None
        for old, new in changes:
            pod = new if new is not None else old
            assert pod is not None
            # Half of a pod's size, and nothing here reads it; the informer is ours alone.
            pod["metadata"].pop("managedFields", None)
            agent = self._agents.get(pod["spec"].get("nodeName", ""))
            if agent is None:
                continue
            uid = pod["metadata"]["uid"]
            if old is not None and new is not None and old["metadata"]["uid"] != uid:
                self._gone(agent, old["metadata"]["uid"])
            if new is None:
                self._gone(agent, uid)
                continue
            worker = agent.workers.get(uid)
            if worker is None:
                worker = PodWorker(agent, new)
                agent.workers[uid] = worker
                if old is None and not self._pods_synced():
                    held = self._held() if held is None else held
                    if uid in held:
                        worker.adopt(*held[uid])
                        self.context.volumes.adopt(uid)
            worker.handle_pod(new)
        self.context.metrics.desired_pods.set(sum(len(a.workers) for a in self._agents.values()))

    def _pods_synced(self) -> bool:
        return self._pods is not None and self._pods.has_synced

    def _gone(self, agent: NodeAgent, uid: str) -> None:
        worker = agent.workers.get(uid)
        if worker is None:
            return
        if worker.finished and worker.terminating:
            agent.workers.pop(uid, None)
            self.context.statuses.forget(uid)
            return
        worker.handle_gone()

    def _held(self) -> dict[str, tuple[Sandbox, list[Container]]]:
        """What the runtime has, by pod uid; the newest sandbox of each."""
        runtime = self.context.runtime
        found: dict[str, tuple[Sandbox, list[Container]]] = {}
        for sandbox in runtime.list_pod_sandboxes():
            found[sandbox.config.uid] = (sandbox, runtime.list_containers(sandbox.id))
        return found

    async def _drop_orphans(self, pods: Informer) -> None:
        """Sandboxes whose pod is gone since the last process."""
        await pods.wait_synced()
        runtime = self.context.runtime
        known = {uid for agent in self._agents.values() for uid in agent.workers}
        for sandbox in runtime.list_pod_sandboxes():
            mine = sandbox.config.node_name in self._agents
            if mine and sandbox.config.uid not in known:
                await runtime.remove_pod_sandbox(sandbox.id)
                self.context.volumes.adopt(sandbox.config.uid)
                self.context.volumes.remove(sandbox.config.uid)

    def _container_ended(self, container: Container) -> None:
        worker = self.context.by_container.get(container.id)
        if worker is not None:
            worker.handle_exit(container)

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        self.context.service_env.clear()

    def _network_ready(self, agent: NodeAgent) -> None:
        for worker in agent.workers.values():
            worker.wake()

    async def _resync(self) -> None:
        """Files that somebody reads follow their ConfigMaps and Secrets."""
        while True:
            await asyncio.sleep(self._config.sync_seconds)
            for agent in list(self._agents.values()):
                for worker in list(agent.workers.values()):
                    state = worker.state
                    if not worker.finished and self.context.volumes.written(state.uid):
                        ip = state.sandbox.ip if state.sandbox else ""
                        volumes = self.context.volumes
                        try:
                            await volumes.refresh(agent.client, state.pod, ip)
                        except Exception as error:  # noqa: BLE001 - the next turn tries again
                            agent.warn(state.pod, "FailedMount", str(error))
