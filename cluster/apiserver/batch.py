"""The batch endpoint: many ordinary requests in one POST. # Unlike Kubernetes: it has nothing of
the kind.

Our own components send their requests here: one HTTP exchange, one parse and one commit for up to
a hundred writes. Each item is authenticated as its own identity, authorised, admitted and answered
as if it had come alone. Items begin in order; those that touch one object wait for each other, a
read waits for the writes before it.

Item: `{"m":"POST","p":"/api/v1/...?query","b":body,"t":"bearer token","c":"content
type","a":0|1|2}`. Answer: `{"s":201,"b":object or Status}`, `b` left out when a=0 and the item
succeeded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

import orjson

from cluster.api.errors import (
    BadRequest,
    InternalError,
    MethodNotAllowed,
    RequestEntityTooLarge,
    StatusError,
)
from cluster.apiserver.attributes import Attributes, UserInfo
from cluster.apiserver.call import Call, Outcome, Result, parse_json
from cluster.apiserver.flow import PREFIX as FLOW_PREFIX
from cluster.apiserver.negotiation import encoded, respond_error
from cluster.apiserver.routing import route
from cluster.httpserver import Request, Response

if TYPE_CHECKING:
    from cluster.apiserver.front import Front

BATCH_PATH = "/apis/kubestage.io/v1/batch"
BATCH_ITEMS = 500
"""Items of one batch; more is 413 (the client halves it)."""
_NOT_BATCHED = frozenset({"log", "exec", "attach", "portforward", "proxy"})
_READS = frozenset({"get", "list"})


class Batch:
    """See the module."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def answer(self, request: Request, user: UserInfo) -> Response:
        try:
            items = parse_json(request.body)
            if not isinstance(items, list):
                raise BadRequest("a batch is a JSON array of requests")
            if len(items) > BATCH_ITEMS:
                raise RequestEntityTooLarge(
                    f"a batch holds at most {BATCH_ITEMS} requests, got {len(items)}"
                )
            self._front.backend.metrics.batch_items.observe(len(items))
            answers = await self._run(items, user, request)
        except StatusError as error:
            return respond_error(error)
        return Response(200, b"[" + b",".join(answers) + b"]")

    async def _run(self, items: list[Any], user: UserInfo, request: Request) -> list[bytes]:
        answers: list[bytes] = [b""] * len(items)
        pending: list[asyncio.Task[None]] = []
        loop = asyncio.get_running_loop()
        busy: set[tuple[str, str, str, str]] = set()
        agent = request.headers.get("user-agent", "")
        for at, item in enumerate(items):
            call: Call | None = None
            try:
                call = self._call(item, user, agent)
                key = _key(call, item)
                if pending and (call.verb in _READS or (key[3] and key in busy)):
                    await asyncio.gather(*pending)
                    pending.clear()
                    busy.clear()
                result = self._begin(call, item)
            except StatusError as error:
                answers[at] = self._failed(call, error)
                continue
            except Exception as error:  # noqa: BLE001  # one broken item must not take the others
                answers[at] = self._broken(call, error)
                continue
            if type(result) is CoroutineType:
                busy.add(key)
                pending.append(loop.create_task(self._finish(call, result, answers, at)))
            else:
                answers[at] = self._done(call, cast(Result, result))
        if pending:
            await asyncio.gather(*pending)
        return answers

    def _call(self, item: Any, user: UserInfo, agent: str) -> Call:
        if not isinstance(item, dict):
            raise BadRequest("an item of a batch is an object")
        method, target = item.get("m"), item.get("p")
        if not isinstance(method, str) or not isinstance(target, str):
            raise BadRequest('an item of a batch needs "m" and "p"')
        path, _, query = target.partition("?")
        if "%" in path:
            from urllib.parse import unquote

            path = unquote(path)
        call = Call(method, path, query, route(method, path))
        call.started = self._front.backend.clock.monotonic()
        token = item.get("t")
        if token:
            headers = {"authorization": f"Bearer {token}"}
            call.user = self._front.backend.authentication.authenticate(headers, None, path)
        else:
            call.user = user
        call.user_agent = agent
        call.content_type = str(item.get("c") or "")
        answer = item.get("a", 2)
        call.answer = answer if answer in (0, 1, 2) else 2
        if "b" in item:
            call.preset(item["b"])
        return call

    def _begin(self, call: Call, item: Any) -> Result | Awaitable[Result]:
        where = call.route
        if not where.is_resource:
            if not call.path.startswith(FLOW_PREFIX):
                raise MethodNotAllowed("only resources can be batched")
            self._front.backend.authorization.require(
                Attributes(user=call.user, verb=where.verb, path=call.path, is_resource=False)
            )
            return self._front.flow(call.method, call.path, b"", item.get("b"))
        if where.subresource in _NOT_BATCHED or where.verb == "watch":
            raise MethodNotAllowed("watches and connections cannot be batched")
        if where.verb == "list" and "watch=" in call.query_string and call.flag("watch"):
            raise MethodNotAllowed("watches and connections cannot be batched")
        return self._front.begin(call)

    async def _finish(
        self, call: Call, pending: Awaitable[Result], answers: list[bytes], at: int
    ) -> None:
        try:
            answers[at] = self._done(call, await self._front.counted(call, pending))
        except StatusError as error:
            answers[at] = self._failed(call, error)
        except Exception as error:  # noqa: BLE001  # one broken item must not take the others
            answers[at] = self._broken(call, error)

    def _done(self, call: Call, result: Result) -> bytes:
        if isinstance(result, Outcome):
            self._front.observe(call, result.status)
            if call.answer == 0:
                return b'{"s":%d}' % result.status
            if call.answer == 1:
                return b'{"s":%d,"b":%b}' % (result.status, self._identity(result))
            return b'{"s":%d,"b":%b}' % (result.status, encoded(call, result))
        if not isinstance(result, Response):
            return self._failed(call, MethodNotAllowed("streams cannot be batched"))
        self._front.observe(call, result.status)
        body = result.body if isinstance(result.body, bytes) else b"".join(result.body)
        if result.status >= 400 and not body.startswith(b"{"):
            body = orjson.dumps(_page_status(result.status, body))
        if call.answer == 0 and result.status < 400:
            return b'{"s":%d}' % result.status
        return b'{"s":%d,"b":%b}' % (result.status, body or b"null")

    def _identity(self, outcome: Outcome) -> bytes:
        if outcome.obj is not None:
            obj = outcome.obj
        else:
            assert outcome.entry is not None
            obj = self._front.backend.storage.decoded(outcome.entry)
        metadata = obj.get("metadata") or {}
        wanted = ("name", "namespace", "uid", "resourceVersion")
        return orjson.dumps({"metadata": {k: metadata[k] for k in wanted if k in metadata}})

    def _failed(self, call: Call | None, error: StatusError) -> bytes:
        if call is not None:
            self._front.observe(call, error.code)
        return b'{"s":%d,"b":%b}' % (error.code, orjson.dumps(error.to_status()))

    def _broken(self, call: Call | None, error: Exception) -> bytes:
        import logging

        path = call.path if call is not None else ""
        logging.getLogger(__name__).error("batched %s failed", path, exc_info=error)
        return self._failed(call, InternalError("Internal error occurred"))


def _key(call: Call, item: Any) -> tuple[str, str, str, str]:
    """The object that an item touches; the name is '' if the server will choose it."""
    where = call.route
    name = where.name
    if not name:
        body = item.get("b")
        metadata = body.get("metadata") if isinstance(body, dict) else None
        given = metadata.get("name") if isinstance(metadata, dict) else None
        name = given if isinstance(given, str) else ""
    return where.group, where.plural, where.namespace, name


def _page_status(code: int, body: bytes) -> dict[str, Any]:
    from cluster.api.errors import from_status

    return from_status(code, None, body.decode("utf-8", "replace").strip()).to_status()
