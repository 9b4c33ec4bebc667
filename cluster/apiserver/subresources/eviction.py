"""pods/eviction: delete a pod if its disruption budget has room. Plays
pkg/registry/core/pod/storage.EvictionREST."""

from __future__ import annotations

from typing import Any

from cluster.api.errors import BadRequest, Forbidden, InternalError, TooManyRequests
from cluster.api.meta import PODDISRUPTIONBUDGETS, Object, rfc3339
from cluster.api.selectors import LabelSelector
from cluster.apiserver import pipeline
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call, Outcome
from cluster.apiserver.problems import not_found
from cluster.apiserver.subresources.binding import created
from cluster.apiserver.verbs.delete import DeleteOptions, delete_named, delete_options

_EVICTION = "io.k8s.api.policy.v1.Eviction"
_DISRUPTED_PODS = 2_000
_VIOLATES = "Cannot evict pod as it would violate the pod's disruption budget."


async def evict(backend: Backend, call: Call) -> Outcome:
    """POST pods/NAME/eviction. Raises TooManyRequests (429) while the budget has no room."""
    eviction = pipeline.decode_as(backend, call, call.decoded(), "Eviction", _EVICTION)
    name = eviction["metadata"].get("name") or call.name
    if name != call.name:
        raise BadRequest("name in URL does not match name in Eviction object")
    options = delete_options(backend, call, eviction.get("deleteOptions") or {})
    options.dry_run = options.dry_run or call.dry_run
    pods = backend.storage.cache("", "pods")
    entry = pods.get(call.namespace, call.name)
    if entry is None:
        raise not_found(pods.resource, call.name)
    pod = entry.decode()
    await pipeline.Admission(backend, call, "CREATE", eviction, None).admit()
    if not _ignores_budget(pod):
        await _take_from_budget(backend, pod, options)
    await delete_named(backend, call, call.namespace, call.name, options)
    return created()


def _ignores_budget(pod: Object) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return bool(
        phase in ("Succeeded", "Failed", "Pending") or pod["metadata"].get("deletionTimestamp")
    )


async def _take_from_budget(backend: Backend, pod: Object, options: DeleteOptions) -> None:
    metadata = pod["metadata"]
    namespace, labels = metadata["namespace"], metadata.get("labels") or {}
    budgets = [
        b
        for b in backend.registry.list(PODDISRUPTIONBUDGETS, namespace)
        if LabelSelector.from_dict((b.get("spec") or {}).get("selector")).matches(labels)
    ]
    if not budgets:
        return
    if len(budgets) > 1:
        raise InternalError(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does "
            "not support."
        )
    budget = budgets[0]
    healthy_guard = _unhealthy_may_go(budget, pod)
    if healthy_guard:
        return

    def take(current: Object) -> Object | None:
        _check_room(current)
        status = current["status"]
        status["disruptionsAllowed"] -= 1
        disrupted = status.setdefault("disruptedPods", {})
        disrupted[metadata["name"]] = rfc3339(backend.clock.now())
        return None if options.dry_run else current

    await backend.registry.update(PODDISRUPTIONBUDGETS, namespace, budget["metadata"]["name"], take)


def _unhealthy_may_go(budget: Object, pod: Object) -> bool:
    """A pod that is not ready may go without a place in the budget."""
    conditions: list[Any] = (pod.get("status") or {}).get("conditions") or []
    if any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions):
        return False
    policy = (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy")
    status = budget.get("status") or {}
    if policy == "AlwaysAllow":
        return True
    healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    return bool(healthy >= desired > 0)


def _check_room(budget: Object) -> None:
    name = budget["metadata"]["name"]
    status = budget.setdefault("status", {})
    allowed = status.get("disruptionsAllowed", 0)
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        raise _refused(f"The disruption budget {name} is still being processed by the server.", 10)
    if allowed < 0:
        raise Forbidden(
            f'poddisruptionbudgets.policy "{name}" is forbidden: '
            "pdb disruptions allowed is negative"
        )
    if len(status.get("disruptedPods") or {}) > _DISRUPTED_PODS:
        raise Forbidden(
            f'poddisruptionbudgets.policy "{name}" is forbidden: DisruptedPods map too big - too '
            "many "
            "evictions not confirmed by PDB controller"
        )
    if allowed == 0:
        desired, healthy = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
        raise _refused(
            f"The disruption budget {name} needs {desired} healthy pods and has {healthy} "
            "currently",
            0,
        )


def _refused(cause: str, retry_after: int) -> TooManyRequests:
    causes = [{"reason": "DisruptionBudget", "message": cause}]
    error = TooManyRequests(_VIOLATES, retry_after_seconds=retry_after, details={"causes": causes})
    if not retry_after:
        error.details = {"causes": causes}
    return error
