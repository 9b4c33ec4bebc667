"""The downward API: which fields and resources a pod may read about itself, in variables and
files."""

from __future__ import annotations

import re

from cluster.api import names
from cluster.api.errors import invalid, required
from cluster.api.meta import Object
from cluster.api.validation import fields
from cluster.api.validation.fields import Errors

_ENV_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
    "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
_FILE_FIELDS = (
    "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace",
    "metadata.uid",
)  # fmt: skip
_CONVERTIBLE = frozenset(
    (*_ENV_FIELDS, *_FILE_FIELDS, "spec.restartPolicy", "spec.schedulerName", "status.phase")
)
_RESOURCES = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu",
    "requests.ephemeral-storage", "requests.memory",
)  # fmt: skip
_SIZES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_subscripted = re.compile(r"(.*)\['([^\[\]]*)'\]").fullmatch


def variable_field(selector: Object, path: str, errors: Errors) -> None:
    _field(selector, _ENV_FIELDS, path, errors)


def variable_resource(selector: Object, path: str, errors: Errors) -> None:
    _resource(selector, path, errors, in_volume=False)


def file_selector(item: Object, path: str, errors: Errors) -> None:
    """One file of a downwardAPI volume."""
    if not item.get("path"):
        errors.append(required(f"{path}.path"))
    fields.local_path(item.get("path") or "", f"{path}.path", errors)
    field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
    if field is not None:
        _field(field, _FILE_FIELDS, f"{path}.fieldRef", errors)
        if resource is not None:
            detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(invalid(path, "resource", detail))
    elif resource is not None:
        _resource(resource, f"{path}.resourceFieldRef", errors, in_volume=True)
    else:
        errors.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    fields.file_mode(item.get("mode"), f"{path}.mode", errors)


def _field(selector: Object, allowed: tuple[str, ...], path: str, errors: Errors) -> None:
    for key in ("apiVersion", "fieldPath"):
        if not selector.get(key):
            errors.append(required(f"{path}.{key}"))
            return
    found = selector["fieldPath"]
    match = _subscripted(found)
    if match:
        base, key = match.groups()
        if base == "metadata.annotations":
            fields.name(key.lower(), names.qualified_name, path, errors)
        elif base == "metadata.labels":
            fields.name(key, names.qualified_name, path, errors)
        else:
            _unknown(found, path, errors)
    elif found not in _CONVERTIBLE:
        _unknown(found, path, errors)
    elif found not in allowed:
        errors.append(fields.unsupported(f"{path}.fieldPath", found, allowed))


def _unknown(found: str, path: str, errors: Errors) -> None:
    detail = f"error converting fieldPath: field label not supported: {found}"
    errors.append(invalid(f"{path}.fieldPath", found, detail))


def _resource(selector: Object, path: str, errors: Errors, *, in_volume: bool) -> None:
    found = selector.get("resource") or ""
    if in_volume and not selector.get("containerName"):
        errors.append(required(f"{path}.containerName"))
    elif not found:
        errors.append(required(f"{path}.resource"))
    elif found not in _RESOURCES and not found.startswith(
        ("requests.hugepages-", "limits.hugepages-")
    ):
        errors.append(fields.unsupported(f"{path}.resource", found, _RESOURCES))
    divisor = str(selector.get("divisor") or "0")
    if divisor == "0":
        return
    if found.endswith(".cpu"):
        if divisor not in ("1m", "1"):
            detail = "only divisor's values 1m and 1 are supported with the cpu resource"
            errors.append(invalid(f"{path}.divisor", found, detail))
    elif divisor not in _SIZES:
        kind = "memory" if found.endswith(".memory") else "local ephemeral storage"
        kind = "hugepages" if "hugepages-" in found else kind
        detail = (
            "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are "
            f"supported with the {kind} resource"
        )
        errors.append(invalid(f"{path}.divisor", found, detail))
