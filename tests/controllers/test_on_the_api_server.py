"""All controllers on the real API server under their own identity: RBAC, validation, batches."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from prometheus_client import CollectorRegistry

from cluster.api.errors import NotFound, StatusError
from cluster.api.meta import (
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    EVENTS,
    GVR,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    SERVICES,
    STATEFULSETS,
    Object,
    SystemClock,
    object_key,
    rfc3339,
)
from cluster.apiserver import ApiServer, ApiServerConfig
from cluster.client import Batcher, Client, HttpTransport, Informer
from cluster.controllers.context import ControllerConfig
from cluster.controllers.manager import ControllerManager
from cluster.etcd.sqlite import SqliteStore
from cluster.metrics.apiserver import ApiServerMetrics
from cluster.metrics.controllers import ControllerMetrics
from cluster.metrics.etcd import StoreMetrics

TOKENS = 'admin,admin,1,"system:masters"\nkcm,system:kube-controller-manager,2\n'


class Cluster:
    """An administrator, and a kubelet-and-scheduler that makes every pod run at once."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.pods = Informer(client, PODS)
        self.pods.add_handler(self._handle)
        self._steps: set[asyncio.Task[None]] = set()
        self._ips = 0
        self.ending: dict[str, str] = {}  # container name -> phase its pods end in

    def _handle(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            step = asyncio.create_task(self._step(new))
            self._steps.add(step)
            step.add_done_callback(self._steps.discard)

    async def _step(self, pod: Object) -> None:
        meta, name = pod["metadata"], pod["metadata"]["name"]
        try:
            if "deletionTimestamp" in meta:
                if not meta.get("finalizers"):
                    await self.client.delete(PODS, name, meta["namespace"], grace_seconds=0)
            elif not pod["spec"].get("nodeName"):
                body = {"metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}}
                await self.client.create(
                    PODS, body, meta["namespace"], subresource="binding", name=name
                )
            elif pod["status"].get("phase") == "Pending":
                await self._run(pod)
        except StatusError as error:
            assert isinstance(error, NotFound) or error.code == 409, error

    async def _run(self, pod: Object) -> None:
        self._ips += 1
        ip = f"10.244.{self._ips // 250}.{self._ips % 250 + 1}"
        stamp = rfc3339(SystemClock().now())
        phase = self.ending.get(pod["spec"]["containers"][0]["name"], "Running")
        ready = "True" if phase == "Running" else "False"
        condition = {"type": "Ready", "status": ready, "lastTransitionTime": stamp}
        status = {"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [condition]}
        meta = pod["metadata"]
        await self.client.patch(
            PODS,
            meta["name"],
            {"status": status},
            meta["namespace"],
            patch_type="strategic",
            subresource="status",
        )

    async def until(self, gvr: GVR, key: str, condition: Callable[[Object], object]) -> Object:
        """Wait for a state of one object; a missing one is {}."""
        namespace, _, name = key.rpartition("/")
        last: Object = {}
        try:
            async with asyncio.timeout(20):
                while True:
                    try:
                        last = await self.client.get(gvr, name, namespace)
                    except NotFound:
                        last = {}
                    if condition(last):
                        return last
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(last) from None


Scenario = Callable[[Cluster], Coroutine[Any, Any, None]]


@asynccontextmanager
async def cluster(directory: Path) -> AsyncIterator[Cluster]:
    (directory / "tokens.csv").write_text(TOKENS)
    registry, clock = CollectorRegistry(), SystemClock()
    store = await SqliteStore.open(directory / "db.sqlite", clock, StoreMetrics(registry))
    config = ApiServerConfig(token_file=str(directory / "tokens.csv"))
    metrics = ApiServerMetrics(registry)
    server = ApiServer(config, store, clock, random.Random(1), lambda: str(uuid.uuid4()), metrics)
    await server.start()
    transports = [HttpTransport(server.url), HttpTransport(server.url)]
    admin, own = (
        Client(t, token=token, batcher=Batcher(t, token=token))
        for t, token in zip(transports, ("admin", "kcm"), strict=True)
    )
    manager = ControllerManager(
        own,
        ControllerConfig(root_ca_pem="PEM"),
        clock,
        random.Random(2),
        lambda: str(uuid.uuid4()),
        ControllerMetrics(CollectorRegistry()),
    )
    made = Cluster(admin)
    tasks = [asyncio.create_task(manager.run()), asyncio.create_task(made.pods.run())]
    try:
        await asyncio.sleep(0)
        await asyncio.wait_for(manager.wait_synced(), 20)
        await admin.create(NODES, {"metadata": {"name": "n1"}})
        ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": rfc3339(clock.now())}
        await made.until(NODES, "n1", lambda n: n["spec"].get("podCIDR"))
        await admin.patch(NODES, "n1", {"status": {"conditions": [ready]}}, subresource="status")
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for transport in transports:
            await transport.close()
        await server.stop(0.1)
        await store.close()


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Scenario], None]:
    def start(scenario: Scenario) -> None:
        async def whole() -> None:
            async with cluster(tmp_path) as made:
                await scenario(made)

        uvloop.run(whole())

    return start


def workload(kind: str, **spec: object) -> Object:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "nginx"}]},
    }
    return {
        "kind": kind,
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec},
    }


