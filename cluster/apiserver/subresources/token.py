"""serviceaccounts/token: TokenRequest. Plays pkg/registry/core/serviceaccount/storage.TokenREST."""

from __future__ import annotations

from typing import Any

from cluster.api.errors import BadRequest, FieldError, Invalid, NotEmulated, NotFound
from cluster.api.meta import GVR, NODES, PODS, SECRETS, Object, rfc3339
from cluster.apiserver import pipeline
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call, Outcome
from cluster.apiserver.problems import conflict, not_found
from cluster.apiserver.tokens import (
    DEFAULT_SECONDS,
    MAXIMUM_SECONDS,
    MINIMUM_SECONDS,
    ObjectReference,
    TokenRequest,
)

_TOKEN_REQUEST = "io.k8s.api.authentication.v1.TokenRequest"
_BINDABLE: dict[str, GVR] = {"Pod": PODS, "Secret": SECRETS, "Node": NODES}


async def request_token(backend: Backend, call: Call) -> Outcome:
    """POST serviceaccounts/NAME/token. Raises NotFound, Invalid, Conflict."""
    tokens = backend.tokens
    if tokens is None:
        raise NotEmulated("service account tokens without a signing key")
    body = pipeline.decode_as(backend, call, call.decoded(), "TokenRequest", _TOKEN_REQUEST)
    account = backend.storage.cache("", "serviceaccounts").get(call.namespace, call.name)
    if account is None:
        raise not_found(call.resource, call.name)
    uid = account.decode()["metadata"]["uid"]
    spec = body.get("spec") or {}
    seconds = _seconds(spec, call.name)
    audiences = tuple(str(a) for a in spec.get("audiences") or ()) or tokens.audiences
    await pipeline.Admission(backend, call, "CREATE", body, None).admit()
    bound, node_name, node_uid = _bound(backend, call, spec.get("boundObjectRef"))
    token, expires = tokens.issue(
        TokenRequest(call.namespace, call.name, uid, audiences, seconds, bound, node_name, node_uid)
    )
    answer: Object = {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {
            "name": call.name,
            "namespace": call.namespace,
            "creationTimestamp": rfc3339(backend.clock.now()),
        },
        "spec": {
            "audiences": list(audiences),
            "expirationSeconds": seconds,
            "boundObjectRef": spec.get("boundObjectRef"),
        },
        "status": {"token": token, "expirationTimestamp": rfc3339(expires)},
    }
    return Outcome(201, obj=answer)


def _seconds(spec: Object, name: str) -> int:
    seconds = spec.get("expirationSeconds")
    if seconds is None:
        return DEFAULT_SECONDS
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise BadRequest("spec.expirationSeconds must be an integer")
    detail = ""
    if seconds < MINIMUM_SECONDS:
        detail = "may not specify a duration less than 10 minutes"
    elif seconds > MAXIMUM_SECONDS:
        detail = "may not specify a duration larger than 2^32 seconds"
    if detail:
        error = FieldError("FieldValueInvalid", "spec.expirationSeconds", seconds, detail)
        raise Invalid.of("authentication.k8s.io", "TokenRequest", name, [error])
    return seconds


def _bound(backend: Backend, call: Call, reference: Any) -> tuple[ObjectReference | None, str, str]:
    """What the token is bound to, and the node of a bound pod."""
    if not reference:
        return None, "", ""
    kind, name = str(reference.get("kind", "")), str(reference.get("name", ""))
    gvr = _BINDABLE.get(kind)
    if gvr is None:
        raise BadRequest(
            "cannot bind token for serviceaccount to object type "
            f"{reference.get('apiVersion', '')}, "
            f"Kind={kind}"
        )
    found = backend.registry.get(gvr, "" if gvr is NODES else call.namespace, name)
    if found is None:
        raise NotFound(
            f'{gvr.plural} "{name}" not found', details={"name": name, "kind": gvr.plural}
        )
    uid = str(found["metadata"]["uid"])
    if reference.get("uid") and reference["uid"] != uid:
        why = (
            f"the UID in the bound object reference ({reference['uid']}) does not match the UID in "
            "record. "
            "The object might have been deleted and then recreated"
        )
        resource = backend.storage.cache(gvr.group, gvr.plural).resource
        raise conflict(resource, name, why)
    node_name = node_uid = ""
    if kind == "Pod":
        used = (found.get("spec") or {}).get("serviceAccountName") or "default"
        if used != call.name:
            raise BadRequest(
                f'cannot bind token for serviceaccount "{call.name}" to pod running with different '
                "serviceaccount name."
            )
        node_name = (found.get("spec") or {}).get("nodeName") or ""
        node = backend.registry.get(NODES, "", node_name) if node_name else None
        node_uid = str(node["metadata"]["uid"]) if node is not None else ""
    return ObjectReference(kind, name, uid), node_name, node_uid
