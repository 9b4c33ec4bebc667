"""Small plugins that finish a new pod: plugin/pkg/admission/{defaulttolerationseconds,priority,
runtimeclass,podtolerationrestriction} of upstream, each a class."""

from __future__ import annotations

from cluster.api.meta import GVR, PRIORITYCLASSES, RUNTIMECLASSES, Object
from cluster.apiserver.admission.chain import Plugin
from cluster.apiserver.attributes import AdmissionRequest, Operation, Registry
from cluster.apiserver.authz.messages import forbidden_resource

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
TOLERATION_SECONDS = 300
_HIGHEST_USER_PRIORITY = 1_000_000_000


def _is_pod(gvr: GVR, subresource: str) -> bool:
    return gvr.plural == "pods" and not gvr.group and not subresource


class DefaultTolerationSeconds(Plugin):
    """A pod stays 300 s on a node that is not ready or unreachable, unless it says otherwise."""

    name = "DefaultTolerationSeconds"

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        return operation in ("CREATE", "UPDATE") and _is_pod(gvr, subresource)

    def admit(self, request: AdmissionRequest) -> None:
        pod = request.obj
        if pod is None:
            return
        tolerations = pod.setdefault("spec", {}).get("tolerations") or []
        added = [
            {
                "key": key,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": TOLERATION_SECONDS,
            }
            for key in (NOT_READY, UNREACHABLE)
            if not any(_tolerates(toleration, key) for toleration in tolerations)
        ]
        if added:
            pod.setdefault("spec", {})["tolerations"] = [*tolerations, *added]


def _tolerates(toleration: Object, key: str) -> bool:
    return toleration.get("key") in (key, "", None) and toleration.get("effect") in (
        "NoExecute",
        "",
        None,
    )


class Priority(Plugin):
    """priorityClassName -> priority and preemptionPolicy; at most one class is the default."""

    name = "Priority"

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._defaults: dict[str, Object] = {}
        registry.subscribe(PRIORITYCLASSES, self._handle_class)

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        if operation == "CREATE" and _is_pod(gvr, subresource):
            return True
        if operation == "UPDATE" and _is_pod(gvr, subresource):
            return True
        return operation in ("CREATE", "UPDATE") and gvr.plural == "priorityclasses"

    def admit(self, request: AdmissionRequest) -> None:
        pod = request.obj
        if pod is None or request.gvr.plural != "pods":
            return
        spec = pod.setdefault("spec", {})
        if request.operation == "UPDATE":
            old = (request.old or {}).get("spec") or {}
            for key in ("priority", "preemptionPolicy"):
                if spec.get(key) is None and old.get(key) is not None:
                    spec[key] = old[key]
            return
        self._resolve(request, spec)

    def validate(self, request: AdmissionRequest) -> None:
        obj = request.obj
        if request.gvr.plural != "priorityclasses" or obj is None or not obj.get("globalDefault"):
            return
        others = [name for name in self._defaults if name != obj["metadata"]["name"]]
        if others:
            raise forbidden_resource(
                "scheduling.k8s.io",
                "priorityclasses",
                request.name,
                f"PriorityClass {others[0]} is already marked as default."
                " Only one default can exist",
            )

    def _resolve(self, request: AdmissionRequest, spec: Object) -> None:
        name = spec.get("priorityClassName", "")
        if name:
            found = self._registry.get(PRIORITYCLASSES, "", name)
            if found is None:
                raise forbidden_resource(
                    "", "pods", request.name, f"no PriorityClass with name {name} was found"
                )
        else:
            # Several defaults can exist for a moment: the lowest counts, as upstream.
            defaults = sorted(self._defaults.values(), key=lambda c: int(c.get("value") or 0))
            found = defaults[0] if defaults else None
        priority = int(found.get("value") or 0) if found is not None else 0
        policy = (found or {}).get("preemptionPolicy") or "PreemptLowerPriority"
        if found is not None and not name:
            spec["priorityClassName"] = found["metadata"]["name"]
        given = spec.get("priority")
        if given is not None and given != priority:
            raise forbidden_resource(
                "",
                "pods",
                request.name,
                f"the integer value of priority ({given}) must not be provided in pod spec;"
                f" priority admission controller computed {priority} from the given PriorityClass"
                " name",
            )
        spec["priority"] = priority
        given_policy = spec.get("preemptionPolicy")
        if given_policy is not None and given_policy != policy:
            raise forbidden_resource(
                "",
                "pods",
                request.name,
                f"the string value of PreemptionPolicy ({given_policy}) must not be provided in pod"
                f" spec; priority admission controller computed {policy} from the given"
                " PriorityClass name",
            )
        spec["preemptionPolicy"] = policy

    def _handle_class(self, old: Object | None, new: Object | None) -> None:
        if old is not None:
            self._defaults.pop(old["metadata"]["name"], None)
        if new is not None and new.get("globalDefault"):
            self._defaults[new["metadata"]["name"]] = new


class RuntimeClass(Plugin):
    """runtimeClassName -> overhead, node selector and tolerations of that class."""

    name = "RuntimeClass"

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        return operation == "CREATE" and _is_pod(gvr, subresource)

    def admit(self, request: AdmissionRequest) -> None:
        found = self._class(request)
        if found is None:
            return
        assert request.obj is not None
        spec = request.obj.setdefault("spec", {})
        overhead = (found.get("overhead") or {}).get("podFixed")
        if overhead:
            if spec.get("overhead") and spec["overhead"] != overhead:
                raise self._forbidden(
                    request,
                    "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
                )
            spec["overhead"] = dict(overhead)
        scheduling = found.get("scheduling") or {}
        selector = scheduling.get("nodeSelector") or {}
        if selector:
            own = spec.get("nodeSelector") or {}
            if any(own.get(key, value) != value for key, value in selector.items()):
                raise self._forbidden(request, "conflict: runtimeClass.scheduling.nodeSelector")
            spec["nodeSelector"] = {**own, **selector}
        tolerations = spec.get("tolerations") or []
        added = [t for t in scheduling.get("tolerations") or () if t not in tolerations]
        if added:
            spec["tolerations"] = [*tolerations, *added]

    def validate(self, request: AdmissionRequest) -> None:
        pod = request.obj
        if pod is None or not pod.setdefault("spec", {}).get("overhead"):
            return
        found = self._class(request)
        if found is None or not (found.get("overhead") or {}).get("podFixed"):
            raise self._forbidden(
                request,
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined"
                " Overhead",
            )

    def _class(self, request: AdmissionRequest) -> Object | None:
        if request.obj is None:
            return None
        name = request.obj.setdefault("spec", {}).get("runtimeClassName")
        if not name:
            return None
        found = self._registry.get(RUNTIMECLASSES, "", name)
        if found is None:
            raise self._forbidden(request, f'pod rejected: RuntimeClass "{name}" not found')
        return found

    def _forbidden(self, request: AdmissionRequest, message: str) -> Exception:
        return forbidden_resource("", "pods", request.name, message)


class TaintNodesByCondition(Plugin):
    """A new node starts tainted not-ready, until the node controller sees it ready."""

    name = "TaintNodesByCondition"

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        return operation == "CREATE" and gvr.plural == "nodes" and not gvr.group and not subresource

    def admit(self, request: AdmissionRequest) -> None:
        node = request.obj
        if node is None:
            return
        spec = node.setdefault("spec", {})
        taint = {"key": NOT_READY, "effect": "NoSchedule"}
        taints = spec.get("taints") or []
        if not any(t.get("key") == NOT_READY and t.get("effect") == "NoSchedule" for t in taints):
            spec["taints"] = [*taints, taint]
