"""ReplicaSet decisions: bursts, slow start, which pods go, expectations, the index."""

from __future__ import annotations

import pytest

from cluster.api.meta import Object, rfc3339
from cluster.controllers.expectations import Expectations
from cluster.controllers.podindex import PodIndex
from cluster.controllers.replicaset.ranking import plan_deletions
from cluster.controllers.replicaset.replicas import (
    Counts,
    plan_replicas,
    replica_set_status,
    slow_start,
)

NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("wanted", "active", "diff"), [(3, 0, 3), (3, 5, -2), (2000, 0, 500), (0, 900, -500), (4, 4, 0)]
)
def test_at_most_a_burst_is_created_or_deleted_at_once(wanted, active, diff) -> None:
    assert plan_replicas(wanted, active, 500) == diff


@pytest.mark.parametrize(
    ("count", "first", "sizes"),
    [(10, 1, [1, 2, 4, 3]), (1, 1, [1]), (0, 1, []), (500, 100, [100, 200, 200])],
)
def test_batches_double_until_all_are_made(count, first, sizes) -> None:
    assert list(slow_start(count, first)) == sizes


def pod(
    name: str,
    *,
    node: str = "n1",
    phase: str = "Running",
    ready: int | None = 100,
    restarts: int = 0,
    created: int = 1000,
    cost: str = "",
) -> Object:
    conditions = (
        [{"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(NOW - ready)}]
        if ready is not None
        else []
    )
    annotations = {"controller.kubernetes.io/pod-deletion-cost": cost} if cost else {}
    return {
        "metadata": {
            "name": name,
            "uid": name,
            "creationTimestamp": rfc3339(NOW - created),
            "annotations": annotations,
        },
        "spec": {"nodeName": node} if node else {},
        "status": {
            "phase": phase,
            "conditions": conditions,
            "containerStatuses": [{"restartCount": restarts}],
        },
    }


@pytest.mark.parametrize(
    ("kept", "gone"),
    [
        (pod("a"), pod("b", node="", phase="Pending", ready=None)),
        (pod("a"), pod("b", phase="Pending", ready=None)),
        (pod("a"), pod("b", ready=None)),
        (pod("a", cost="10"), pod("b", cost="-5")),
        (pod("a"), pod("b", cost="-5", ready=10_000)),
        (pod("a", ready=5000), pod("b", ready=5)),
        (pod("a", ready=100, restarts=0), pod("b", ready=100, restarts=7)),
        (pod("a", ready=100, created=5000), pod("b", ready=100, created=200)),
        (pod("a", cost="nonsense", ready=9000), pod("b", ready=3)),
    ],
)
def test_the_pod_least_missed_goes_first(kept, gone) -> None:
    assert plan_deletions([kept, gone], [], 1, NOW) == [gone]
    assert plan_deletions([gone, kept], [], 1, NOW) == [gone]


def test_pods_on_a_crowded_node_go_before_those_alone() -> None:
    pods = [pod("a", node="n1"), pod("b", node="n2")]
    (gone,) = plan_deletions(pods, ["n1", "n2", "n2"], 1, NOW)
    assert gone["metadata"]["name"] == "b"


def test_ages_of_one_magnitude_are_alike_so_the_uid_decides() -> None:
    pods = [pod("b", ready=110), pod("a", ready=120)]
    (gone,) = plan_deletions(pods, [], 1, NOW)
    assert gone["metadata"]["name"] == "a"


def test_a_refusal_becomes_a_condition_and_goes_with_it() -> None:
    replica_set = {"metadata": {"generation": 2}, "spec": {"replicas": 3}, "status": {}}
    counts = Counts(1, 1, 0, 0, None)
    found = replica_set_status(replica_set, counts, "no quota", 2, NOW)
    (condition,) = found["conditions"]
    assert (condition["type"], condition["reason"], condition["message"]) == (
        "ReplicaFailure",
        "FailedCreate",
        "no quota",
    )
    assert (
        found["replicas"] == 1 and "readyReplicas" not in found and found["observedGeneration"] == 2
    )
    found = replica_set_status({**replica_set, "status": found}, counts, "", 0, NOW)
    assert "conditions" not in found


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    monotonic = now


def test_expectations_hold_until_seen_or_five_minutes_are_over() -> None:
    clock = Clock()
    expectations = Expectations(clock)
    assert expectations.satisfied("k")
    expectations.expect_creations("k", 2)
    expectations.creation_observed("k")
    assert not expectations.satisfied("k")
    expectations.creation_observed("k")
    assert expectations.satisfied("k")
    expectations.expect_deletions("k", ["a", "b"])
    expectations.deletion_observed("k", "a")
    expectations.deletion_observed("k", "a")
    assert not expectations.satisfied("k")
    clock.time = 301
    assert expectations.satisfied("k")


def indexed(
    name: str,
    *,
    owner: str = "o",
    labels: dict[str, str] | None = None,
    node: str = "",
    **meta: object,
) -> Object:
    refs = [{"controller": True, "uid": owner, "kind": "ReplicaSet", "name": "rs"}] if owner else []
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": name,
            "labels": labels or {"a": "b"},
            "ownerReferences": refs,
            **meta,
        },
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": "Running"},
    }


def test_the_index_keeps_sums_by_event_and_forgets_what_is_gone() -> None:
    index = PodIndex()
    seen: list[int] = []
    index.subscribe(lambda changes: seen.append(len(changes)))
    a, b = indexed("a"), indexed("b", node="n1")
    index.handle_batch([(None, a), (None, b)])
    assert seen == [2] and index.owned("o").active == 2 and index.on_node("n1") == ("ns/b",)
    ready = {
        **a,
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    index.handle_batch([(a, ready)])
    assert index.owned("o").ready == 1
    leaving = {**b, "metadata": {**b["metadata"], "deletionTimestamp": "x"}}
    index.handle_batch([(b, leaving)])
    assert (index.owned("o").active, index.owned("o").terminating) == (1, 1)
    orphan = indexed("a", owner="", labels={"c": "d"})
    index.handle_batch([(ready, orphan)])
    assert index.owned("o").ready == 0 and list(index.orphans("ns")) == [(("c", "d"),)]
    index.handle_batch([(orphan, None), (leaving, None)])
    assert not index.owned("o").facts and not index.orphans("ns") and not index.label_sets("ns")
    assert not index.on_node("n1")
