"""AdmissionReview, version v1: what is asked, what an answer means."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from cluster.api.errors import StatusError
from cluster.api.meta import Object
from cluster.apiserver.attributes import AdmissionRequest
from cluster.apiserver.authz.messages import quoted


class BadAnswer(Exception):
    """The webhook answered something that is no AdmissionReview for us."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a webhook said. `patch`: JSON patch operations, if it changes the object."""

    allowed: bool
    status: Object
    patch: list[Any] | None
    warnings: tuple[str, ...]


def review_of(request: AdmissionRequest, uid: str) -> bytes:
    """The AdmissionReview to send."""
    gvr = request.gvr
    kind = {"group": gvr.group, "version": gvr.version, "kind": request.kind}
    resource = {"group": gvr.group, "version": gvr.version, "resource": gvr.plural}
    user: Object = {"username": request.user.name, "groups": list(request.user.groups)}
    if request.user.uid:
        user["uid"] = request.user.uid
    if request.user.extra:
        user["extra"] = {key: list(values) for key, values in request.user.extra.items()}
    asked: Object = {
        "uid": uid,
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "name": request.name,
        "operation": request.operation,
        "userInfo": user,
        "object": request.obj,
        "oldObject": request.old,
        "dryRun": request.dry_run,
        "options": dict(request.options) or None,
    }
    if request.subresource:
        asked["subResource"] = asked["requestSubResource"] = request.subresource
    if request.namespace:
        asked["namespace"] = request.namespace
    review = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": asked}
    return orjson.dumps(review)


def verdict_of(body: bytes, uid: str, *, mutating: bool) -> Verdict:
    """Raises BadAnswer, in upstream's words where it has some."""
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadAnswer(f"couldn't get version/kind; json parse error: {error}") from None
    if not isinstance(review, dict) or review.get("kind") != "AdmissionReview":
        raise BadAnswer("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview")
    response = review.get("response")
    if not isinstance(response, dict):
        raise BadAnswer("webhook response was absent")
    if response.get("uid") != uid:
        raise BadAnswer(
            f"expected response.uid={quoted(uid)}, got {quoted(str(response.get('uid') or ''))}"
        )
    warnings = response.get("warnings") or ()
    return Verdict(
        allowed=bool(response.get("allowed")),
        status=response.get("status") or {},
        patch=_patch(response) if mutating else None,
        warnings=tuple(str(w) for w in warnings)[:100],
    )


def _patch(response: Object) -> list[Any] | None:
    encoded = response.get("patch")
    if not encoded:
        return None
    if response.get("patchType") != "JSONPatch":
        raise BadAnswer(f"webhook returned response.patchType {response.get('patchType')!r}")
    try:
        operations = orjson.loads(base64.b64decode(encoded, validate=True))
    except (binascii.Error, orjson.JSONDecodeError, TypeError) as error:
        raise BadAnswer(f"webhook returned a patch that is none: {error}") from None
    if not isinstance(operations, list):
        raise BadAnswer("webhook returned a patch that is no list")
    return operations


def denied(hook: str, status: Object) -> StatusError:
    """The refusal: the webhook's code and reason, 400 if it gave none."""
    said = status.get("message") or status.get("reason")
    head = f"admission webhook {quoted(hook)} denied the request"
    message = f"{head}: {said}" if said else f"{head} without explanation"
    code = status.get("code")
    if not isinstance(code, int) or not 400 <= code < 600:
        code = 400
    return _class(code, str(status.get("reason") or ""))(message, details=status.get("details"))


@lru_cache(256)
def _class(code: int, reason: str) -> type[StatusError]:
    """StatusErrors carry code and reason in their class; a webhook may choose any."""
    return type("WebhookDenied", (StatusError,), {"code": code, "reason": reason})
