"""Deployment decisions as tables: sizes, proportions, conditions, history."""

from __future__ import annotations

import pytest

from cluster.api.meta import Object, rfc3339
from cluster.controllers.deployment import plan, revisions, rollout, status
from cluster.controllers.deployment.sizes import fenceposts, max_unavailable, new_set_size
from cluster.controllers.intstr import scaled_value

NOW = 1_000_000.0


def deployment(
    replicas: int = 10, surge: object = 3, unavailable: object = 2, **spec: object
) -> Object:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {
        "metadata": {"name": "d", "namespace": "default", "uid": "d-uid", "generation": 1},
        "spec": {
            "replicas": replicas,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "selector": {"matchLabels": {"app": "x"}},
            "template": {
                "metadata": {"labels": {"app": "x"}},
                "spec": {"containers": [{"image": "new"}]},
            },
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 2,
            **spec,
        },
        "status": {},
    }


def replica_set(
    name: str,
    size: int,
    available: int | None = None,
    *,
    image: str = "old",
    age: int = 0,
    **annotations: str,
) -> Object:
    available = size if available is None else available
    held = {f"deployment.kubernetes.io/{k.replace('_', '-')}": v for k, v in annotations.items()}
    return {
        "metadata": {
            "name": name,
            "uid": name,
            "namespace": "default",
            "generation": 1,
            "creationTimestamp": rfc3339(NOW - age),
            "annotations": held,
        },
        "spec": {
            "replicas": size,
            "template": {
                "metadata": {"labels": {"app": "x", "pod-template-hash": name}},
                "spec": {"containers": [{"image": image}]},
            },
        },
        "status": {
            "replicas": size,
            "availableReplicas": available,
            "readyReplicas": available,
            "observedGeneration": 1,
        },
    }


@pytest.mark.parametrize(
    ("value", "total", "up", "want"),
    [
        ("25%", 10, True, 3),
        ("25%", 10, False, 2),
        (4, 10, True, 4),
        ("0%", 10, True, 0),
        ("100%", 7, False, 7),
    ],
)
def test_percentages_round_up_for_surge_and_down_for_unavailable(value, total, up, want) -> None:
    assert scaled_value(value, total, round_up=up) == want


def test_something_that_is_no_percentage_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a percentage"):
        scaled_value("3", 10, round_up=True)


def test_surge_and_unavailable_are_never_both_zero() -> None:
    assert fenceposts(deployment(1, "0%", "25%")) == (0, 1)
    assert max_unavailable(deployment(3, 1, 5)) == 3
    assert max_unavailable(deployment(0, 1, 5)) == 0


@pytest.mark.parametrize(
    ("desired", "surge", "old", "new", "want"),
    [
        (10, 3, 10, 0, 3),
        (10, 3, 13, 0, 0),
        (10, 3, 8, 3, 5),
        (10, 0, 10, 0, 0),
        (10, 20, 10, 0, 10),
        (5, 2, 0, 0, 5),
    ],
)
def test_the_new_replica_set_grows_into_the_room_that_surge_leaves(
    desired, surge, old, new, want
) -> None:
    sets = [replica_set("old", old), replica_set("new", new)]
    assert new_set_size(deployment(desired, surge), sets, new) == want


@pytest.mark.parametrize(
    ("old", "old_available", "new", "new_available", "want"),
    [
        (10, 10, 3, 0, 8),  # two may be missing at once
        (8, 8, 5, 0, None),  # the new ones are not available yet
        (8, 8, 5, 5, 3),
        (10, 8, 0, 0, 8),  # the two unhealthy go first
        (10, 10, 0, 0, 8),
    ],
)
def test_old_replica_sets_shrink_as_far_as_availability_allows(
    old, old_available, new, new_available, want
) -> None:
    before = replica_set("old", old, old_available)
    found = rollout.plan_old_sizes(deployment(10), [before], replica_set("new", new, new_available))
    assert found == ([] if want is None else [(before, want)])


def test_unhealthy_pods_of_old_sets_go_before_healthy_ones_of_older() -> None:
    oldest, older = replica_set("a", 4, 4, age=20), replica_set("b", 6, 2, age=10)
    found = rollout.plan_old_sizes(deployment(10, 3, 4), [older, oldest], replica_set("new", 0))
    assert found == [(older, 2)]


def test_scaling_during_a_rollout_is_shared_in_proportion_and_the_largest_takes_the_rest() -> None:
    sets = [
        replica_set("a", 5, age=9, max_replicas="13"),
        replica_set("b", 8, age=1, max_replicas="13"),
    ]
    found = rollout.plan_scaling(deployment(20, 3), [sets[0]], sets[1])
    assert found == [(sets[1], 14), (sets[0], 9)]
    assert sum(size for _, size in found) == 23
    found = rollout.plan_scaling(deployment(5, 3), [sets[0]], sets[1])
    assert sum(size for _, size in found) == 8


def test_scaling_one_active_set_is_plain_and_a_saturated_new_set_empties_the_old() -> None:
    only = replica_set("a", 5)
    assert rollout.plan_scaling(deployment(7), [], only) == [(only, 7)]
    new = replica_set("n", 10, desired_replicas="10")
    old = replica_set("o", 3)
    assert rollout.plan_scaling(deployment(10), [old], new) == [(old, 0)]


def kinds(effects: list[plan.Effect]) -> list[str]:
    return [type(e).__name__ for e in effects]


