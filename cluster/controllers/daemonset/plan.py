"""Which daemon pods come and go, and the status: nodes and pods as observed in, values out."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.api.meta import Object
from cluster.controllers.daemonset.placement import HASH_LABEL, placement
from cluster.controllers.intstr import scaled_value
from cluster.controllers.podindex import is_ready
from cluster.controllers.podtemplate import available_in


@dataclass(slots=True)
class Plan:
    """Nodes that need a pod, pods that must go, failed pods among those, the status."""

    nodes: list[str] = field(default_factory=list)
    doomed: list[Object] = field(default_factory=list)
    failed: list[Object] = field(default_factory=list)
    status: Object = field(default_factory=dict)
    again: float | None = None


def plan_daemon_set(
    daemon_set: Object,
    nodes: list[Object],
    pods_by_node: dict[str, list[Object]],
    digest: str,
    now: float,
) -> Plan:
    """One step: missing, superfluous and failed pods, then the rolling update, then the counts."""
    plan = Plan()
    known = {n["metadata"]["name"] for n in nodes}
    should: dict[str, bool] = {}
    for node in nodes:
        name = node["metadata"]["name"]
        run, go_on = placement(daemon_set, node)
        should[name] = run
        _plan_node(plan, name, pods_by_node.get(name, []), run, go_on)
    for name, pods in pods_by_node.items():
        if name and name not in known:
            plan.doomed += [p for p in pods if "deletionTimestamp" not in p["metadata"]]
    _plan_update(plan, daemon_set, pods_by_node, should, digest, now)
    plan.status = _status(plan, daemon_set, pods_by_node, should, digest, now)
    return plan


def _plan_node(plan: Plan, name: str, pods: list[Object], run: bool, go_on: bool) -> None:
    alive = [p for p in pods if "deletionTimestamp" not in p["metadata"]]
    if run and not pods:
        plan.nodes.append(name)
        return
    if not go_on:
        plan.doomed += alive
        return
    running: list[Object] = []
    for pod in alive:
        if (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
            plan.failed.append(pod)
            plan.doomed.append(pod)
        else:
            running.append(pod)
    if len(running) > 1:  # the oldest stays
        running.sort(key=lambda p: (not is_ready(p), p["metadata"].get("creationTimestamp", "")))
        plan.doomed += running[1:]


def _plan_update(
    plan: Plan,
    daemon_set: Object,
    pods_by_node: dict[str, list[Object]],
    should: dict[str, bool],
    digest: str,
    now: float,
) -> None:
    """Delete pods of an old template, as many at once as maxUnavailable allows (rollingUpdate)."""
    strategy = daemon_set["spec"].get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate" or plan.nodes or plan.doomed:
        return
    desired = sum(should.values())
    limit = (strategy.get("rollingUpdate") or {}).get("maxUnavailable", 1)
    room = max(1, scaled_value(limit, desired, round_up=True))
    min_ready = int(daemon_set["spec"].get("minReadySeconds", 0))
    old_available: list[Object] = []
    for name, run in should.items():
        if not run:
            continue
        current = [
            p for p in pods_by_node.get(name, []) if "deletionTimestamp" not in p["metadata"]
        ]
        if not current:
            room -= 1
            continue
        pod = current[0]
        available = available_in(pod, min_ready, now) == 0.0
        outdated = (pod["metadata"].get("labels") or {}).get(HASH_LABEL) != digest
        if not available:
            room -= 1
            if outdated:
                plan.doomed.append(pod)
        elif outdated:
            old_available.append(pod)
    plan.doomed += old_available[: max(0, room)]


def _status(
    plan: Plan,
    daemon_set: Object,
    pods_by_node: dict[str, list[Object]],
    should: dict[str, bool],
    digest: str,
    now: float,
) -> Object:
    min_ready = int(daemon_set["spec"].get("minReadySeconds", 0))
    desired = current = ready = available = updated = misscheduled = 0
    for name, run in should.items():
        pods = pods_by_node.get(name, [])
        if not run:
            misscheduled += bool(pods)
            continue
        desired += 1
        if not pods:
            continue
        current += 1
        pod = min(pods, key=lambda p: str(p["metadata"].get("creationTimestamp", "")))
        wait = available_in(pod, min_ready, now)
        if wait:
            plan.again = min(plan.again or wait, wait)
        ready += wait is not None
        available += wait == 0.0
        updated += (pod["metadata"].get("labels") or {}).get(HASH_LABEL) == digest
    old = daemon_set.get("status") or {}
    status: Object = {
        "currentNumberScheduled": current,
        "numberMisscheduled": misscheduled,
        "desiredNumberScheduled": desired,
        "numberReady": ready,
        "observedGeneration": daemon_set["metadata"].get("generation", 0),
        "updatedNumberScheduled": updated,
        "numberAvailable": available,
        "numberUnavailable": desired - available,
    }
    for optional in ("updatedNumberScheduled", "numberAvailable", "numberUnavailable"):
        if not status[optional]:
            del status[optional]
    for kept in ("collisionCount", "conditions"):
        if old.get(kept):
            status[kept] = old[kept]
    return status
