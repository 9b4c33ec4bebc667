"""StatefulSets, DaemonSets, Jobs, CronJobs and disruption budgets through the whole manager."""

from __future__ import annotations

import asyncio

from cluster.api.meta import (
    CONTROLLERREVISIONS,
    CRONJOBS,
    DAEMONSETS,
    EVENTS,
    JOBS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PODDISRUPTIONBUDGETS,
    PODS,
    STATEFULSETS,
    Object,
    rfc3339,
)
from tests.controllers.conftest import Cluster, make_ready
from tests.controllers.fake_api import FakeApi


def run(scenario) -> None:
    asyncio.run(scenario())


def template(image: str = "a:1", **spec: object) -> Object:
    return {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "c", "image": image}], **spec},
    }


def names(api: FakeApi) -> list[str]:
    return sorted(p["metadata"]["name"] for p in api.objects(PODS))


def alive(api: FakeApi) -> list[Object]:
    return [p for p in api.objects(PODS) if "deletionTimestamp" not in p["metadata"]]


def finish(cluster: Cluster, pod: Object, phase: str) -> None:
    key = f"default/{pod['metadata']['name']}"
    ended = {"terminated": {"finishedAt": rfc3339(cluster.clock.now())}}
    status = {"phase": phase, "containerStatuses": [{"name": "c", "state": ended}]}
    cluster.api.change(PODS, key, status=status)


def reap(cluster: Cluster) -> None:
    """What kubelets do: remove pods that are being deleted, unless a finalizer holds them."""
    for pod in cluster.api.objects(PODS):
        if "deletionTimestamp" in pod["metadata"] and not pod["metadata"].get("finalizers"):
            cluster.api.remove(PODS, f"default/{pod['metadata']['name']}")


def stateful_set(replicas: int = 3, image: str = "a:1", **spec: object) -> Object:
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    return {
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "serviceName": "db",
            "selector": {"matchLabels": {"app": "x"}},
            "template": template(image),
            "volumeClaimTemplates": [claim],
            **spec,
        },
    }


