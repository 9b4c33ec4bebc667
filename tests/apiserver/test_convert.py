"""Resources served in two versions: one store, two languages."""

from __future__ import annotations

from tests.apiserver.api import Api
from tests.apiserver.conftest import Run


def test_events_are_the_same_in_both_groups(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        name = ns.rpartition("/")[2]
        group = f"/apis/events.k8s.io/v1/namespaces/{name}/events"
        async with api.watch(f"{group}?watch=true") as events:
            body = {
                "metadata": {"name": "e"},
                "eventTime": "2026-01-01T00:00:00.000000Z",
                "reportingController": "test",
                "reportingInstance": "test-1",
                "action": "Tested",
                "reason": "Testing",
                "type": "Normal",
                "note": "said",
                "regarding": {"kind": "Pod", "namespace": name, "name": "p"},
            }
            made = await api.ok("POST", group, body)
            assert (made["apiVersion"], made["note"]) == ("events.k8s.io/v1", "said")
            assert (await events.next())["object"] == made
        core = await api.ok("GET", f"{ns}/events/e")
        assert (core["apiVersion"], core["message"]) == ("v1", "said")
        assert core["involvedObject"]["name"] == "p"
        found = await api.ok("GET", f"{group}?fieldSelector=regarding.name%3Dp")
        assert [i["note"] for i in found["items"]] == ["said"]
        assert found["kind"] == "EventList" and found["apiVersion"] == "events.k8s.io/v1"
        patched = await api.ok(
            "PATCH", f"{group}/e",
            {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}},
            content_type="application/merge-patch+json",
        )  # fmt: skip
        assert patched["series"]["count"] == 2 and patched["note"] == "said"

    run(steps)


def test_autoscalers_of_v1_are_stored_as_v2(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        name = ns.rpartition("/")[2]
        base = f"namespaces/{name}/horizontalpodautoscalers"
        body = {
            "metadata": {"name": "h"},
            "spec": {
                "maxReplicas": 5,
                "targetCPUUtilizationPercentage": 70,
                "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
            },
        }
        made = await api.ok("POST", f"/apis/autoscaling/v1/{base}", body)
        assert made["apiVersion"] == "autoscaling/v1"
        assert made["spec"]["targetCPUUtilizationPercentage"] == 70
        stored = await api.ok("GET", f"/apis/autoscaling/v2/{base}/h")
        assert stored["spec"]["metrics"] == [
            {
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 70},
                },
            }
        ]
        made["spec"]["targetCPUUtilizationPercentage"] = 80
        changed = await api.ok("PUT", f"/apis/autoscaling/v1/{base}/h", made)
        assert changed["spec"]["targetCPUUtilizationPercentage"] == 80
        listed = await api.ok("GET", f"/apis/autoscaling/v1/{base}")
        assert listed["items"][0]["spec"]["targetCPUUtilizationPercentage"] == 80

    run(steps)
