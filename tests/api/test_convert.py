"""Kinds of several versions."""

from __future__ import annotations

from cluster.api.convert import to_version
from cluster.api.meta import Object


def test_events_change_their_names_and_back() -> None:
    event: Object = {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "message": "m", "count": 2,
        "involvedObject": {"kind": "Pod"}, "source": {"component": "k"}, "reportingComponent": "k",
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:01Z",
        "type": "Normal", "reason": "R",
    }  # fmt: skip
    new = to_version(event, "events.k8s.io/v1")
    assert new["note"] == "m"
    assert new["regarding"] == {"kind": "Pod"}
    assert new["deprecatedCount"] == 2
    assert new["reportingController"] == "k"
    assert to_version(new, "v1") == event


def autoscaler() -> Object:
    target = {"type": "Utilization", "averageUtilization": 50}
    memory = {"type": "Utilization", "averageUtilization": 70}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {
            "maxReplicas": 3,
            "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": target}},
                {"type": "Resource", "resource": {"name": "memory", "target": memory}},
            ],
        },
    }


def test_autoscalers_keep_in_annotations_what_version_1_has_no_field_for() -> None:
    old = to_version(autoscaler(), "autoscaling/v1")
    assert old["spec"] == {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}
    assert "memory" in old["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"]
    assert to_version(old, "autoscaling/v2") == autoscaler()


def test_an_object_of_the_wanted_version_is_itself() -> None:
    pod: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    assert to_version(pod, "v1") is pod
