"""A pod's life on a node, against a real API server: what its status and Events say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.api.meta import CONFIGMAPS, EVENTS, PODS, SECRETS, Object
from tests.kubelet.conftest import Scenario
from tests.kubelet.harness import Stage, pod, shell

Play = Callable[[Scenario], None]


def ready(p: Object) -> bool:
    conditions = {c["type"]: c["status"] for c in p["status"].get("conditions") or ()}
    return conditions.get("Ready") == "True"


def phase(wanted: str) -> Callable[[Object], bool]:
    return lambda p: p["status"].get("phase") == wanted


def container(p: Object, index: int = 0) -> Object:
    statuses = p["status"].get("containerStatuses") or [{}]
    return dict(statuses[index])


def waiting(reason: str) -> Callable[[Object], Any]:
    return lambda p: (container(p).get("state") or {}).get("waiting", {}).get("reason") == reason


async def events(s: Stage, name: str = "web") -> list[tuple[str, str]]:
    agent = next(iter(s.pool.agents.values()))
    await agent.recorder.flush()
    listed = (await s.client.list(EVENTS, "default")).items
    return [(e["reason"], e["message"]) for e in listed if e["involvedObject"]["name"] == name]


def test_a_pod_runs_becomes_ready_and_goes(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await s.raise_pool()
        await s.create(pod())
        found = await s.until("web", ready)
        assert found["status"]["podIP"] == "10.244.0.2"
        assert container(found)["containerID"].startswith("containerd://")
        assert container(found)["image"] == "docker.io/library/nginx:1.29"
        names = [reason for reason, _ in await events(s)]
        assert names == ["Pulling", "Pulled", "Created", "Started"]
        await s.client.delete(PODS, "web", "default")
        await s.until_gone("web")
        assert ("Killing", "Stopping container c") in await events(s)
        assert s.runtime.list_pod_sandboxes() == []
        assert s.runtime.list_containers() == []

    play(scenario)


def test_a_command_that_succeeds_completes_the_pod(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await s.raise_pool()
        await s.create(pod(containers=shell("echo hello; exit 0"), restartPolicy="Never"))
        found = await s.until("web", phase("Succeeded"))
        state = container(found)["state"]["terminated"]
        assert (state["exitCode"], state["reason"]) == (0, "Completed")
        conditions = {c["type"]: c.get("reason") for c in found["status"]["conditions"]}
        assert conditions["Ready"] == conditions["ContainersReady"] == "PodCompleted"

    play(scenario)


def test_a_command_that_fails_fails_the_pod(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await s.raise_pool()
        await s.create(pod(containers=shell("exit 3"), restartPolicy="Never"))
        found = await s.until("web", phase("Failed"))
        assert container(found)["state"]["terminated"]["exitCode"] == 3

    play(scenario)


def test_a_crashing_container_backs_off(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await s.raise_pool(backoff=0.2)
        await s.create(pod(containers=shell("exit 1")))
        found = await s.until("web", lambda p: container(p).get("restartCount", 0) >= 2)
        found = await s.until("web", waiting("CrashLoopBackOff"))
        message = container(found)["state"]["waiting"]["message"]
        assert message.startswith("back-off ")
        assert message.endswith(
            f"restarting failed container=c pod=web_default({found['metadata']['uid']})"
        )
        assert container(found)["lastState"]["terminated"]["exitCode"] == 1
        reasons = [reason for reason, _ in await events(s)]
        assert "BackOff" in reasons

    play(scenario)


def test_an_image_that_does_not_exist_backs_off(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await s.raise_pool()
        await s.create(pod(containers=[{"name": "c", "image": "nginx:does-not-exist"}]))
        await s.until("web", waiting("ErrImagePull"))
        found = await s.until("web", waiting("ImagePullBackOff"))
        assert found["status"]["phase"] == "Pending"
        told = await events(s)
        assert ("Failed", "Error: ErrImagePull") in told
        assert ("Failed", "Error: ImagePullBackOff") in told
        assert ("BackOff", 'Back-off pulling image "nginx:does-not-exist"') in told

    play(scenario)


def test_init_containers_run_first_and_in_order(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await s.raise_pool()
        init = [
            {"name": "one", "image": "busybox", "command": ["sleep", "0.05"]},
            {"name": "two", "image": "busybox", "command": ["true"]},
        ]
        await s.create(pod(initContainers=init))
        found = await s.until("web", ready)
        states = [c["state"]["terminated"] for c in found["status"]["initContainerStatuses"]]
        assert [c["exitCode"] for c in states] == [0, 0]
        assert all(c["ready"] for c in found["status"]["initContainerStatuses"])

    play(scenario)


def test_a_sidecar_ends_after_the_main_container(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await s.raise_pool()
        side = [{"name": "side", "image": "nginx:1.29", "restartPolicy": "Always"}]
        await s.create(
            pod(initContainers=side, containers=shell("sleep 0.1"), restartPolicy="Never")
        )
        found = await s.until("web", phase("Succeeded"))
        assert "terminated" in found["status"]["initContainerStatuses"][0]["state"]

    play(scenario)


def test_a_missing_config_map_blocks_the_start(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await s.raise_pool()
        volumes = [{"name": "v", "configMap": {"name": "late"}}]
        await s.create(pod(volumes=volumes))
        found = await s.until("web", waiting("ContainerCreating"))
        text = 'MountVolume.SetUp failed for volume "v" : configmap "late" not found'
        assert ("FailedMount", text) in await events(s)
        assert found["status"]["phase"] == "Pending"
        late = {"metadata": {"name": "late"}, "data": {"k": "v"}}
        await s.client.create(CONFIGMAPS, late, "default")
        await s.until("web", ready)

    play(scenario)


def test_environment_comes_from_maps_and_secrets(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await s.raise_pool()
        await s.client.create(
            SECRETS, {"metadata": {"name": "s"}, "data": {"k": "c2VjcmV0"}}, "default"
        )
        env = [
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "B", "value": "$(A)-b"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ]
        await s.create(pod(containers=shell('echo "$A $B $IP"; sleep 100', env=env)))
        await s.until("web", ready)
        [held] = s.runtime.list_containers()
        text = b"".join(s.runtime.log_of(held.id).lines())
        assert b"secret secret-b 10.244.0.2" in text

    play(scenario)


def test_a_missing_secret_in_the_environment_is_a_config_error(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await s.raise_pool()
        env = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}]
        await s.create(pod(containers=shell("true", env=env)))
        found = await s.until("web", waiting("CreateContainerConfigError"))
        assert container(found)["state"]["waiting"]["message"] == 'secret "no" not found'
        assert ("Failed", 'Error: secret "no" not found') in await events(s)

    play(scenario)


def test_liveness_failure_restarts_the_container(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await s.raise_pool()
        probe = {"exec": {"command": ["cat", "/tmp/healthy"]}, "periodSeconds": 1,
                 "failureThreshold": 1, "initialDelaySeconds": 1}  # fmt: skip
        script = "touch /tmp/healthy; sleep 0.5; rm -f /tmp/healthy; sleep 600"
        await s.create(
            pod(containers=shell(script, livenessProbe=probe), terminationGracePeriodSeconds=1)
        )
        await s.until("web", lambda p: container(p).get("restartCount") == 1)
        told = await events(s)
        assert ("Killing", "Container c failed liveness probe, will be restarted") in told
        assert any(reason == "Unhealthy" for reason, _ in told)

    play(scenario)


def test_readiness_waits_for_the_port(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await s.raise_pool()
        bad = {"httpGet": {"path": "/", "port": 81}, "periodSeconds": 1}
        good = {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1}
        containers = [
            {"name": "c", "image": "nginx:1.29", "readinessProbe": good},
            {"name": "d", "image": "pause", "readinessProbe": bad},
        ]
        await s.create(pod(containers=containers))
        found = await s.until("web", lambda p: container(p).get("ready"))
        assert not ready(found)
        conditions = {c["type"]: c for c in found["status"]["conditions"]}
        assert conditions["Ready"]["message"] == "containers with unready status: [d]"
        told = await events(s)
        text = 'Get "http://10.244.0.2:81/": dial tcp 10.244.0.2:81: connect: connection refused'
        assert ("Unhealthy", f"Readiness probe failed: {text}") in told

    play(scenario)


def test_a_node_without_room_refuses(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await s.raise_pool()
        big = [{"name": "c", "image": "nginx", "resources": {"requests": {"cpu": "5"}}}]
        await s.create(pod(containers=big))
        found = await s.until("web", phase("Failed"))
        assert found["status"]["reason"] == "OutOfcpu"
        assert found["status"]["message"] == (
            "Pod was rejected: Node didn't have enough resource: cpu, "
            "requested: 5000, used: 0, capacity: 4000"
        )

    play(scenario)


def test_containers_are_found_again_after_a_restart(play: Play) -> None:
    async def scenario(s: Stage) -> None:
        await s.raise_pool()
        await s.create(pod())
        before = await s.until("web", ready)
        await s.lower_pool()
        await s.raise_pool()
        await s.until("web", lambda p: s.pool.worker_of("default", "web") is not None)
        worker = s.pool.worker_of("default", "web")
        assert worker is not None
        [held] = s.runtime.list_containers()
        assert container(before)["containerID"] == f"containerd://{held.id}"
        assert held.state == "running"
        after = await s.client.get(PODS, "web", "default")
        assert after["status"]["podIP"] == before["status"]["podIP"]
        assert container(after)["restartCount"] == 0
        await s.client.delete(PODS, "web", "default")
        await s.until_gone("web")

    play(scenario)
