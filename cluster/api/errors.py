"""Errors of the Kubernetes API: one tree that mirrors the reasons of metav1.Status.

Plays k8s.io/apimachinery/pkg/api/errors and .../util/validation/field. What a caller does about an
error is its class: `Conflict` read again, `Expired` list again,
`TooManyRequests`/`ServiceUnavailable` retry, `Invalid` give up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

Status = dict[str, Any]


class StatusError(Exception):
    """An API request failed. `code` is the HTTP status, `reason` metav1.StatusReason."""

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"

    def __init__(self, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def to_status(self) -> Status:
        """The metav1.Status object that upstream would answer with."""
        status: Status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status


class BadRequest(StatusError):
    code, reason = 400, "BadRequest"


class Unauthorized(StatusError):
    code, reason = 401, "Unauthorized"


class Forbidden(StatusError):
    code, reason = 403, "Forbidden"


class NotFound(StatusError):
    code, reason = 404, "NotFound"


class MethodNotAllowed(StatusError):
    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(StatusError):
    code, reason = 406, "NotAcceptable"


class AlreadyExists(StatusError):
    code, reason = 409, "AlreadyExists"


class Conflict(StatusError):
    code, reason = 409, "Conflict"


class Gone(StatusError):
    code, reason = 410, "Gone"


class Expired(StatusError):
    """The resourceVersion asked for is no longer held: list again."""

    code, reason = 410, "Expired"


class RequestEntityTooLarge(StatusError):
    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(StatusError):
    code, reason = 415, "UnsupportedMediaType"


class Invalid(StatusError):
    code, reason = 422, "Invalid"

    @classmethod
    def of(cls, group: str, kind: str, name: str, errors: list[FieldError]) -> Invalid:
        """Join field errors as apierrors.NewInvalid does."""
        qualified = f"{kind}.{group}" if group else kind
        texts = [str(e) for e in errors]
        joined = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
        details: dict[str, Any] = {"name": name, "group": group, "kind": kind}
        details = {k: v for k, v in details.items() if v}
        details["causes"] = [
            {"reason": e.type, "message": e.body(), "field": e.field} for e in errors
        ]
        return cls(f'{qualified} "{name}" is invalid: {joined}', details=details)


class TooManyRequests(StatusError):
    code, reason = 429, "TooManyRequests"

    def __init__(
        self, message: str, *, retry_after_seconds: int = 1, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(
            message, details={"retryAfterSeconds": retry_after_seconds, **(details or {})}
        )
        self.retry_after_seconds = retry_after_seconds


class InternalError(StatusError):
    code, reason = 500, "InternalError"


class ServiceUnavailable(StatusError):
    code, reason = 503, "ServiceUnavailable"


class Timeout(StatusError):
    code, reason = 504, "Timeout"


class NotEmulated(StatusError):
    """Kubernetes has it, this emulator does not (yet): refused by name, never ignored in
    silence."""

    code, reason = 501, "NotImplemented"

    def __init__(self, what: str) -> None:
        super().__init__(f"kubestage does not emulate {what} yet")


_KINDS: tuple[type[StatusError], ...] = (
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    AlreadyExists,
    Conflict,
    Gone,
    Expired,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    Invalid,
    TooManyRequests,
    InternalError,
    ServiceUnavailable,
    Timeout,
)
_BY_REASON: dict[str, type[StatusError]] = {c.reason: c for c in _KINDS}
_BY_CODE: dict[int, type[StatusError]] = {
    c.code: c for c in _KINDS if c not in (AlreadyExists, Gone)
}


def from_status(code: int, status: Status | None, fallback: str = "") -> StatusError:
    """The exception for an answer of `code` whose body was `status` (None: not a Status object)."""
    status = status or {}
    reason = str(status.get("reason", ""))
    cls = _BY_REASON.get(reason) or _BY_CODE.get(code, InternalError)
    message = str(status.get("message") or fallback or f"the server answered {code}")
    details = status.get("details")
    if cls is TooManyRequests:
        after = int((details or {}).get("retryAfterSeconds", 1))
        return TooManyRequests(message, retry_after_seconds=after)
    return cls(message, details=details)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One cause of `Invalid`: k8s.io/apimachinery/pkg/util/validation/field.Error.

    `type` is upstream's ErrorType string, e.g. FieldValueInvalid; `value` is shown as Go prints it.
    """

    type: str
    field: str
    value: object
    detail: str

    def body(self) -> str:
        """The message without the field path."""
        label = _LABELS[self.type]
        if self.type in (
            "FieldValueRequired",
            "FieldValueForbidden",
            "FieldValueTooLong",
            "InternalError",
        ):
            return f"{label}: {self.detail}" if self.detail else label
        shown = go_value(self.value)
        return f"{label}: {shown}: {self.detail}" if self.detail else f"{label}: {shown}"

    def __str__(self) -> str:
        return f"{self.field}: {self.body()}"


_LABELS = {
    "FieldValueNotFound": "Not found",
    "FieldValueRequired": "Required value",
    "FieldValueDuplicate": "Duplicate value",
    "FieldValueInvalid": "Invalid value",
    "FieldValueNotSupported": "Unsupported value",
    "FieldValueForbidden": "Forbidden",
    "FieldValueTooLong": "Too long",
    "FieldValueTooMany": "Too many",
    "InternalError": "Internal error",
    "FieldValueTypeInvalid": "Invalid value",
}


def go_value(value: object) -> str:
    """Print a value as field.Error does: strings quoted, numbers bare, objects as compact JSON."""
    import orjson

    if isinstance(value, str):
        return orjson.dumps(value).decode()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return orjson.dumps(value).decode()


def required(field: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", field, "", detail)


def invalid(field: str, value: object, detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", field, value, detail)


def forbidden(field: str, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", field, "", detail)


def duplicate(field: str, value: object) -> FieldError:
    return FieldError("FieldValueDuplicate", field, value, "")


def not_found(field: str, value: object) -> FieldError:
    return FieldError("FieldValueNotFound", field, value, "")


def not_supported(field: str, value: object, allowed: list[str]) -> FieldError:
    listed = ", ".join(f'"{a}"' for a in sorted(allowed))
    return FieldError("FieldValueNotSupported", field, value, f"supported values: {listed}")


def too_long(field: str, limit: int) -> FieldError:
    return FieldError("FieldValueTooLong", field, "", f"may not be more than {limit} bytes")


def too_many(field: str, actual: int, limit: int) -> FieldError:
    return FieldError("FieldValueTooMany", field, actual, f"must have at most {limit} items")
