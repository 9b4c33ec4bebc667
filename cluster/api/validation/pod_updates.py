"""Updates of pods and of their subresources: status, ephemeralcontainers, resize.

The status update is the hottest validation of all: `prepare_update` shares the specification with
the stored pod, so nothing of it is looked at.
"""

from __future__ import annotations

from typing import Any

from cluster.api import names
from cluster.api.errors import forbidden, invalid, required
from cluster.api.meta import Object
from cluster.api.validation import containers, fields, pods, scheduling
from cluster.api.validation.fields import MAX_INT32, Errors

_UPDATABLE = ",".join((
    "`spec.containers[*].image`",
    "`spec.initContainers[*].image`",
    "`spec.activeDeadlineSeconds`",
    "`spec.tolerations` (only additions to existing tolerations)",
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
))  # fmt: skip
_MIRROR = "kubernetes.io/config.mirror"
_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SYSTEM_CONDITIONS = frozenset({"PodScheduled", "Ready", "Initialized", "ContainersReady"})


def update(new: Object, old: Object, errors: Errors) -> None:
    spec, before = new["spec"], old["spec"]
    _annotations(new, old, errors)
    if spec is before or spec == before:
        return
    pods.pod_and_spec(new, spec, errors)
    for field in ("containers", "initContainers"):
        if len(spec.get(field) or ()) != len(before.get(field) or ()):
            detail = "pod updates may not add or remove containers"
            errors.append(forbidden(f"spec.{field}", detail))
            return
        for i, container in enumerate(spec.get(field) or ()):
            if not container.get("image"):
                errors.append(required(f"spec.{field}[{i}].image"))
            containers.image_space(container, f"spec.{field}[{i}]", errors)
    if not _deadline(spec, before, errors):
        return
    _tolerations(spec, before, errors)
    _gates(spec, before, errors)
    if _with_updatable_of(spec, before, errors) != before:
        detail = f"pod updates may not change fields other than {_UPDATABLE}"
        errors.append(forbidden("spec", detail))


def _annotations(new: Object, old: Object, errors: Errors) -> None:
    after = new["metadata"].get("annotations") or {}
    before = old["metadata"].get("annotations") or {}
    if after is before or after == before:
        return
    for key in {*after, *before}:
        if after.get(key) == before.get(key):
            continue
        verb = "remove or update" if key in before else "add"
        at = f"metadata.annotations[{key}]"
        if key.startswith(_APP_ARMOR):
            errors.append(forbidden(at, f"may not {verb} AppArmor annotations"))
        elif key == _MIRROR:
            errors.append(forbidden(at, f"may not {verb} mirror pod annotation"))
    pods.pod_annotations(after, new["spec"], "metadata.annotations", errors)


def _deadline(spec: Object, before: Object, errors: Errors) -> bool:
    """Whether the rest is worth checking."""
    path = "spec.activeDeadlineSeconds"
    new, old = spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    if new is not None:
        if not 0 <= new <= MAX_INT32:
            errors.append(invalid(path, new, names.in_range(0, MAX_INT32)))
            return False
        if old is not None and old < new:
            errors.append(invalid(path, new, "must be less than or equal to previous value"))
            return False
    elif old is not None:
        detail = "must not update from a positive integer to nil value"
        errors.append(invalid(path, None, detail))
    return True


def _tolerations(spec: Object, before: Object, errors: Errors) -> None:
    def key(toleration: Object) -> Object:
        return {k: v for k, v in toleration.items() if k != "tolerationSeconds"}

    new = spec.get("tolerations") or []
    kept = [key(each) for each in new]
    if any(key(old) not in kept for old in before.get("tolerations") or ()):
        detail = "existing toleration can not be modified except its tolerationSeconds"
        errors.append(forbidden("spec.tolerations", detail))
        return
    scheduling.tolerations(new, "spec.tolerations", errors)


def _gates(spec: Object, before: Object, errors: Errors) -> None:
    known = {gate.get("name") for gate in before.get("schedulingGates") or ()}
    for i, gate in enumerate(spec.get("schedulingGates") or ()):
        if gate.get("name") not in known:
            detail = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            errors.append(forbidden(f"spec.schedulingGates[{i}].name", detail))


