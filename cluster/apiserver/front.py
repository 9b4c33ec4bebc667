"""The front door: authenticate, route, limit, authorise, call the verb, answer, count.

Plays k8s.io/apiserver/pkg/server.DefaultBuildHandlerChain. Reads are answered without leaving the
call (no task, no await); only what waits for the store or for somebody else becomes a coroutine.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, cast

from cluster.api.errors import (
    InternalError,
    MethodNotAllowed,
    NotEmulated,
    StatusError,
)
from cluster.apiserver.attributes import Attributes, UserInfo
from cluster.apiserver.authn import plan_impersonation
from cluster.apiserver.backend import Backend
from cluster.apiserver.batch import BATCH_PATH, Batch
from cluster.apiserver.call import Call, Outcome, Result
from cluster.apiserver.convert import stored_resource
from cluster.apiserver.documents import Documents
from cluster.apiserver.flow import PREFIX as FLOW_PREFIX
from cluster.apiserver.flow import FlowLog
from cluster.apiserver.health import Health
from cluster.apiserver.inflight import InFlight
from cluster.apiserver.negotiation import (
    not_allowed,
    not_found_page,
    respond,
    respond_error,
)
from cluster.apiserver.reviews import REVIEWS, component_statuses
from cluster.apiserver.routing import Route, route
from cluster.apiserver.subresources import handler_of
from cluster.apiserver.verbs.create import create
from cluster.apiserver.verbs.delete import delete
from cluster.apiserver.verbs.deletecollection import deletecollection
from cluster.apiserver.verbs.get import get
from cluster.apiserver.verbs.list import list_
from cluster.apiserver.verbs.patch import patch
from cluster.apiserver.verbs.update import update
from cluster.apiserver.verbs.watch import watch
from cluster.httpserver import Request, Response, StreamResponse

log = logging.getLogger(__name__)

Handler = Callable[[Backend, Call], Result | Awaitable[Result]]
Answer = Response | StreamResponse | None

_VERBS: dict[str, Handler] = {
    "get": get,
    "list": cast(Handler, list_),
    "watch": watch,
    "create": create,
    "update": update,
    "patch": patch,
    "delete": delete,
    "deletecollection": deletecollection,
}
_METHODS: dict[str, str] = {
    "get": "GET", "list": "LIST", "watch": "WATCH", "create": "POST", "update": "PUT",
    "patch": "PATCH", "delete": "DELETE", "deletecollection": "DELETE",
}  # fmt: skip


class Front:
    """See the module. `handle` is the HTTP server's handler."""

    def __init__(
        self, backend: Backend, documents: Documents, health: Health, flow: FlowLog
    ) -> None:
        self._backend = backend
        self._documents = documents
        self._health = health
        self._flow = flow
        self._in_flight = InFlight(
            backend.config.max_mutating_in_flight, backend.config.max_in_flight, backend.metrics
        )
        self._batch = Batch(self)

    # -- HTTP ----------

    def handle(self, request: Request) -> Answer | Awaitable[Answer]:
        """Every request enters here."""
        started = self._backend.clock.monotonic()
        accept = request.headers.get("accept", "")
        call: Call | None = None
        try:
            where = route(request.method, request.path)
            user = self.authenticate(request, where)
            if not where.is_resource:
                return self._path(request, where, user)
            call = self._call(request, where, user, started)
            result = self.begin(call)
        except StatusError as error:
            return self._refuse(call, error) if call else respond_error(error, accept)
        except Exception:
            log.exception("%s %s failed", request.method, request.raw_path)
            broken = InternalError("Internal error occurred")
            return self._refuse(call, broken) if call else respond_error(broken, accept)
        if type(result) is CoroutineType:
            return self._finish(call, result)
        return self._answer(call, cast(Result, result))

    def authenticate(self, request: Request, where: Route) -> UserInfo:
        """The identity that the request counts as, impersonation included."""
        backend = self._backend
        user: UserInfo = backend.authentication.authenticate(
            request.headers, request.peer_cert, request.path
        )
        planned = plan_impersonation(request.headers, user, request.repeated)
        if planned is None:
            return user
        for check in planned.checks:
            backend.authorization.require(check)
        return planned.user

    @staticmethod
    def _call(request: Request, where: Route, user: UserInfo, started: float) -> Call:
        call = Call(request.method, request.path, request.query_string, where)
        headers = request.headers
        call.user = user
        call.accept = headers.get("accept", "")
        call.content_type = headers.get("content-type", "")
        call.user_agent = headers.get("user-agent", "")
        call.body = request.body
        call.request = request
        call.started = started
        return call

    async def _finish(self, call: Call, pending: Awaitable[Result]) -> Answer:
        try:
            return self._answer(call, await self.counted(call, pending))
        except StatusError as error:
            return self._refuse(call, error)
        except Exception:
            log.exception("%s %s failed", call.method, call.path)
            return self._refuse(call, InternalError("Internal error occurred"))

    async def counted(self, call: Call, pending: Awaitable[Result]) -> Result:
        """Await a verb within the in-flight limits."""
        try:
            kind = self._in_flight.enter(call)
        except StatusError:
            pending.close()  # type: ignore[attr-defined]
            raise
        try:
            return await pending
        finally:
            self._in_flight.leave(kind)

    def _answer(self, call: Call, result: Result) -> Answer:
        if isinstance(result, Outcome):
            try:
                result = respond(call, result, self._backend.clock.now())
            except StatusError as error:
                return self._refuse(call, error)
        if isinstance(result, Response):
            self.observe(call, result.status)
        return result

    def _refuse(self, call: Call, error: StatusError) -> Response:
        self.observe(call, error.code)
        return respond_error(error, call.accept)

    def observe(self, call: Call, code: int) -> None:
        where = call.route
        scope = "resource" if where.name else "namespace" if where.namespace else "cluster"
        verb = _METHODS.get(call.verb, call.method)
        labels = (verb, where.group, where.version, where.plural, where.subresource, scope)
        seconds = self._backend.clock.monotonic() - call.started
        self._backend.metrics.observe(labels, code, seconds)

    # -- resources ----------

    def begin(self, call: Call) -> Result | Awaitable[Result]:
        """Authorise a routed call and start its verb. Raises StatusError."""
        backend, where = self._backend, call.route
        if call.verb == "list" and "watch=" in call.query_string and call.flag("watch"):
            call.verb = "watch"
        if call.verb == "deletecollection" and not where.name and call.method != "DELETE":
            raise MethodNotAllowed(
                "the server does not allow this method on the requested resource"
            )
        self._authorize(call)
        resource = backend.catalogue.find(where.group, where.version, where.plural)
        if resource is None:
            return not_found_page()
        call.served = resource
        call.resource = stored_resource(backend.catalogue, resource)
        if where.subresource:
            return self._subresource(call)
        review = REVIEWS.get((where.group, where.plural))
        if review is not None:
            if call.verb != "create":
                return not_allowed()
            return review(backend, call)
        if call.verb not in resource.verbs or (call.verb == "create" and where.name):
            return not_allowed()
        if where.plural == "componentstatuses":
            return component_statuses(backend, call)
        if not resource.storage_prefix:
            raise NotEmulated(f"the resource {resource.plural}")
        if resource.namespaced and not where.namespace and call.verb not in ("list", "watch"):
            return not_allowed() if call.verb != "get" else not_found_page()
        return _VERBS[call.verb](backend, call)

    def _subresource(self, call: Call) -> Result | Awaitable[Result]:
        where, resource = call.route, call.resource
        if where.subresource not in resource.subresources or (
            resource.namespaced and not where.namespace
        ):
            return not_found_page()
        handler = handler_of(where.subresource, call.method)
        if handler is None:
            return not_allowed()
        return handler(self._backend, call)

    def _authorize(self, call: Call) -> None:
        where = call.route
        query = call.query_string
        name = where.name
        field_selector = label_selector = ""
        if query and "Selector" in query:
            field_selector = call.parameter("fieldSelector")
            label_selector = call.parameter("labelSelector")
            if not name and call.verb in ("list", "watch", "deletecollection"):
                name = _selected_name(field_selector)
        self._backend.authorization.require(
            Attributes(
                call.user,
                call.verb,
                call.path,
                True,
                where.group,
                where.version,
                where.plural,
                where.subresource,
                where.namespace,
                name,
                field_selector,
                label_selector,
            )
        )

    # -- everything else ----------

    def _path(self, request: Request, where: Route, user: UserInfo) -> Answer | Awaitable[Answer]:
        backend, path = self._backend, request.path
        backend.authorization.require(
            Attributes(user=user, verb=where.verb, path=path, is_resource=False)
        )
        if path == BATCH_PATH:
            if request.method != "POST":
                return not_allowed()
            return self._batch.answer(request, user)
        if path.startswith(FLOW_PREFIX):
            return self.flow(request.method, path, request.body, None)
        if request.method not in ("GET", "HEAD"):
            return not_allowed()
        healthy = self._health.answer(request)
        if healthy is not None:
            return healthy
        if path == "/metrics":
            return self._metrics()
        if path == "/openid/v1/jwks":
            return self._documents.jwks()
        return self._documents.answer(request, path)

    def flow(self, method: str, path: str, body: bytes, preset: Any) -> Response:
        from cluster.apiserver.call import parse_json

        value = preset if preset is not None else (parse_json(body) if body else None)
        return self._flow.answer(method, path, value)

    def _metrics(self) -> Response:
        from prometheus_client import generate_latest
        from prometheus_client.exposition import CONTENT_TYPE_LATEST

        return Response(200, generate_latest(self._backend.metrics.registry), CONTENT_TYPE_LATEST)

    @property
    def backend(self) -> Backend:
        return self._backend


def _selected_name(field_selector: str) -> str:
    """The one name that a field selector asks for (upstream authorises the list as if it named
    it)."""
    for term in field_selector.split(","):
        path, _, value = term.partition("=")
        if path == "metadata.name":
            return value.removeprefix("=")
    return ""
