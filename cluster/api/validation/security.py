"""Security contexts of pods and containers."""

from __future__ import annotations

import re

from cluster.api import names
from cluster.api.errors import duplicate, forbidden, invalid, required, too_long
from cluster.api.meta import Object
from cluster.api.validation import fields
from cluster.api.validation.fields import Errors

_MAX_ID = 0xFFFFFFFF
_SYSCTL = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL_NAME = rf"^({_SYSCTL}[\./])*{_SYSCTL}$"
_is_sysctl = re.compile(_SYSCTL_NAME).match
_NET_SYSCTLS = ("net.", "net/")
_IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")


def pod(context: Object, spec: Object, path: str, errors: Errors) -> None:
    for key in ("fsGroup", "runAsUser", "runAsGroup"):
        _id(context.get(key), f"{path}.{key}", errors)
    for i, group in enumerate(context.get("supplementalGroups") or ()):
        _id(group, f"{path}.supplementalGroups[{i}]", errors)
    if context.get("sysctls"):
        _sysctls(context["sysctls"], spec, f"{path}.sysctls", errors)
    for key, allowed in (
        ("fsGroupChangePolicy", ("Always", "OnRootMismatch")),
        ("supplementalGroupsPolicy", ("Merge", "Strict")),
        ("seLinuxChangePolicy", ("MountOption", "Recursive")),
    ):
        if context.get(key) is not None and context[key] not in allowed:
            errors.append(fields.unsupported(f"{path}.{key}", context[key], allowed))
    _profiles(context, path, errors)


def container(context: Object, host_users: bool, path: str, errors: Errors) -> None:
    for key in ("runAsUser", "runAsGroup"):
        _id(context.get(key), f"{path}.{key}", errors)
    mount = context.get("procMount")
    if mount is not None:
        if mount not in ("Default", "Unmasked"):
            errors.append(fields.unsupported(f"{path}.procMount", mount, ("Default", "Unmasked")))
        if host_users and mount == "Unmasked":
            detail = "`hostUsers` must be false to use `Unmasked`"
            errors.append(invalid(f"{path}.procMount", mount, detail))
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(invalid(path, context, detail))
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            detail = (
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` "
                "CAP_SYS_ADMIN"
            )
            errors.append(invalid(path, context, detail))
    _profiles(context, path, errors)


def _id(value: int | None, path: str, errors: Errors) -> None:
    if value is not None and not 0 <= value <= _MAX_ID:
        errors.append(invalid(path, value, names.in_range(0, _MAX_ID)))


def _profiles(context: Object, path: str, errors: Errors) -> None:
    if context.get("seccompProfile") is not None:
        _seccomp(context["seccompProfile"], f"{path}.seccompProfile", errors)
    if context.get("appArmorProfile") is not None:
        _app_armor(context["appArmorProfile"], f"{path}.appArmorProfile", errors)


_PROFILE_TYPES = ("Localhost", "RuntimeDefault", "Unconfined")


def _seccomp(profile: Object, path: str, errors: Errors) -> None:
    kind, local = profile.get("type"), profile.get("localhostProfile")
    if not kind:
        errors.append(required(f"{path}.type", "type is required when seccompProfile is set"))
    elif kind not in _PROFILE_TYPES:
        errors.append(fields.unsupported(f"{path}.type", kind, _PROFILE_TYPES))
    if kind == "Localhost":
        if local is None:
            detail = "must be set when seccomp type is Localhost"
            errors.append(required(f"{path}.localhostProfile", detail))
        else:
            fields.relative_path(local, f"{path}.localhostProfile", errors)
    elif local is not None:
        detail = "can only be set when seccomp type is Localhost"
        errors.append(invalid(f"{path}.localhostProfile", profile, detail))


def _app_armor(profile: Object, path: str, errors: Errors) -> None:
    kind, local = profile.get("type"), profile.get("localhostProfile")
    at = f"{path}.localhostProfile"
    if kind == "Localhost":
        if local is None or not local.strip():
            errors.append(required(at, "must be set when AppArmor type is Localhost"))
        elif local != local.strip():
            errors.append(invalid(at, local, "must not be padded with whitespace"))
        if local is not None and len(local) > 4095:
            errors.append(too_long(at, 4095))
    elif kind in _PROFILE_TYPES:
        if local is not None:
            errors.append(invalid(at, local, "can only be set when AppArmor type is Localhost"))
    elif not kind:
        errors.append(required(f"{path}.type", "type is required when appArmorProfile is set"))
    else:
        errors.append(fields.unsupported(f"{path}.type", kind, _PROFILE_TYPES))


def _sysctls(sysctls: list[Object], spec: Object, path: str, errors: Errors) -> None:
    seen: set[str] = set()
    for i, sysctl in enumerate(sysctls):
        at, found = f"{path}[{i}].name", sysctl.get("name") or ""
        if not found:
            errors.append(required(at))
        elif len(found) > 253 or not _is_sysctl(found):
            detail = f"must have at most 253 characters and match regex {_SYSCTL_NAME}"
            errors.append(invalid(at, found, detail))
        elif found in seen:
            errors.append(duplicate(at, found))
        if spec.get("hostNetwork") and found.startswith(_NET_SYSCTLS):
            errors.append(invalid(at, found, "may not be specified when 'hostNetwork' is true"))
        elif spec.get("hostIPC") and found.startswith(_IPC_SYSCTLS):
            errors.append(invalid(at, found, "may not be specified when 'hostIPC' is true"))
        seen.add(found)


def host_namespaces(spec: Object, path: str, errors: Errors) -> None:
    """Options of the pod that share the host's namespaces and exclude each other."""
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid(f"{path}.securityContext.shareProcessNamespace", True, detail))
    if spec.get("hostUsers") is False:
        detail = "when `hostUsers` is false"
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(key):
                errors.append(forbidden(f"{path}.{key}", detail))