def _with_updatable_of(spec: Object, before: Object, errors: Errors) -> Object:
    """`spec` with what may change put back: equal to `before` when nothing else changed."""
    munged = dict(spec)
    keep = ["activeDeadlineSeconds", "schedulingGates", "tolerations"]
    grace = before.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0 and munged.get("terminationGracePeriodSeconds") == 1:
        keep.append("terminationGracePeriodSeconds")
    if before.get("schedulingGates"):
        _gated(spec, before, errors)
        keep.append("nodeSelector")
        munged["affinity"] = _with_node_affinity_of(munged.get("affinity"), before.get("affinity"))
    for key in keep:
        _put_back(munged, before, key)
    for field in ("containers", "initContainers"):
        if munged.get(field):
            munged[field] = [
                {**container, "image": old.get("image")}
                for container, old in zip(munged[field], before[field], strict=True)
            ]
    return {k: v for k, v in munged.items() if v is not None}


def _put_back(munged: Object, before: Object, key: str) -> None:
    if key in before:
        munged[key] = before[key]
    else:
        munged.pop(key, None)


def _with_node_affinity_of(affinity: Object | None, before: Object | None) -> Object | None:
    munged = dict(affinity or {})
    _put_back(munged, before or {}, "nodeAffinity")
    return munged or before


def _gated(spec: Object, before: Object, errors: Errors) -> None:
    """A pod that waits at a scheduling gate may still narrow the nodes it wants."""
    selector, old_selector = spec.get("nodeSelector") or {}, before.get("nodeSelector") or {}
    if any(selector.get(key) != value for key, value in old_selector.items()):
        detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        errors.append(invalid("spec.nodeSelector", selector, detail))
    old_terms, new_terms = _required_terms(before), _required_terms(spec)
    path = (
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
        ".nodeSelectorTerms"
    )
    if not old_terms:
        return
    if len(old_terms) != len(new_terms):
        detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        errors.append(invalid(path, new_terms, detail))
        return
    for i, (new, old) in enumerate(zip(new_terms, old_terms, strict=True)):
        if not _only_additions(new, old):
            detail = "only additions are allowed (no mutations or deletions)"
            errors.append(invalid(f"{path}[{i}]", new, detail))


def _required_terms(spec: Object) -> list[Object]:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required_rules = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    return required_rules.get("nodeSelectorTerms") or []


def _only_additions(new: Object, old: Object) -> bool:
    if not old.get("matchExpressions") and not old.get("matchFields"):
        return not new.get("matchExpressions") and not new.get("matchFields")
    for key in ("matchExpressions", "matchFields"):
        before = old.get(key) or []
        if (new.get(key) or [])[: len(before)] != before:
            return False
    return True


def status(new: Object, old: Object, errors: Errors) -> None:
    _annotations(new, old, errors)
    after, before = new.get("status") or {}, old.get("status") or {}
    for i, condition in enumerate(after.get("conditions") or ()):
        kind = condition.get("type") or ""
        if kind not in _SYSTEM_CONDITIONS:
            at = f"metadata.conditions[{i}].Type"
            fields.name(kind, names.qualified_name, at, errors)
    if new["spec"].get("nodeName") != old["spec"].get("nodeName"):
        errors.append(forbidden("status.nodeName", "may not be changed directly"))
    nominated = after.get("nominatedNodeName")
    if nominated and nominated != before.get("nominatedNodeName"):
        fields.name(nominated, names.dns_subdomain, "status.nominatedNodeName", errors)
    if after.get("qosClass") != before.get("qosClass"):
        errors.append(invalid("status.qosClass", after.get("qosClass") or "", fields.IMMUTABLE))
    _container_states(new["spec"], after, before, errors)
    _addresses(after, errors)


def _container_states(spec: Object, after: Object, before: Object, errors: Errors) -> None:
    restart = spec.get("restartPolicy")
    if restart != "Always":
        sidecars = {
            c.get("name")
            for c in spec.get("initContainers") or ()
            if c.get("restartPolicy") == "Always"
        }
        own_policy = {c.get("name") for c in spec.get("containers") or () if c.get("restartPolicy")}
        _no_resurrection("containerStatuses", after, before, restart, own_policy, errors)
        _no_resurrection("initContainerStatuses", after, before, restart, sidecars, errors)
    if before.get("ephemeralContainerStatuses"):
        _no_resurrection("ephemeralContainerStatuses", after, before, "Never", set(), errors)


