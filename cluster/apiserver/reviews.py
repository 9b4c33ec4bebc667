"""Reviews: questions to the API server in the form of objects that are never stored.

Plays pkg/registry/authorization and pkg/registry/authentication; also the virtual `bindings` and
`componentstatuses`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cluster.api.errors import BadRequest, Invalid, invalid, required
from cluster.api.meta import Object
from cluster.apiserver.attributes import Attributes, UserInfo
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call, Outcome, Result
from cluster.apiserver.pipeline import decode_object
from cluster.apiserver.problems import not_found
from cluster.apiserver.subresources.binding import bind_pod, decode

Review = Callable[[Backend, Call], Result | Awaitable[Result]]


def _spec(backend: Backend, call: Call) -> tuple[Object, Object]:
    body = decode_object(backend, call, call.decoded())
    spec = body.get("spec")
    body["metadata"].setdefault("creationTimestamp", None)
    return body, spec if isinstance(spec, dict) else {}


def self_subject_access(backend: Backend, call: Call) -> Outcome:
    body, spec = _spec(backend, call)
    _check_access_spec(call, spec, needs_user=False)
    body["status"] = _decide(backend, call.user, spec)
    return Outcome(201, obj=body)


def subject_access(backend: Backend, call: Call) -> Outcome:
    body, spec = _spec(backend, call)
    _check_access_spec(call, spec, needs_user=True)
    if call.resource.namespaced:
        attributes = spec.get("resourceAttributes") or {}
        if attributes.get("namespace") != call.namespace:
            raise BadRequest(
                f"spec.resourceAttributes.namespace must match namespace: {call.namespace}"
            )
    user = UserInfo(
        str(spec.get("user") or ""),
        tuple(str(g) for g in spec.get("groups") or ()),
        str(spec.get("uid") or ""),
        {str(k): tuple(str(x) for x in v or ()) for k, v in (spec.get("extra") or {}).items()},
    )
    body["status"] = _decide(backend, user, spec)
    return Outcome(201, obj=body)


def _check_access_spec(call: Call, spec: Object, *, needs_user: bool) -> None:
    of_resource, of_path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    both = "cannot be specified in combination with resourceAttributes"
    errors = []
    if of_resource is not None and of_path is not None:
        errors.append(invalid("spec.nonResourceAttributes", of_path, both))
    if of_resource is None and of_path is None:
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        errors.append(invalid("spec.resourceAttributes", of_path, detail))
    if needs_user and not spec.get("user") and not spec.get("groups"):
        errors.append(invalid("spec.user", "", "at least one of user or group must be specified"))
    if errors:
        raise Invalid.of(call.resource.group, call.resource.kind, "", errors)


def _decide(backend: Backend, user: UserInfo, spec: Object) -> Object:
    of_resource = spec.get("resourceAttributes")
    if of_resource is not None:
        get = of_resource.get
        attributes = Attributes(
            user=user,
            verb=str(get("verb") or ""),
            path="",
            is_resource=True,
            group=str(get("group") or ""),
            version=str(get("version") or "*"),
            resource=str(get("resource") or ""),
            subresource=str(get("subresource") or ""),
            namespace=str(get("namespace") or ""),
            name=str(get("name") or ""),
        )
    else:
        path = spec.get("nonResourceAttributes") or {}
        attributes = Attributes(
            user=user,
            verb=str(path.get("verb") or ""),
            path=str(path.get("path") or ""),
            is_resource=False,
        )
    decision = backend.authorization.authorize(attributes)
    status: Object = {"allowed": decision.allowed}
    if decision.denied:
        status["denied"] = True
    if decision.reason:
        status["reason"] = decision.reason
    return status


def self_subject_rules(backend: Backend, call: Call) -> Outcome:
    body, spec = _spec(backend, call)
    namespace = spec.get("namespace")
    if not namespace:
        raise BadRequest("no namespace on request")
    body["status"] = backend.authorization.rules_for(call.user, str(namespace)).to_status()
    return Outcome(201, obj=body)


def token_review(backend: Backend, call: Call) -> Outcome:
    body, spec = _spec(backend, call)
    token = spec.get("token")
    if not token:
        raise BadRequest("token is required for TokenReview in authentication")
    audiences = [str(a) for a in spec.get("audiences") or ()]
    result = backend.authentication.review_token(str(token), audiences)
    status: Object = {"user": {}}
    if result.authenticated and result.user is not None:
        status = {"authenticated": True, "user": user_object(result.user)}
        if result.audiences:
            status["audiences"] = list(result.audiences)
    elif result.error:
        status["error"] = result.error
    body["status"] = status
    return Outcome(201, obj=body)


def self_subject_review(backend: Backend, call: Call) -> Outcome:
    body, _ = _spec(backend, call)
    body["status"] = {"userInfo": user_object(call.user)}
    return Outcome(201, obj=body)


def user_object(user: UserInfo) -> Object:
    shown: Object = {"username": user.name}
    if user.uid:
        shown["uid"] = user.uid
    if user.groups:
        shown["groups"] = list(user.groups)
    if user.extra:
        shown["extra"] = {k: list(v) for k, v in user.extra.items()}
    return shown


async def bindings(backend: Backend, call: Call) -> Outcome:
    """POST namespaces/NS/bindings: the old way to bind a pod."""
    body = decode(backend, call)
    name = body["metadata"].get("name")
    if not name:
        raise Invalid.of("", "Binding", "", [required("metadata.name", "name is required")])
    return await bind_pod(backend, call, body, str(name))


def component_statuses(backend: Backend, call: Call) -> Outcome:
    """The deprecated list: the control plane answers, so it is well."""
    items: list[Object] = [
        {
            "kind": "ComponentStatus",
            "apiVersion": "v1",
            "metadata": {"name": name, "creationTimestamp": None},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}],
        }
        for name in ("controller-manager", "scheduler", "etcd-0")
    ]
    if not call.name:
        return Outcome(
            200,
            obj={"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": items},
        )
    for item in items:
        if item["metadata"]["name"] == call.name:
            return Outcome(200, obj=item)
    raise not_found(call.resource, call.name)


REVIEWS: dict[tuple[str, str], Review] = {
    ("authorization.k8s.io", "selfsubjectaccessreviews"): self_subject_access,
    ("authorization.k8s.io", "subjectaccessreviews"): subject_access,
    ("authorization.k8s.io", "localsubjectaccessreviews"): subject_access,
    ("authorization.k8s.io", "selfsubjectrulesreviews"): self_subject_rules,
    ("authentication.k8s.io", "tokenreviews"): token_review,
    ("authentication.k8s.io", "selfsubjectreviews"): self_subject_review,
    ("", "bindings"): bindings,
}
"""Virtual resources that take only POST."""
