"""podFailurePolicy, successPolicy and backoffLimitPerIndex as tables over one step of a Job."""

from __future__ import annotations

from cluster.api.meta import Object
from cluster.controllers.job.plan import Plan, plan_job
from cluster.controllers.job.pods import FINALIZER, INDEX, make_pod
from cluster.controllers.job.policies import FAILURE_COUNT

NOW = 1_000_000.0


def job(**spec: object) -> Object:
    base = {"parallelism": 3, "completions": 3, "backoffLimit": 6, "completionMode": "Indexed"}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}
    meta = {"name": "j", "namespace": "ns", "uid": "j"}
    return {"metadata": meta, "spec": {**base, "template": template, **spec}, "status": {}}


def pod(index: int, phase: str, code: int = 1, failures: int = 0, **status: object) -> Object:
    ended = {"terminated": {"exitCode": code, "finishedAt": "2026-01-01T00:00:00Z"}}
    return {
        "metadata": {
            "name": f"j-{index}",
            "namespace": "ns",
            "uid": f"u{index}-{phase}-{failures}",
            "finalizers": [FINALIZER],
            "annotations": {INDEX: str(index), FAILURE_COUNT: str(failures)},
        },
        "spec": {},
        "status": {"phase": phase, "containerStatuses": [{"name": "c", "state": ended}], **status},
    }


def step(owner: Object, *pods: Object) -> Plan:
    return plan_job(owner, list(pods), NOW * 2000)


def rules(*given: Object) -> Object:
    return {"podFailurePolicy": {"rules": list(given)}}


ON_42 = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
DISRUPTED = {"type": "DisruptionTarget", "status": "True"}
ON_DISRUPTION = {
    "action": "Ignore",
    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
}


def test_an_exit_code_of_a_rule_ends_the_job_with_the_reason() -> None:
    plan = step(job(**rules(ON_42)), pod(0, "Failed", 42), pod(1, "Running"))
    assert plan.verdict is not None and plan.verdict.reason == "PodFailurePolicy"
    assert plan.verdict.message == (
        "Container c for pod ns/j-0 failed with exit code 42 matching FailJob rule at index 0"
    )
    assert [p["metadata"]["name"] for p in plan.delete] == ["j-1"]
    assert step(job(**rules(ON_42)), pod(0, "Failed", 1)).verdict is None


def test_a_disrupted_pod_is_let_go_without_being_counted() -> None:
    plan = step(job(**rules(ON_42, ON_DISRUPTION)), pod(0, "Failed", 1, conditions=[DISRUPTED]))
    assert len(plan.ignored) == 1 and not plan.failed and plan.create == [0, 1, 2]


def test_a_success_policy_ends_the_job_before_all_indexes_are_done() -> None:
    policy = {"rules": [{"succeededIndexes": "0,2", "succeededCount": 1}]}
    plan = step(
        job(successPolicy=policy), pod(2, "Succeeded"), pod(0, "Running"), pod(1, "Running")
    )
    assert plan.verdict is not None and plan.verdict.condition == "Complete"
    assert (plan.verdict.reason, plan.verdict.message) == (
        "SuccessPolicy",
        "Matched rules at index 0",
    )
    assert len(plan.delete) == 2
    assert step(job(successPolicy=policy), pod(1, "Succeeded")).verdict is None


def test_an_index_that_fails_too_often_is_given_up_alone() -> None:
    owner = job(backoffLimitPerIndex=1, backoffLimit=2**31 - 1)
    once = step(owner, pod(0, "Failed"))
    assert once.failed_indexes == "" and once.failures[0] == 1 and 0 in once.create
    twice = step(owner, pod(0, "Failed", failures=1), pod(1, "Running"))
    assert twice.failed_indexes == "0" and twice.create == [2] and twice.verdict is None
    over = step(owner, pod(0, "Failed", failures=1), pod(1, "Succeeded"), pod(2, "Succeeded"))
    assert over.verdict is not None and over.verdict.reason == "FailedIndexes"
    limited = job(backoffLimitPerIndex=0, maxFailedIndexes=0, backoffLimit=2**31 - 1)
    assert (verdict := step(limited, pod(0, "Failed")).verdict) is not None
    assert verdict.reason == "MaxFailedIndexesExceeded"


def test_fail_index_needs_no_second_try_and_new_pods_remember_how_often_theirs_failed() -> None:
    rule = {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1]}}
    owner = job(backoffLimitPerIndex=3, backoffLimit=2**31 - 1, **rules(rule))
    assert step(owner, pod(1, "Failed", 9)).failed_indexes == "1"
    made = make_pod(owner, 1, 2)["metadata"]["annotations"]
    assert made == {INDEX: "1", FAILURE_COUNT: "2"}