def _no_resurrection(
    field: str, after: Object, before: Object, restart: str | None, free: set[Any], errors: Errors
) -> None:
    """A container that ended and may not restart stays ended."""
    states = {s.get("name"): s.get("state") or {} for s in after.get(field) or ()}
    for i, old in enumerate(before.get(field) or ()):
        ended = (old.get("state") or {}).get("terminated")
        if ended is None or old.get("name") in free:
            continue
        if ended.get("exitCode") and restart == "OnFailure":
            continue
        state = states.get(old.get("name"))
        if state is not None and state.get("terminated") is None:
            detail = "may not be transitioned to non-terminated state"
            errors.append(forbidden(f"status.{field}[{i}].state", detail))


def _addresses(after: Object, errors: Errors) -> None:
    for field, single in (("podIPs", "podIP"), ("hostIPs", "hostIP")):
        addresses = after.get(field)
        if not addresses:
            continue
        if field == "hostIPs" and addresses[0].get("ip") != after.get(single):
            detail = "must be equal to `hostIP`"
            errors.append(invalid("status.hostIPs[0].ip", addresses[0].get("ip"), detail))
        for i, address in enumerate(addresses):
            fields.valid_ip(address.get("ip") or "", f"status.{field}[{i}]", errors)
        if len(addresses) > 1:
            families = {":" in (a.get("ip") or "") for a in addresses}
            if len(families) != len(addresses):
                detail = "may specify no more than one IP for each IP family"
                errors.append(invalid(f"status.{field}", addresses, detail))


def ephemeral_containers(new: Object, old: Object, errors: Errors) -> None:
    if _MIRROR in (old["metadata"].get("annotations") or {}):
        errors.append(forbidden("", "static pods do not support ephemeral containers"))
        return
    pods.pod_and_spec(new, new["spec"], errors)
    found = {c.get("name"): c for c in new["spec"].get("ephemeralContainers") or ()}
    for container in old["spec"].get("ephemeralContainers") or ():
        name = container.get("name")
        if name not in found:
            detail = f'existing ephemeral containers "{name}" may not be removed\n'
            errors.append(forbidden("spec.ephemeralContainers", detail))
        elif found[name] != container:
            detail = f'existing ephemeral containers "{name}" may not be changed\n'
            errors.append(forbidden("spec.ephemeralContainers", detail))


def resize(new: Object, old: Object, errors: Errors) -> None:
    from cluster.api.preparation.qos import pod_qos

    if _MIRROR in (old["metadata"].get("annotations") or {}):
        errors.append(forbidden("", "static pods cannot be resized"))
        return
    spec, before = new["spec"], old["spec"]
    pods.pod_and_spec(new, spec, errors)
    if pod_qos(spec) != (old.get("status") or {}).get("qosClass", pod_qos(before)):
        detail = "Pod QOS Class may not change as a result of resizing"
        shown = (new.get("status") or {}).get("qosClass") or ""
        errors.append(invalid("spec", shown, detail))
    for field in ("containers", "initContainers"):
        for i, (after, previous) in enumerate(
            zip(spec.get(field) or (), before.get(field) or (), strict=False)
        ):
            if field == "initContainers" and previous.get("restartPolicy") != "Always":
                if after != previous:
                    detail = "resources for non-sidecar init containers are immutable"
                    errors.append(forbidden("spec", detail))
                continue
            _resized(after, previous, f"spec.{field}[{i}].resources", errors)


def _resized(after: Object, before: Object, path: str, errors: Errors) -> None:
    new, old = after.get("resources") or {}, before.get("resources") or {}
    for kind in ("requests", "limits"):
        given, previous = new.get(kind) or {}, old.get(kind) or {}
        if set(previous) - set(given):
            detail = f"resource {kind} cannot be removed"
            errors.append(forbidden(f"{path}.{kind}", detail))
        other = {k for k in {*given, *previous} if given.get(k) != previous.get(k)}
        if other - {"cpu", "memory"}:
            errors.append(forbidden("spec", "only cpu and memory resources are mutable"))