def test_a_stateful_set_makes_named_pods_one_after_the_other_each_with_its_claim(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(STATEFULSETS, stateful_set())
            for i in range(3):
                await cluster.until(lambda i=i: len(api.objects(PODS)) == i + 1)
                await cluster.settle(0.03)
                assert names(api) == [f"db-{n}" for n in range(i + 1)], (
                    "the next waits for this one"
                )
                make_ready(cluster, api.store[PODS][f"default/db-{i}"])
            await cluster.until(
                lambda: (api.objects(STATEFULSETS)[0].get("status") or {}).get("readyReplicas") == 3
            )
            pod = api.store[PODS]["default/db-1"]
            assert pod["spec"]["hostname"] == "db-1" and pod["spec"]["subdomain"] == "db"
            assert pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "db-1"
            assert pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "1"
            assert pod["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "data-db-1"}
            assert sorted(c["metadata"]["name"] for c in api.objects(PERSISTENTVOLUMECLAIMS)) == [
                "data-db-0",
                "data-db-1",
                "data-db-2",
            ]
            await cluster.settle(0.05)
            messages = {e["message"] for e in api.objects(EVENTS)}
            assert "create Pod db-0 in StatefulSet db successful" in messages
            assert "create Claim data-db-0 Pod db-0 in StatefulSet db success" in messages

    run(scenario)


def test_a_stateful_set_rolls_from_the_highest_ordinal_down_and_shrinks_likewise(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(STATEFULSETS, stateful_set(2, podManagementPolicy="Parallel"))
            await cluster.until(lambda: names(api) == ["db-0", "db-1"])
            for pod in api.objects(PODS):
                make_ready(cluster, pod)
            await cluster.settle(0.05)
            held = api.objects(STATEFULSETS)[0]
            spec = stateful_set(2, "a:2", podManagementPolicy="Parallel")["spec"]
            api.put(
                STATEFULSETS,
                {**held, "spec": spec, "metadata": {**held["metadata"], "generation": 2}},
            )
            for name, other in (("db-1", "db-0"), ("db-0", "db-1")):
                key = f"default/{name}"
                await cluster.until(
                    lambda key=key: "deletionTimestamp" in api.store[PODS][key]["metadata"]
                )
                assert "deletionTimestamp" not in api.store[PODS][f"default/{other}"]["metadata"]
                reap(cluster)
                await cluster.until(lambda key=key: key in api.store[PODS])
                assert api.store[PODS][key]["spec"]["containers"][0]["image"] == "a:2"
                make_ready(cluster, api.store[PODS][key])
            status = api.objects(STATEFULSETS)[0]["status"]
            await cluster.until(
                lambda: (
                    (s := api.objects(STATEFULSETS)[0]["status"])["currentRevision"]
                    == s["updateRevision"]
                )
            )
            assert len(api.objects(CONTROLLERREVISIONS)) == 2 and status["replicas"] <= 2
            held = api.objects(STATEFULSETS)[0]
            api.change(STATEFULSETS, "default/db", spec={**held["spec"], "replicas": 1})
            await cluster.until(lambda: [p["metadata"]["name"] for p in alive(api)] == ["db-0"])

    run(scenario)


def test_a_daemon_set_follows_the_nodes_and_their_taints_and_updates_one_at_a_time(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            ready = {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "x"}]}
            for name in ("n1", "n2"):
                api.put(
                    NODES,
                    {
                        "metadata": {"name": name, "labels": {"os": "linux"}},
                        "spec": {},
                        "status": ready,
                    },
                )
            taint = {"key": "gpu", "effect": "NoSchedule"}
            api.put(
                NODES,
                {
                    "metadata": {"name": "n3", "labels": {"os": "linux"}},
                    "spec": {"taints": [taint]},
                    "status": ready,
                },
            )
            daemon_set = {
                "metadata": {"name": "log", "namespace": "default"},
                "spec": {
                    "selector": {"matchLabels": {"app": "x"}},
                    "template": template(nodeSelector={"os": "linux"}),
                    "updateStrategy": {
                        "type": "RollingUpdate",
                        "rollingUpdate": {"maxUnavailable": 1},
                    },
                },
            }
            api.put(DAEMONSETS, daemon_set)
            await cluster.until(lambda: len(api.objects(PODS)) == 2)
            for pod in api.objects(PODS):
                affinity = pod["spec"]["affinity"]["nodeAffinity"][
                    "requiredDuringSchedulingIgnoredDuringExecution"
                ]
                (node,) = affinity["nodeSelectorTerms"][0]["matchFields"][0]["values"]
                make_ready(cluster, pod, node=node)
            await cluster.until(
                lambda: (api.objects(DAEMONSETS)[0].get("status") or {}).get("numberReady") == 2
            )
            assert api.objects(DAEMONSETS)[0]["status"]["desiredNumberScheduled"] == 2
            held = api.store[NODES]["n3"]
            api.change(NODES, "n3", spec={k: v for k, v in held["spec"].items() if k != "taints"})
            await cluster.until(lambda: len(api.objects(PODS)) == 3)
            make_ready(cluster, api.objects(PODS)[-1], node="n3")
            await cluster.until(
                lambda: api.objects(DAEMONSETS)[0]["status"].get("numberReady") == 3
            )
            held = api.objects(DAEMONSETS)[0]
            spec = {**held["spec"], "template": template("a:2", nodeSelector={"os": "linux"})}
            api.put(
                DAEMONSETS,
                {**held, "spec": spec, "metadata": {**held["metadata"], "generation": 2}},
            )
            await cluster.until(lambda: len(alive(api)) == 2)
            await cluster.settle(0.05)
            assert len(alive(api)) == 2, "maxUnavailable 1"

    run(scenario)


def job(**spec: object) -> Object:
    return {
        "metadata": {"name": "work", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "template": template(restartPolicy="Never"),
            "parallelism": 2,
            "completions": 3,
            "backoffLimit": 1,
            **spec,
        },
    }


def conditions(api: FakeApi) -> dict[str, str]:
    found = (api.store[JOBS]["default/work"].get("status") or {}).get("conditions") or []
    return {c["type"]: c["reason"] for c in found if c["status"] == "True"}


def test_a_job_runs_its_pods_to_completion_and_counts_each_once(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(JOBS, job())
            await cluster.until(lambda: len(api.objects(PODS)) == 2)
            assert all(
                p["metadata"]["finalizers"] == ["batch.kubernetes.io/job-tracking"]
                for p in api.objects(PODS)
            )
            for pod in api.objects(PODS):
                finish(cluster, pod, "Succeeded")
            await cluster.until(lambda: len(api.objects(PODS)) == 3)
            finish(cluster, api.objects(PODS)[-1], "Succeeded")
            await cluster.until(lambda: "Complete" in conditions(api))
            status = api.store[JOBS]["default/work"]["status"]
            assert status["succeeded"] == 3 and "failed" not in status and "active" not in status
            assert conditions(api) == {
                "SuccessCriteriaMet": "CompletionsReached",
                "Complete": "CompletionsReached",
            }
            assert status["completionTime"] and status["startTime"]
            await cluster.until(
                lambda: all(not p["metadata"].get("finalizers") for p in api.objects(PODS))
            )
            await cluster.until(
                lambda: any(e["message"] == "Job completed" for e in api.objects(EVENTS))
            )

    run(scenario)


def test_a_job_whose_pods_fail_backs_off_and_gives_up_at_its_limit(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(JOBS, job(parallelism=1, completions=1))
            await cluster.until(lambda: len(api.objects(PODS)) == 1)
            finish(cluster, api.objects(PODS)[0], "Failed")
            await cluster.settle(0.05)
            assert len(api.objects(PODS)) == 1, "ten seconds of back-off"
            cluster.clock.advance(11)
            api.change(
                JOBS,
                "default/work",
                metadata={**api.store[JOBS]["default/work"]["metadata"], "labels": {"a": "b"}},
            )
            await cluster.until(lambda: len(api.objects(PODS)) == 2)
            finish(cluster, api.objects(PODS)[-1], "Failed")
            await cluster.until(lambda: "Failed" in conditions(api))
            assert conditions(api)["Failed"] == "BackoffLimitExceeded"
            assert api.store[JOBS]["default/work"]["status"]["failed"] == 2

    run(scenario)


def test_an_indexed_job_gives_each_pod_an_index_and_remembers_which_are_done(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(JOBS, job(completionMode="Indexed", completions=4, parallelism=4))
            await cluster.until(lambda: len(api.objects(PODS)) == 4)
            index = "batch.kubernetes.io/job-completion-index"
            pods = sorted(api.objects(PODS), key=lambda p: p["metadata"]["annotations"][index])
            assert [p["metadata"]["annotations"][index] for p in pods] == ["0", "1", "2", "3"]
            assert pods[2]["spec"]["containers"][0]["env"][0]["name"] == "JOB_COMPLETION_INDEX"
            for pod in pods[:3]:
                finish(cluster, pod, "Succeeded")
            await cluster.until(
                lambda: (
                    (api.store[JOBS]["default/work"].get("status") or {}).get("completedIndexes")
                    == "0-2"
                )
            )
            finish(cluster, pods[3], "Succeeded")
            await cluster.until(lambda: "Complete" in conditions(api))

    run(scenario)


def test_a_suspended_job_has_no_pods_and_a_finished_one_goes_when_its_time_is_over(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            api.put(JOBS, job(suspend=True, completions=1, ttlSecondsAfterFinished=60))
            await cluster.until(lambda: "Suspended" in conditions(api))
            assert not api.objects(PODS)
            held = api.store[JOBS]["default/work"]
            api.change(JOBS, "default/work", spec={**held["spec"], "suspend": False})
            await cluster.until(lambda: api.objects(PODS))
            finish(cluster, api.objects(PODS)[0], "Succeeded")
            await cluster.until(lambda: "Complete" in conditions(api))
            cluster.clock.advance(61)
            held = api.store[JOBS]["default/work"]
            api.change(JOBS, "default/work", metadata={**held["metadata"], "labels": {"a": "b"}})
            await cluster.until(lambda: "default/work" not in api.store[JOBS])

    run(scenario)


def test_a_cron_job_makes_one_job_a_minute_and_keeps_three(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            spec = {
                "schedule": "* * * * *",
                "jobTemplate": {"spec": job(completions=1, parallelism=1)["spec"]},
                "successfulJobsHistoryLimit": 3,
                "failedJobsHistoryLimit": 1,
                "concurrencyPolicy": "Allow",
            }
            api.put(CRONJOBS, {"metadata": {"name": "tick", "namespace": "default"}, "spec": spec})
            for _ in range(5):
                cluster.clock.advance(60)
                held = api.store[CRONJOBS]["default/tick"]
                before = set(api.store.get(JOBS, {}))
                labels = {"at": str(cluster.clock.now())}
                api.change(
                    CRONJOBS, "default/tick", metadata={**held["metadata"], "labels": labels}
                )
                await cluster.until(lambda before=before: set(api.store.get(JOBS, {})) - before)
                (key,) = set(api.store[JOBS]) - before
                assert key == f"default/tick-{int(cluster.clock.now()) // 60}"
                uid = api.store[JOBS][key]["metadata"]["uid"]
                await cluster.until(
                    lambda uid=uid: any(
                        p["metadata"]["ownerReferences"][0]["uid"] == uid for p in api.objects(PODS)
                    )
                )
                for pod in api.objects(PODS):
                    if pod["status"]["phase"] == "Pending":
                        finish(cluster, pod, "Succeeded")
                await cluster.until(
                    lambda key=key: (
                        key not in api.store[JOBS]
                        or "completionTime" in (api.store[JOBS][key].get("status") or {})
                    )
                )
            await cluster.until(lambda: len(api.objects(JOBS)) == 3)
            await cluster.until(
                lambda: any(e["reason"] == "SawCompletedJob" for e in api.objects(EVENTS))
            )

    run(scenario)


def test_a_budget_allows_what_is_above_its_floor(running) -> None:
    async def scenario() -> None:
        async with running() as cluster:
            api = cluster.api
            for i in range(3):
                pod = {
                    "metadata": {"name": f"p{i}", "namespace": "default", "labels": {"app": "x"}},
                    "spec": {},
                    "status": {},
                }
                make_ready(cluster, api.put(PODS, pod))
            budget = {
                "metadata": {"name": "b", "namespace": "default"},
                "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "x"}}},
            }
            api.put(PODDISRUPTIONBUDGETS, budget)

            def allowed() -> int:
                status = api.objects(PODDISRUPTIONBUDGETS)[0].get("status") or {}
                return int(status.get("disruptionsAllowed", -1))

            await cluster.until(lambda: allowed() == 1)
            api.remove(PODS, "default/p0")
            await cluster.until(lambda: allowed() == 0)
            assert api.objects(PODDISRUPTIONBUDGETS)[0]["status"]["desiredHealthy"] == 2

    run(scenario)
