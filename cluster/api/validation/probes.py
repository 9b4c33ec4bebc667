"""Probes and lifecycle hooks."""

from __future__ import annotations

from cluster.api import names
from cluster.api.errors import forbidden, invalid, required
from cluster.api.meta import Object
from cluster.api.validation import fields
from cluster.api.validation.fields import Errors

_PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
_NUMBERS = (
    "initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold",
    "failureThreshold",
)  # fmt: skip


def liveness(probe: Object, path: str, errors: Errors) -> None:
    _probe(probe, path, errors)
    if probe.get("successThreshold") != 1:
        value = probe.get("successThreshold") or 0
        errors.append(invalid(f"{path}.successThreshold", value, "must be 1"))


startup = liveness


def readiness(probe: Object, path: str, errors: Errors) -> None:
    _probe(probe, path, errors)
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None:
        detail = "must not be set for readinessProbes"
        errors.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, detail))


def lifecycle(found: Object, grace_seconds: int | None, path: str, errors: Errors) -> None:
    for hook in ("postStart", "preStop"):
        handler = found.get(hook)
        if handler is not None:
            _handler(handler, _HOOK_HANDLERS, grace_seconds, f"{path}.{hook}", errors)
    if found.get("stopSignal") and not str(found["stopSignal"]).startswith("SIG"):
        errors.append(invalid(f"{path}.stopSignal", found["stopSignal"], "not a valid signal"))


def _probe(probe: Object, path: str, errors: Errors) -> None:
    _handler(probe, _PROBE_HANDLERS, None, path, errors)
    for key in _NUMBERS:
        value = probe.get(key)
        if value is not None and value < 0:
            errors.append(invalid(f"{path}.{key}", value, fields.NEGATIVE))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        detail = "must be greater than 0"
        errors.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, detail))


def _handler(
    handler: Object, kinds: tuple[str, ...], grace: int | None, path: str, errors: Errors
) -> None:
    given = [kind for kind in kinds if handler.get(kind) is not None]
    if not given:
        errors.append(required(path, "must specify a handler type"))
        return
    for extra in given[1:]:
        errors.append(forbidden(f"{path}.{extra}", "may not specify more than 1 handler type"))
    kind = given[0]
    action, at = handler[kind], f"{path}.{kind}"
    if kind == "exec":
        if not action.get("command"):
            errors.append(required(f"{at}.command"))
    elif kind == "httpGet":
        _http_get(action, at, errors)
    elif kind in ("tcpSocket", "grpc"):
        fields.port_number_or_name(action.get("port") or 0, f"{at}.port", errors)
    elif grace is not None and not 0 <= (action.get("seconds") or 0) <= grace:
        detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        errors.append(invalid(at, action.get("seconds") or 0, detail))


def _http_get(action: Object, path: str, errors: Errors) -> None:
    if not action.get("path"):
        errors.append(required(f"{path}.path"))
    fields.port_number_or_name(action.get("port") or 0, f"{path}.port", errors)
    scheme = action.get("scheme")
    if scheme not in ("HTTP", "HTTPS"):
        errors.append(fields.unsupported(f"{path}.scheme", scheme or "", ("HTTP", "HTTPS")))
    for header in action.get("httpHeaders") or ():
        fields.name(header.get("name") or "", names.header_name, f"{path}.httpHeaders", errors)