def turn(obj: Object, sets: list[Object], running: bool = False) -> list[plan.Effect]:
    return plan.plan_deployment(obj, sets, lambda _: running, NOW)


def test_the_first_turn_creates_the_set_tells_and_writes_one_status() -> None:
    effects = turn(deployment(3), [])
    assert kinds(effects) == ["CreateSet", "Report", "WriteStatus", "LookAgain"]
    made = effects[0].replica_set  # type: ignore[union-attr]
    name = made["metadata"]["name"]
    assert made["spec"]["selector"]["matchLabels"]["pod-template-hash"] == name.removeprefix("d-")
    assert made["spec"]["template"]["metadata"]["labels"] == made["metadata"]["labels"]
    written = effects[2].deployment["status"]  # type: ignore[union-attr]
    reasons = {c["type"]: (c["status"], c["reason"], c["message"]) for c in written["conditions"]}
    assert reasons["Progressing"] == (
        "True",
        "NewReplicaSetCreated",
        f'Created new replica set "{name}"',
    )
    assert reasons["Available"][1] == "MinimumReplicasUnavailable"
    assert made["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] is True


def test_the_hash_ignores_order_and_changes_with_a_collision() -> None:
    a = {"spec": {"x": 1, "y": 2}}
    b = {"spec": {"y": 2, "x": 1}}
    assert revisions.template_hash(a) == revisions.template_hash(b) != revisions.template_hash(a, 1)
    assert set(revisions.template_hash(a)) <= set("bcdfghjklmnpqrstvwxz2456789")


def test_a_paused_deployment_only_scales_and_says_so() -> None:
    old = replica_set("o", 3, desired_replicas="3", revision="1")
    effects = turn(deployment(3, paused=True), [old])
    (write,) = [e for e in effects if isinstance(e, plan.WriteStatus)]
    (progress,) = [
        c for c in write.deployment["status"]["conditions"] if c["type"] == "Progressing"
    ]
    assert (progress["status"], progress["reason"]) == ("Unknown", "DeploymentPaused")
    assert not [e for e in effects if isinstance(e, plan.CreateSet)]


def test_old_empty_sets_beyond_the_history_limit_are_deleted_oldest_revision_first() -> None:
    new = replica_set("new", 3, image="new", revision="9", desired_replicas="3", max_replicas="6")
    old = [replica_set(f"o{i}", 0, revision=str(i)) for i in range(1, 6)]
    obj = deployment(3)
    obj["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "9"}
    obj["status"] = {
        "replicas": 3,
        "updatedReplicas": 3,
        "availableReplicas": 3,
        "observedGeneration": 1,
        "conditions": [status.condition("Progressing", "True", "NewReplicaSetAvailable", "", NOW)],
    }
    effects = turn(obj, [*old, new])
    assert [
        e.replica_set["metadata"]["name"] for e in effects if isinstance(e, plan.DeleteSet)
    ] == ["o1", "o2", "o3"]


def test_recreate_first_empties_then_waits_for_running_pods_then_creates() -> None:
    obj = deployment(3, strategy={"type": "Recreate"})
    old = replica_set("o", 3)
    assert "UpdateSet" in kinds(turn(obj, [old]))
    empty = replica_set("o", 0)
    assert "CreateSet" not in kinds(turn(obj, [empty], running=True))
    assert "CreateSet" in kinds(turn(obj, [empty]))


def test_a_rollout_without_progress_times_out_and_progress_keeps_the_old_transition() -> None:
    new = replica_set(
        "new", 3, 0, image="new", revision="1", desired_replicas="3", max_replicas="6"
    )
    obj = deployment(3)
    obj["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "1"}
    created = status.condition("Progressing", "True", "NewReplicaSetCreated", "", NOW - 700)
    obj["status"] = {
        "replicas": 3,
        "updatedReplicas": 3,
        "unavailableReplicas": 3,
        "observedGeneration": 1,
        "terminatingReplicas": 0,
        "conditions": [created],
    }
    found = status.rollout_status(obj, [new], new, NOW, count_terminating=False)
    (progress,) = [c for c in found["conditions"] if c["type"] == "Progressing"]
    assert progress["status"] == "False" and progress["reason"] == "ProgressDeadlineExceeded"
    assert progress["message"] == 'ReplicaSet "new" has timed out progressing.'
    better = replica_set("new", 3, 1, image="new")
    found = status.rollout_status(obj, [better], better, NOW, count_terminating=False)
    (progress,) = [c for c in found["conditions"] if c["type"] == "Progressing"]
    assert progress["reason"] == "ReplicaSetUpdated" and progress["lastUpdateTime"] == rfc3339(NOW)
    assert progress["lastTransitionTime"] == rfc3339(NOW - 700)


def test_the_next_look_is_when_the_deadline_is_over() -> None:
    obj = deployment(3)
    obj["status"] = {
        "conditions": [status.condition("Progressing", "True", "ReplicaSetUpdated", "", NOW - 100)]
    }
    assert status.progress_check_in(obj, obj["status"], NOW) == 501.0


def test_a_status_that_lags_behind_its_size_does_not_cost_availability() -> None:
    lagging = replica_set("old", 3, 4)  # was 4 a moment ago
    found = rollout.plan_old_sizes(deployment(4, 1, 1), [lagging], replica_set("new", 1, 1))
    assert found == [(lagging, 2)]
