"""What a Job's own rules say about pods that failed and indexes that succeeded.

Plays pod_failure_policy.go, success_policy.go and backoff_utils.go of pkg/controller/job.
"""

from __future__ import annotations

from typing import NamedTuple

from cluster.api.meta import Object
from cluster.controllers.job.pods import FAILURE_COUNT, index_of, parse_indexes

COUNT, IGNORE, FAIL_JOB, FAIL_INDEX = "Count", "Ignore", "FailJob", "FailIndex"


class Match(NamedTuple):
    """What the first matching rule does about a failed pod; `message` only for FailJob."""

    action: str
    message: str = ""


def match_failure(job: Object, pod: Object) -> Match:
    """The podFailurePolicy's word on a failed pod: Count unless a rule says otherwise."""
    policy = job["spec"].get("podFailurePolicy") or {}
    for number, rule in enumerate(policy.get("rules") or ()):
        why = ""
        if rule.get("onExitCodes"):
            why = _match_exit_codes(rule["onExitCodes"], pod)
        elif rule.get("onPodConditions"):
            why = _match_conditions(rule["onPodConditions"], pod)
        if why:
            action = rule["action"]
            return Match(action, f"{why} matching {action} rule at index {number}")
    return Match(COUNT)


def _match_exit_codes(requirement: Object, pod: Object) -> str:
    meta, status = pod["metadata"], pod.get("status") or {}
    wanted = requirement.get("containerName")
    every = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    for container in every:
        ended = (container.get("state") or {}).get("terminated")
        if ended is None or (wanted and container["name"] != wanted):
            continue
        code = int(ended.get("exitCode", 0))
        listed = code in (requirement.get("values") or ())
        if code != 0 and listed == (requirement["operator"] == "In"):
            where = f"{meta['namespace']}/{meta['name']}"
            return f"Container {container['name']} for pod {where} failed with exit code {code}"
    return ""


def _match_conditions(patterns: list[Object], pod: Object) -> str:
    meta = pod["metadata"]
    for pattern in patterns:
        for condition in (pod.get("status") or {}).get("conditions") or ():
            wanted = pattern["type"], pattern.get("status", "True")
            if (condition["type"], condition["status"]) == wanted:
                return f"Pod {meta['namespace']}/{meta['name']} has condition {condition['type']}"
    return ""


def match_success(job: Object, done: set[int]) -> str:
    """Why the Job counts as successful already ('' if it does not): a successPolicy rule."""
    policy = job["spec"].get("successPolicy") or {}
    for number, rule in enumerate(policy.get("rules") or ()):
        chosen = parse_indexes(rule["succeededIndexes"]) if rule.get("succeededIndexes") else None
        reached = done if chosen is None else done & chosen
        count = rule.get("succeededCount")
        if count is not None:
            enough = len(reached) >= int(count)
        else:
            enough = chosen is not None and reached == chosen
        if enough:
            return f"Matched rules at index {number}"
    return ""


def failures_by_index(job: Object, pods: list[Object]) -> dict[int, int]:
    """How often each index has failed, by what its pods remember and by those that failed now."""
    counts: dict[int, int] = {}
    for pod in pods:
        index = index_of(pod)
        if index < 0:
            continue
        text = (pod["metadata"].get("annotations") or {}).get(FAILURE_COUNT, "0")
        count = int(text) if text.isdigit() else 0
        failed = (pod.get("status") or {}).get("phase") == "Failed"
        if failed and match_failure(job, pod).action != IGNORE:
            count += 1
        counts[index] = max(counts.get(index, 0), count)
    return counts


def failed_indexes(job: Object, pods: list[Object], failures: dict[int, int]) -> set[int]:
    """Indexes that may not be tried again (backoffLimitPerIndex, FailIndex)."""
    limit = job["spec"].get("backoffLimitPerIndex")
    if limit is None:
        return set()
    found = parse_indexes((job.get("status") or {}).get("failedIndexes") or "")
    found |= {index for index, count in failures.items() if count > int(limit)}
    found |= {
        index_of(pod)
        for pod in pods
        if (pod.get("status") or {}).get("phase") == "Failed"
        and match_failure(job, pod).action == FAIL_INDEX
    }
    return found - {-1}
