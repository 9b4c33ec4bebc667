"""Watches over nodes: silent ones become Unknown, conditions become taints, sick nodes are emptied
at a bounded rate.

Plays pkg/controller/nodelifecycle. Taints follow a node's conditions at once (an event), silence is
found by looking at all heartbeats every `node_monitor_period` seconds. The pods themselves are
deleted by `tainteviction`.
"""

from __future__ import annotations

import asyncio
import logging

from cluster.api.errors import Conflict, NotFound, StatusError
from cluster.api.meta import LEASES, NODES, PODS, Object, rfc3339
from cluster.client import Unreachable, run_workers
from cluster.controllers.conditions import find_condition
from cluster.controllers.context import ControllerContext
from cluster.controllers.node.health import Heartbeat, plan_silence
from cluster.controllers.node.taints import (
    NOT_READY,
    UNREACHABLE,
    has_no_execute,
    plan_no_execute,
    plan_no_schedule,
    ready_status,
)
from cluster.controllers.node.zones import Bucket, Rates, zone_of, zone_rates

log = logging.getLogger("kubestage.controllers.node")

WORKERS = 30
LEASE_NAMESPACE = "kube-node-lease"
RETRY_SECONDS = 0.1
EVICTION_PERIOD = 0.1
BLIND_SECONDS = 3.0  # an answer that takes longer means that the API was away


