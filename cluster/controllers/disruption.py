"""PodDisruptionBudgets: how many more pods may be evicted (pkg/controller/disruption).

The eviction subresource takes one from status.disruptionsAllowed and notes the pod in
status.disruptedPods; this controller counts anew. Budgets over pods without a controller must use
an absolute minAvailable, as upstream.
"""

from __future__ import annotations

from cluster.api.errors import Conflict, NotFound
from cluster.api.meta import (
    DEPLOYMENTS,
    GVR,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
    Object,
    parse_rfc3339,
    rfc3339,
)
from cluster.api.selectors import LabelSelector
from cluster.client import run_workers
from cluster.controllers.conditions import set_condition
from cluster.controllers.context import ControllerContext
from cluster.controllers.intstr import scaled_value
from cluster.controllers.podindex import PodChange

WORKERS = 2
DELETION_TIMEOUT_SECONDS = 120.0
_SCALED: dict[str, GVR] = {
    "ReplicaSet": REPLICASETS,
    "ReplicationController": REPLICATIONCONTROLLERS,
    "StatefulSet": STATEFULSETS,
    "Deployment": DEPLOYMENTS,
}


class DisruptionController:
    """Keeps the status of every PodDisruptionBudget."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._queue = context.queue("disruption")
        self._recorder = context.recorder("controllermanager")
        self._budgets = context.informers.informer(PODDISRUPTIONBUDGETS)
        self._pods = context.informers.informer(PODS)
        self._owners = {kind: context.informers.informer(gvr) for kind, gvr in _SCALED.items()}
        self._budgets.add_handler(self._handle)
        context.pods.subscribe(self._handle_pods)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(PODDISRUPTIONBUDGETS, PODS, *_SCALED.values())
        await run_workers(self._queue, self._sync, WORKERS)

    def _handle(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._queue.add(f"{new['metadata']['namespace']}/{new['metadata']['name']}")

    def _handle_pods(self, changes: list[PodChange]) -> None:
        if not len(self._budgets):
            return
        groups = {
            (facts.namespace, facts.labels)
            for change in changes
            if change.before != change.after
            for facts in (change.before, change.after)
            if facts is not None
        }
        for namespace, labels in groups:
            mapping = dict(labels)
            for budget in self._budgets.list(namespace):
                if _selector(budget).matches(mapping):
                    period = self._context.config.status_batch_period
                    self._queue.add_after(f"{namespace}/{budget['metadata']['name']}", period)

    async def _sync(self, key: str) -> float | None:
        budget = self._budgets.get(key)
        if budget is None:
            return None
        now = self._context.clock.now()
        pods = self._selected(budget)
        expected, problem = self._expected(budget, pods)
        status, again = plan_budget(budget, pods, expected, problem, now)
        if status == (budget.get("status") or {}):
            return again
        try:
            await self._client.update(
                PODDISRUPTIONBUDGETS,
                {**budget, "status": status},
                subresource="status",
                answer="none",
            )
        except Conflict:
            return 0.1
        except NotFound:
            return None
        return again

    def _selected(self, budget: Object) -> list[Object]:
        namespace, selector = budget["metadata"]["namespace"], _selector(budget)
        return [
            pod
            for labels, keys in self._context.pods.label_sets(namespace).items()
            if selector.matches(dict(labels))
            for key in keys
            if (pod := self._pods.get(key)) is not None
        ]

    def _expected(self, budget: Object, pods: list[Object]) -> tuple[int, str]:
        """How many pods there should be, from their controllers' sizes; or why that is unknown."""
        spec = budget["spec"]
        if "maxUnavailable" not in spec and not str(spec.get("minAvailable", "")).endswith("%"):
            return len(pods), ""
        sizes: dict[str, int] = {}
        for pod in pods:
            found = self._scale_of(pod)
            if found is None:
                return 0, f"found no controller ref for pod {pod['metadata']['name']!r}"
            sizes[found[0]] = found[1]
        return sum(sizes.values()), ""

    def _scale_of(self, pod: Object) -> tuple[str, int] | None:
        """(UID, size) of what scales a pod: its controller, or for a Deployment's pod the
        Deployment."""
        obj = pod
        found: tuple[str, int] | None = None
        while True:
            ref = next(
                (r for r in obj["metadata"].get("ownerReferences") or () if r.get("controller")),
                None,
            )
            informer = self._owners.get(ref["kind"]) if ref else None
            owner = (
                informer.get(f"{pod['metadata']['namespace']}/{ref['name']}")
                if informer and ref
                else None
            )
            if owner is None or owner["metadata"]["uid"] != (ref or {})["uid"]:
                return found
            found = owner["metadata"]["uid"], int(owner["spec"].get("replicas", 1))
            obj = owner


def plan_budget(
    budget: Object, pods: list[Object], expected: int, problem: str, now: float
) -> tuple[Object, float | None]:
    """The status, and when a noted disruption runs out."""
    spec, old = budget["spec"], budget.get("status") or {}
    disrupted, again = _still_disrupted(old.get("disruptedPods") or {}, pods, now)
    healthy = sum(_healthy(p) and p["metadata"]["name"] not in disrupted for p in pods)
    if "maxUnavailable" in spec:
        desired = expected - scaled_value(spec["maxUnavailable"], expected, round_up=True)
    else:
        desired = scaled_value(spec.get("minAvailable", 1), expected, round_up=True)
    desired = max(0, desired)
    allowed = max(0, healthy - desired) if expected > 0 and not problem else 0
    reason = "SyncFailed" if problem else ("SufficientPods" if allowed else "InsufficientPods")
    condition = {
        "type": "DisruptionAllowed",
        "status": "True" if allowed else "False",
        "observedGeneration": budget["metadata"].get("generation", 0),
        "lastTransitionTime": rfc3339(now),
        "reason": reason,
        "message": problem,
    }
    status: Object = {
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "observedGeneration": budget["metadata"].get("generation", 0),
        "conditions": set_condition(old.get("conditions"), condition),
    }
    if disrupted:
        status["disruptedPods"] = disrupted
    return status, again


def _still_disrupted(
    noted: dict[str, str], pods: list[Object], now: float
) -> tuple[dict[str, str], float | None]:
    """Evictions that have been granted and not yet seen; forgotten after two minutes."""
    by_name = {p["metadata"]["name"]: p for p in pods}
    left: dict[str, str] = {}
    again: float | None = None
    for name, stamp in noted.items():
        pod = by_name.get(name)
        remaining = parse_rfc3339(stamp) + DELETION_TIMEOUT_SECONDS - now
        if pod is None or "deletionTimestamp" in pod["metadata"] or remaining <= 0:
            continue
        left[name] = stamp
        again = min(again or remaining, remaining)
    return left, again


def _healthy(pod: Object) -> bool:
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _selector(budget: Object) -> LabelSelector:
    """policy/v1: an empty selector selects everything in the namespace, no selector nothing."""
    return LabelSelector.from_dict(budget["spec"].get("selector"))