def test_a_deployment_rolls_out_and_over_behind_its_service_and_is_deleted(run: Any) -> None:
    async def scenario(c: Cluster) -> None:
        ports = [{"name": "http", "port": 80}]
        service = {
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": ports},
        }
        await c.client.create(SERVICES, service, "default")
        await c.client.create(DEPLOYMENTS, workload("Deployment", replicas=12))
        await c.until(
            DEPLOYMENTS, "default/web", lambda d: d["status"].get("availableReplicas") == 12
        )
        patch = {
            "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "nginx:2"}]}}}
        }
        await c.client.patch(DEPLOYMENTS, "web", patch, "default", patch_type="strategic")
        done = await c.until(
            DEPLOYMENTS,
            "default/web",
            lambda d: (
                d["status"].get("observedGeneration") == 2
                and d["status"].get("updatedReplicas") == d["status"].get("availableReplicas") == 12
                and d["status"]["replicas"] == 12
            ),
        )
        assert done["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
        progress = {x["type"]: x["reason"] for x in done["status"]["conditions"]}
        assert progress == {
            "Available": "MinimumReplicasAvailable",
            "Progressing": "NewReplicaSetAvailable",
        }
        await asyncio.sleep(0.4)
        slices = (
            await c.client.list(
                ENDPOINTSLICES, "default", label_selector="kubernetes.io/service-name=web"
            )
        ).items
        assert sum(len(s["endpoints"]) for s in slices) == 12
        sets = (await c.client.list(REPLICASETS, "default")).items
        assert sorted(s["spec"]["replicas"] for s in sets) == [0, 12]
        reasons = {e["reason"] for e in (await c.client.list(EVENTS, "default")).items}
        assert {"ScalingReplicaSet", "SuccessfulCreate", "SuccessfulDelete"} <= reasons
        await c.client.delete(DEPLOYMENTS, "web", "default", propagation="Foreground")
        await c.until(DEPLOYMENTS, "default/web", lambda d: not d)
        assert not (await c.client.list(PODS, "default")).items

    run(scenario)


def test_the_other_kinds_come_to_their_end(run: Any) -> None:
    async def scenario(c: Cluster) -> None:
        c.ending["job"] = "Succeeded"
        await c.client.create(NAMESPACES, {"metadata": {"name": "team"}})
        for name, obj, gvr in (
            ("db", workload("StatefulSet", replicas=3, serviceName="db"), STATEFULSETS),
            ("log", workload("DaemonSet"), DAEMONSETS),
        ):
            labels = {"app": name}
            obj["metadata"] = {"name": name, "namespace": "team"}
            obj["spec"]["selector"] = {"matchLabels": labels}
            obj["spec"]["template"] = {**obj["spec"]["template"], "metadata": {"labels": labels}}
            await c.client.create(gvr, obj)
        job = {
            "metadata": {"name": "job", "namespace": "team"},
            "spec": {
                "completions": 4,
                "parallelism": 2,
                "template": {
                    "spec": {
                        "containers": [{"name": "job", "image": "busybox"}],
                        "restartPolicy": "Never",
                    }
                },
            },
        }
        await c.client.create(JOBS, job)
        await c.until(STATEFULSETS, "team/db", lambda s: s["status"].get("availableReplicas") == 3)
        await c.until(DAEMONSETS, "team/log", lambda s: s["status"].get("numberAvailable") == 1)
        done = await c.until(
            JOBS, "team/job", lambda j: "completionTime" in (j.get("status") or {})
        )
        assert done["status"]["succeeded"] == 4
        pods = (await c.client.list(PODS, "team")).items
        assert {"db-0", "db-1", "db-2"} <= {p["metadata"]["name"] for p in pods}
        await c.client.delete(NAMESPACES, "team")
        await c.until(NAMESPACES, "/team", lambda n: not n)
        assert [object_key(p) for p in (await c.client.list(PODS)).items] == []

    run(scenario)
