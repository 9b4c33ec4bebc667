"""The restricted level's checks; some stand in for the baseline's of the same subject."""

from __future__ import annotations

from cluster.api.meta import Object
from cluster.apiserver.admission.podsecurity.baseline import Check
from cluster.apiserver.admission.podsecurity.containers import (
    Violation,
    containers_of,
    context_of,
    is_windows,
    listed,
    quote_all,
    setters,
)

_VOLUMES = frozenset(
    (
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    )
)


def allow_privilege_escalation(_metadata: Object, spec: Object) -> Violation | None:
    if is_windows(spec):
        return None
    names = [
        c.get("name", "")
        for c in containers_of(spec)
        if context_of(c).get("allowPrivilegeEscalation") is not False
    ]
    if not names:
        return None
    return (
        "allowPrivilegeEscalation != false",
        f"{listed('container', names)} must set securityContext.allowPrivilegeEscalation=false",
    )


def capabilities(_metadata: Object, spec: Object) -> Violation | None:
    if is_windows(spec):
        return None
    missing: list[str] = []
    adding: list[str] = []
    added: set[str] = set()
    for container in containers_of(spec):
        wanted = context_of(container).get("capabilities") or {}
        if "ALL" not in (wanted.get("drop") or ()):
            missing.append(container.get("name", ""))
        extra = [name for name in wanted.get("add") or () if name != "NET_BIND_SERVICE"]
        if extra:
            adding.append(container.get("name", ""))
            added.update(extra)
    details = []
    if missing:
        details.append(
            f'{listed("container", missing)} must set securityContext.capabilities.drop=["ALL"]'
        )
    if adding:
        details.append(
            f"{listed('container', adding)} must not include {quote_all(sorted(added))} in"
            " securityContext.capabilities.add"
        )
    return ("unrestricted capabilities", "; ".join(details)) if details else None


def restricted_volumes(_metadata: Object, spec: Object) -> Violation | None:
    names: list[str] = []
    types: set[str] = set()
    for volume in spec.get("volumes") or ():
        kinds = [key for key in volume if key != "name" and volume[key] is not None]
        bad = [kind for kind in kinds if kind not in _VOLUMES]
        if bad:
            names.append(volume.get("name", ""))
            types.update(bad)
    if not names:
        return None
    return (
        "restricted volume types",
        f"{listed('volume', names)} {'uses' if len(names) == 1 else 'use'} restricted volume"
        f" {'type' if len(types) == 1 else 'types'} {quote_all(sorted(types))}",
    )


def run_as_non_root(_metadata: Object, spec: Object) -> Violation | None:
    if spec.get("hostUsers") is False:
        return None
    wanted = context_of(spec).get("runAsNonRoot")
    explicit = [
        c.get("name", "") for c in containers_of(spec) if context_of(c).get("runAsNonRoot") is False
    ]
    implicit = [
        c.get("name", "") for c in containers_of(spec) if "runAsNonRoot" not in context_of(c)
    ]
    reason = "runAsNonRoot != true"
    if wanted is False and implicit:
        return reason, f"{setters(True, explicit)} must not set securityContext.runAsNonRoot=false"
    if explicit:
        return reason, f"{setters(False, explicit)} must not set securityContext.runAsNonRoot=false"
    if wanted is None and implicit:
        return (
            reason,
            f"{setters(True, implicit, 'or')} must set securityContext.runAsNonRoot=true",
        )
    return None


def run_as_user(_metadata: Object, spec: Object) -> Violation | None:
    if spec.get("hostUsers") is False:
        return None
    pod = context_of(spec).get("runAsUser") == 0
    names = [c.get("name", "") for c in containers_of(spec) if context_of(c).get("runAsUser") == 0]
    if not pod and not names:
        return None
    return "runAsUser=0", f"{setters(pod, names)} must not set runAsUser=0"


def seccomp_profile(_metadata: Object, spec: Object) -> Violation | None:
    if is_windows(spec):
        return None

    def kind(holder: Object) -> str:
        return str((context_of(holder).get("seccompProfile") or {}).get("type", ""))

    allowed = ("RuntimeDefault", "Localhost")
    pod = kind(spec)
    explicit = [
        c.get("name", "") for c in containers_of(spec) if kind(c) and kind(c) not in allowed
    ]
    implicit = [c.get("name", "") for c in containers_of(spec) if not kind(c)]
    if explicit or (pod and pod not in allowed):
        bad = sorted(
            {kind(c) for c in containers_of(spec) if c.get("name", "") in explicit}
            | ({pod} if pod and pod not in allowed else set())
        )
        return (
            "seccompProfile",
            f"{setters(bool(pod) and pod not in allowed, explicit)} must not set"
            f" securityContext.seccompProfile.type to {quote_all(bad)}",
        )
    if not pod and implicit:
        return (
            "seccompProfile",
            f"{setters(True, implicit, 'or')} must set securityContext.seccompProfile.type to"
            ' "RuntimeDefault" or "Localhost"',
        )
    return None


OVERRIDES = frozenset(("capabilities_baseline", "hostPathVolumes", "seccompProfile_baseline"))
"""Baseline checks that the restricted ones include."""

CHECKS: tuple[tuple[str, Check], ...] = (
    ("allowPrivilegeEscalation", allow_privilege_escalation),
    ("capabilities_restricted", capabilities),
    ("restrictedVolumes", restricted_volumes),
    ("runAsNonRoot", run_as_non_root),
    ("runAsUser", run_as_user),
    ("seccompProfile_restricted", seccomp_profile),
)
