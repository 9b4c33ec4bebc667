"""Registers the nodes of a pool and keeps them alive: Lease renewals and status reports.

Plays pkg/kubelet/kubelet_node_status.go and component-helpers' lease controller. One ticking task
for all nodes, whose turns are spread over the interval; requests leave in batches and are not
waited for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from cluster.api.errors import AlreadyExists, Conflict, NotFound, StatusError
from cluster.api.meta import LEASES, NODES, Object, rfc3339_micro
from cluster.client import Unreachable
from cluster.kubelet.node import NodeAgent, PoolContext
from cluster.kubelet.nodestatus import lease, new_node, node_status

log = logging.getLogger(__name__)
TICK_SECONDS = 0.5
REGISTER_RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 7.0)
CIDR_POLL_SECONDS = 0.3
NAMESPACE = "kube-node-lease"
_EVENTS = ("NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID")
EVENTFUL_NODES = 200
"""Pools of more nodes leave the three condition events of the start out."""


class Heartbeat:
    """`agents` is asked each turn, so nodes may come and go. `ready` is called once a node has its
    podCIDR."""

    def __init__(
        self,
        context: PoolContext,
        agents: Callable[[], Iterable[NodeAgent]],
        ready: Callable[[NodeAgent], None],
    ) -> None:
        self._context = context
        self._agents = agents
        self._ready = ready
        self._tasks: set[asyncio.Task[None]] = set()

    async def register(self, agents: list[NodeAgent]) -> None:
        """Create (or take over) the nodes and their leases; waits until the API server answers."""
        interval = self._context.config.lease_renew_seconds
        now = self._context.clock.monotonic()
        await asyncio.gather(*(self._register_one(agent) for agent in agents))
        for index, agent in enumerate(agents):
            agent.lease_due = now + interval * (index + 1) / len(agents)
            agent.status_due = now + self._context.config.status_report_seconds * (
                1 + index / len(agents)
            )

    async def run(self) -> None:
        """Beat until cancelled."""
        try:
            while True:
                self.beat(self._context.clock.monotonic())
                await asyncio.sleep(TICK_SECONDS)
        finally:
            for task in self._tasks:
                task.cancel()

    def beat(self, now: float) -> None:
        """Send what is due."""
        config = self._context.config
        for agent in self._agents():
            if not agent.registered:
                continue
            if agent.lease_due <= now:
                agent.lease_due = now + config.lease_renew_seconds
                self._renew(agent)
                images = len(self._context.runtime.list_images(agent.name))
                if images != agent.reported_images:
                    agent.status_due = now
            if agent.status_due <= now:
                agent.status_due = now + config.status_report_seconds
                self.report(agent)

    def report(self, agent: NodeAgent) -> None:
        """Patch the node's status."""
        context = self._context
        old = (agent.node or {}).get("status")
        images = context.runtime.list_images(agent.name)
        agent.reported_images = len(images)
        status = node_status(
            agent.spec, context.config, old, images, context.server_port, context.clock.now()
        )
        flight = agent.client.patch_nowait(
            NODES, agent.name, {"status": status}, patch_type="strategic", subresource="status"
        )
        flight.add_done_callback(lambda f: self._reported(agent, f))

    def spawn(self, coroutine: object) -> None:
        assert asyncio.iscoroutine(coroutine)
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _register_one(self, agent: NodeAgent) -> None:
        tries = 0
        while True:
            try:
                await self._create_or_adopt(agent)
                break
            except (StatusError, Unreachable) as error:
                if tries in (0, 5) or tries % 20 == 0:
                    log.warning("node %s cannot register: %s", agent.name, error)
                delay = REGISTER_RETRY_SECONDS[min(tries, len(REGISTER_RETRY_SECONDS) - 1)]
                tries += 1
                await asyncio.sleep(delay)
        agent.registered = True
        self._announce(agent)
        if agent.pod_cidr:
            self._ready(agent)
        else:
            self.spawn(self._wait_cidr(agent))

    async def _create_or_adopt(self, agent: NodeAgent) -> None:
        context = self._context
        now = context.clock.now()
        node = new_node(agent.spec, context.config, context.server_port, now)
        try:
            agent.node = await agent.client.create(NODES, node)
        except AlreadyExists:
            existing = await agent.client.get(NODES, agent.name)
            images = context.runtime.list_images(agent.name)
            status = node_status(
                agent.spec, context.config, existing.get("status"), images, context.server_port, now
            )
            labels = node["metadata"]["labels"]
            patch = {"metadata": {"labels": labels}, "status": status}
            agent.node = await agent.client.patch(
                NODES, agent.name, patch, patch_type="strategic", subresource="status"
            )
            agent.node = agent.node or existing
        agent.pod_cidr = (agent.node.get("spec") or {}).get("podCIDR") or agent.spec.pod_cidr
        await self._create_lease(agent)

    async def _create_lease(self, agent: NodeAgent) -> None:
        assert agent.node is not None
        wanted = self._lease(agent)
        try:
            agent.lease = await agent.client.create(LEASES, wanted, NAMESPACE)
        except AlreadyExists:
            agent.lease = await agent.client.get(LEASES, agent.name, NAMESPACE)
            self._renew(agent)

    def _lease(self, agent: NodeAgent) -> Object:
        assert agent.node is not None
        stamp = rfc3339_micro(self._context.clock.now())
        return lease(agent.spec, self._context.config, agent.node, stamp)

    def _renew(self, agent: NodeAgent) -> None:
        held = agent.lease
        if held is None:
            self.spawn(self._again(agent))
            return
        held["spec"]["renewTime"] = rfc3339_micro(self._context.clock.now())
        flight = agent.client.update_nowait(LEASES, held, answer="meta")
        flight.add_done_callback(lambda f: self._renewed(agent, f))

    def _renewed(self, agent: NodeAgent, flight: asyncio.Future[Object]) -> None:
        if flight.cancelled():
            return
        error = flight.exception()
        heartbeats = self._context.metrics.heartbeats
        if error is None:
            heartbeats.labels("renewed").inc()
            version = (flight.result().get("metadata") or {}).get("resourceVersion")
            if agent.lease is not None and version:
                agent.lease["metadata"]["resourceVersion"] = version
            return
        heartbeats.labels("failed").inc()
        if isinstance(error, NotFound | Conflict):
            agent.lease = None
        # Once more soon, as upstream's lease controller does.
        agent.lease_due = min(agent.lease_due, self._context.clock.monotonic() + 1.0)

    async def _again(self, agent: NodeAgent) -> None:
        try:
            await self._create_lease(agent)
        except (StatusError, Unreachable) as error:
            log.debug("lease of %s: %s", agent.name, error)

    def _reported(self, agent: NodeAgent, flight: asyncio.Future[Object]) -> None:
        if flight.cancelled():
            return
        error = flight.exception()
        if error is None:
            agent.node = flight.result() or agent.node
        elif isinstance(error, NotFound):
            # As upstream: a deleted node stays away until its kubelet starts anew.
            log.warning("node %s is gone from the API", agent.name)
        else:
            agent.status_due = self._context.clock.monotonic() + 10.0

    async def _wait_cidr(self, agent: NodeAgent) -> None:
        """spec.podCIDR is given by the node IPAM controller, a moment after the node is made."""
        delay = CIDR_POLL_SECONDS
        while not agent.pod_cidr:
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, 5.0)
            try:
                agent.node = await agent.client.get(NODES, agent.name)
            except (StatusError, Unreachable):
                continue
            agent.pod_cidr = (agent.node.get("spec") or {}).get("podCIDR") or ""
        self._ready(agent)

    def _announce(self, agent: NodeAgent) -> None:
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": agent.name, "uid": agent.name},
        }
        agent.normal(node, "Starting", "Starting kubelet.")
        if len(list(self._agents())) <= EVENTFUL_NODES:
            for reason in _EVENTS:
                agent.normal(node, reason, f"Node {agent.name} status is now: {reason}")
            agent.normal(
                node, "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods"
            )
        agent.normal(node, "NodeReady", f"Node {agent.name} status is now: NodeReady")