class NodeLifecycleController:
    """Node conditions, taints and readiness of pods on lost nodes."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        config = context.config
        self._rates = Rates(
            config.node_eviction_rate,
            config.secondary_node_eviction_rate,
            config.unhealthy_zone_threshold,
            config.large_cluster_size_threshold,
        )
        self._recorder = context.recorder("node-controller")
        self._queue = context.queue("node_lifecycle_controller")
        self._heartbeats: dict[str, Heartbeat] = {}
        self._buckets: dict[str, Bucket] = {}
        self._unready_marked: set[str] = set()
        self._nodes = context.informers.informer(NODES)
        self._leases = context.informers.informer(LEASES)
        self._pods = context.informers.informer(PODS)
        self._nodes.add_handler(self._handle_node)
        self._leases.add_handler(self._handle_lease)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(NODES, LEASES, PODS)
        async with asyncio.TaskGroup() as group:
            group.create_task(run_workers(self._queue, self._sync, WORKERS))
            group.create_task(self._monitor())
            group.create_task(self._evict())

    # -- events

    def _handle_node(self, old: Object | None, new: Object | None) -> None:
        obj = new or old
        assert obj is not None
        name = obj["metadata"]["name"]
        if new is None:
            self._heartbeats.pop(name, None)
            self._unready_marked.discard(name)
            for bucket in self._buckets.values():
                bucket.waiting.pop(name, None)
            message = f"Node {name} event: Removing Node {name} from Controller"
            self._recorder.event(node_reference(obj), "Normal", "RemovingNode", message)
            return
        monotonic = self._context.clock.monotonic()
        heartbeat = self._heartbeats.get(name)
        if heartbeat is None:
            heartbeat = self._heartbeats[name] = Heartbeat(monotonic)
            message = f"Node {name} event: Registered Node {name} in Controller"
            self._recorder.event(node_reference(obj), "Normal", "RegisteredNode", message)
        heartbeat.handle_status(new, monotonic)
        self._queue.add(name)

    def _handle_lease(self, old: Object | None, new: Object | None) -> None:
        if new is None or new["metadata"]["namespace"] != LEASE_NAMESPACE:
            return
        heartbeat = self._heartbeats.get(new["metadata"]["name"])
        if heartbeat is not None:
            heartbeat.handle_lease(new, self._context.clock.monotonic())

    # -- taints follow conditions

    async def _sync(self, name: str) -> float | None:
        node = self._nodes.get(name)
        if node is None:
            return None
        now = self._context.clock.now()
        taints = plan_no_schedule(node, now)
        status = ready_status(node)
        if status == "True":
            self._bucket(node).waiting.pop(name, None)
            self._unready_marked.discard(name)
            calmed = plan_no_execute(_with_taints(node, taints), "", now)
            taints = calmed if calmed is not None else taints
        else:
            wanted = NOT_READY if status == "False" else UNREACHABLE
            if has_no_execute(node):  # tainted already: only the kind may change, and at once
                swapped = plan_no_execute(_with_taints(node, taints), wanted, now)
                taints = swapped if swapped is not None else taints
            await self._mark_pods_unready(node)
        if taints is None:
            return None
        return await self._write_taints(node, taints)

    async def _write_taints(self, node: Object, taints: list[Object]) -> float | None:
        meta = node["metadata"]
        patch = {
            "metadata": {"resourceVersion": meta["resourceVersion"]},
            "spec": {"taints": taints or None},
        }
        try:
            await self._client.patch(NODES, meta["name"], patch, answer="none")
        except Conflict:
            return RETRY_SECONDS
        except NotFound:
            return None
        return None

    def _bucket(self, node: Object) -> Bucket:
        return self._buckets.setdefault(zone_of(node), Bucket(rate=self._rates.primary))

    # -- silence

    async def _monitor(self) -> None:
        while True:
            await asyncio.sleep(self._context.config.node_monitor_period)
            try:
                await self.look_for_silence()
            except StatusError as error:  # the next pass tries again
                log.info("node monitor: %s", error)

    async def look_for_silence(self) -> None:
        """One pass over all nodes: mark the silent, reckon each zone's rate."""
        now = self._context.clock.now()
        zones: dict[str, tuple[int, int]] = {}
        silent: list[Object] = []
        for node in self._nodes.list():
            heartbeat = self._heartbeats.get(node["metadata"]["name"])
            quiet = heartbeat is not None and self._is_silent(heartbeat)
            if quiet and plan_silence(node, now) is not None:
                silent.append(node)
            ready, sick = zones.get(zone_of(node), (0, 0))
            well = ready_status(node) == "True" and not quiet
            if ready_status(node) != "True" and not has_no_execute(node):
                self._bucket(node).waiting[node["metadata"]["name"]] = None
            zones[zone_of(node)] = (ready + 1, sick) if well else (ready, sick + 1)
        self._set_rates(zones)
        if silent and await self._hears_leases(silent):
            await asyncio.gather(*(self._mark_silent(node) for node in silent))

    def _is_silent(self, heartbeat: Heartbeat) -> bool:
        config = self._context.config
        return heartbeat.is_silent(
            self._context.clock.monotonic(),
            config.node_monitor_grace_period,
            config.node_startup_grace_period,
        )

    async def _hears_leases(self, nodes: list[Object]) -> bool:
        """Ask for the leases of silent nodes. False: it is us who cannot hear, so every node gets
        its grace again.

        Unlike Kubernetes: upstream goes by its cache alone, so that an API server that was away
        for longer than the grace period makes all nodes unready when it comes back.
        """
        begun = self._context.clock.monotonic()
        answers = await asyncio.gather(
            *(
                self._client.get(LEASES, node["metadata"]["name"], LEASE_NAMESPACE)
                for node in nodes
            ),
            return_exceptions=True,
        )
        monotonic = self._context.clock.monotonic()
        late = monotonic - begun > BLIND_SECONDS
        if late or any(isinstance(answer, Unreachable) for answer in answers):
            for heartbeat in self._heartbeats.values():
                heartbeat.seen_at = monotonic
            return False
        for answer in answers:
            if isinstance(answer, BaseException):
                if not isinstance(answer, StatusError):
                    raise answer
            else:
                self._handle_lease(None, answer)
        return True

    def _set_rates(self, zones: dict[str, tuple[int, int]]) -> None:
        metrics = self._context.metrics
        for zone, rate in zone_rates(zones, self._rates).items():
            self._buckets.setdefault(zone, Bucket()).rate = rate
            ready, sick = zones[zone]
            metrics.node_zone_size.labels(zone.replace("\x00", "")).set(ready + sick)
            metrics.node_zone_health.labels(zone.replace("\x00", "")).set(
                100.0 * ready / (ready + sick)
            )

    async def _mark_silent(self, node: Object) -> None:
        conditions = plan_silence(node, self._context.clock.now())
        name = node["metadata"]["name"]
        heartbeat = self._heartbeats.get(name)
        if conditions is None or heartbeat is None or not self._is_silent(heartbeat):
            return
        was_ready = ready_status(node) == "True"
        status = {**(node.get("status") or {}), "conditions": conditions}
        try:
            await self._client.update(
                NODES, {**node, "status": status}, subresource="status", answer="none"
            )
        except (Conflict, NotFound):
            return  # it spoke just now, or it is gone
        if was_ready:
            message = f"Node {name} status is now: NodeNotReady"
            self._recorder.event(node_reference(node), "Normal", "NodeNotReady", message)

    async def _mark_pods_unready(self, node: Object) -> None:
        """Pods of a node not ready are not ready (nodeutil.MarkPodsNotReady), once a loss."""
        name = node["metadata"]["name"]
        if name in self._unready_marked:
            return
        self._unready_marked.add(name)
        stamp = rfc3339(self._context.clock.now())
        writes: list[asyncio.Future[Object]] = []
        for key in self._context.pods.on_node(name):
            pod = self._pods.get(key)
            if pod is None:
                continue
            ready = find_condition((pod.get("status") or {}).get("conditions"), "Ready")
            if ready is None or ready["status"] != "True":
                continue
            patch = {
                "status": {
                    "conditions": [
                        {"type": "Ready", "status": "False", "lastTransitionTime": stamp}
                    ]
                }
            }
            meta = pod["metadata"]
            writes.append(
                self._client.patch_nowait(
                    PODS,
                    meta["name"],
                    patch,
                    meta["namespace"],
                    patch_type="strategic",
                    subresource="status",
                    answer="none",
                )
            )
            self._recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")
        for answer in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(answer, NotFound) or not isinstance(answer, BaseException):
                continue
            self._unready_marked.discard(name)  # the queue tries again
            raise answer

    # -- eviction

    async def _evict(self) -> None:
        while True:
            await asyncio.sleep(EVICTION_PERIOD)
            try:
                await self.taint_next()
            except StatusError as error:
                log.info("node eviction: %s", error)

    async def taint_next(self) -> None:
        """Taint NoExecute the nodes whose turn it is."""
        monotonic, now = self._context.clock.monotonic(), self._context.clock.now()
        for zone, bucket in self._buckets.items():
            name = bucket.take(monotonic)
            node = self._nodes.get(name) if name is not None else None
            if name is None or node is None or ready_status(node) == "True":
                continue
            wanted = NOT_READY if ready_status(node) == "False" else UNREACHABLE
            taints = plan_no_execute(node, wanted, now)
            if taints is None:
                continue
            if await self._write_taints(node, taints) is not None:
                bucket.waiting[name] = None
                bucket.tokens = 1.0
                continue
            self._context.metrics.node_evictions.labels(zone.replace("\x00", "")).inc()


def _with_taints(node: Object, taints: list[Object] | None) -> Object:
    return node if taints is None else {**node, "spec": {**node.get("spec", {}), "taints": taints}}


def node_reference(node: Object) -> Object:
    """What the node controller's Events are about: the node, known by its UID, in no namespace."""
    meta = node["metadata"]
    return {"apiVersion": "v1", "kind": "Node", "name": meta["name"], "uid": meta.get("uid", "")}
