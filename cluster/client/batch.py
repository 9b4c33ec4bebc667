"""Many requests in one POST: what makes our components cheap (design D1b).

Requests are gathered while the batch before is in flight; each is authenticated, authorised,
admitted and answered by the server as if it had come alone, in order. Against a server that has no
batch endpoint (404) every request goes alone. Limits: 100 requests or 2 MiB a batch; a 413 halves
it; waiting requests are bounded by their callers, who await them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import orjson

from cluster.api.errors import InternalError, RequestEntityTooLarge, StatusError, from_status
from cluster.api.meta import Object
from cluster.client.rest import JSON, AnswerWanted
from cluster.client.retry import RetryPolicy, idempotent, retry_after
from cluster.client.transport import Answer, Transport, Unreachable, error_of
from cluster.metrics.client import ClientMetrics

log = logging.getLogger(__name__)

BATCH_PATH = "/apis/kubestage.io/v1/batch"
MAX_ITEMS = 100
MAX_BYTES = 2 * 1024 * 1024
SLOW_SECONDS = 0.25
"""A batch in flight for longer than this no longer holds up the next one."""
MAX_IN_FLIGHT = 4
BACKGROUND_SHARE = 10

_ANSWERS: Mapping[AnswerWanted, int] = {"object": 2, "meta": 1, "none": 0}


@dataclass(slots=True, eq=False)
class _Item:
    """One request, encoded when it was submitted: its caller may change the object afterwards."""

    method: str
    path: str
    data: bytes
    body: bytes | None
    token: str
    content_type: str
    future: asyncio.Future[Object]
    attempts: int = 0


class Batcher:
    """One a process and API server. `token` is the identity of the connection itself ('': its
    certificate)."""

    def __init__(
        self,
        transport: Transport,
        *,
        token: str = "",
        user_agent: str = "kubestage",
        retry: RetryPolicy | None = None,
        metrics: ClientMetrics | None = None,
    ) -> None:
        self._transport = transport
        self._token = token
        self._user_agent = user_agent
        self._retry = retry or RetryPolicy()
        self._metrics = metrics
        self._pending: deque[_Item] = deque()
        self._idle: deque[_Item] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._pump_wanted = False
        self._supported = True

    @property
    def pending(self) -> int:
        """Requests that wait for the batch in flight."""
        return len(self._pending) + len(self._idle)

    def submit(
        self,
        method: str,
        path: str,
        body: object,
        *,
        token: str,
        content_type: str,
        answer: AnswerWanted,
        background: bool = False,
    ) -> asyncio.Future[Object]:
        """Queue one request; `background` ones fill what is left of a batch. Cancelling the future
        does not take back a request that has left."""
        loop = asyncio.get_running_loop()
        item: dict[str, object] = {"m": method, "p": path, "a": _ANSWERS[answer]}
        encoded = None
        if body is not None:
            encoded = orjson.dumps(body)
            item["b"] = orjson.Fragment(encoded)
        if token:
            item["t"] = token
        if content_type != JSON:
            item["c"] = content_type
        future: asyncio.Future[Object] = loop.create_future()
        queue = self._idle if background else self._pending
        queue.append(_Item(method, path, orjson.dumps(item), encoded, token, content_type, future))
        self._want_pump(loop)
        return future

    async def close(self) -> None:
        """Fail what waits, wait for what is in flight."""
        closed = Unreachable("the client is closed", refused=True)
        for queue in (self._pending, self._idle):
            while queue:
                _fail(queue.popleft(), closed)
        await asyncio.gather(*self._flights, return_exceptions=True)

    def _want_pump(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._pump_wanted:
            self._pump_wanted = True
            loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_wanted = False
        waiting = self.pending
        if waiting and len(self._flights) < (2 if waiting >= MAX_ITEMS else 1):
            self._depart()

    def _depart(self) -> None:
        items = self._take()
        if not items:
            return
        task = asyncio.get_running_loop().create_task(self._fly(items))
        self._flights.add(task)
        slow = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._overtake)

        def landed(done: asyncio.Task[None]) -> None:
            slow.cancel()
            self._flights.discard(done)
            self._pump()

        task.add_done_callback(landed)

    def _overtake(self) -> None:
        if self.pending and len(self._flights) < MAX_IN_FLIGHT:
            self._depart()

    def _take(self) -> list[_Item]:
        """The next batch: what waits for an answer first, a tenth left for what does not."""
        items: list[_Item] = []
        size = 0
        kept = min(len(self._idle), BACKGROUND_SHARE)
        for queue, limit in ((self._pending, MAX_ITEMS - kept), (self._idle, MAX_ITEMS)):
            while queue and len(items) < limit:
                item = queue[0]
                if item.future.cancelled():
                    queue.popleft()
                    continue
                if items and size + len(item.data) > MAX_BYTES:
                    return items
                size += len(item.data) + 1
                items.append(queue.popleft())
        return items

    async def _fly(self, items: Sequence[_Item]) -> None:
        for item in items:
            item.attempts += 1
        if not self._supported:
            await asyncio.gather(*(self._send_alone(item) for item in items))
            return
        payload = b"[" + b",".join([item.data for item in items]) + b"]"
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            answer = await self._transport.request(
                "POST", BATCH_PATH, self._headers(JSON, self._token), payload
            )
            self._observe("POST", started, len(items))
            await self._settle(items, answer)
        except Unreachable as error:
            for item in items:
                self._retry_or_fail(item, error)
        except asyncio.CancelledError:
            for item in items:
                _fail(item, Unreachable("cancelled", refused=False))
            raise
        except Exception as error:  # a bug of ours: nobody may wait for ever because of it
            log.exception("a batch failed")
            for item in items:
                _fail(item, InternalError(f"the batch failed: {error}"))

    async def _settle(self, items: Sequence[_Item], answer: Answer) -> None:
        if answer.status == 200:
            self._settle_each(items, answer.body)
        elif answer.status in (404, 405, 501):
            self._supported = False
            await asyncio.gather(*(self._send_alone(item) for item in items))
        elif answer.status == 413:
            await self._halve(items, answer)
        else:
            error = error_of(answer.status, answer.body)
            for item in items:
                self._retry_or_fail(item, error)

    def _settle_each(self, items: Sequence[_Item], body: bytes) -> None:
        try:
            results = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            results = []
            problem = f"the answer to a batch is not JSON: {error}"
        else:
            problem = f"{len(results)} answers to a batch of {len(items)}"
        counted: Counter[tuple[str, int]] = Counter()
        for item, result in zip(items, results, strict=False):
            status = result["s"]
            counted[item.method, status] += 1
            if status < 400:
                if not item.future.done():
                    item.future.set_result(result.get("b") or {})
            else:
                self._retry_or_fail(item, from_status(status, result.get("b")))
        for item in islice(items, len(results), None):
            _fail(item, InternalError(problem))
        if self._metrics is not None:
            for (method, status), amount in counted.items():
                self._metrics.count(method, status, self._transport.host, amount)

    async def _halve(self, items: Sequence[_Item], answer: Answer) -> None:
        if len(items) == 1:
            _fail(items[0], RequestEntityTooLarge(error_of(413, answer.body).message))
            return
        middle = len(items) // 2
        await self._fly(items[:middle])
        await self._fly(items[middle:])

    async def _send_alone(self, item: _Item) -> None:
        content_type = item.content_type if item.body is not None else ""
        headers = self._headers(content_type, item.token or self._token)
        try:
            answer = await self._transport.request(item.method, item.path, headers, item.body)
        except Unreachable as error:
            self._retry_or_fail(item, error)
            return
        if self._metrics is not None:
            self._metrics.count(item.method, answer.status, self._transport.host)
        if answer.status >= 400:
            self._retry_or_fail(item, error_of(answer.status, answer.body))
        elif not item.future.done():
            item.future.set_result(orjson.loads(answer.body) if answer.body else {})

    def _retry_or_fail(self, item: _Item, error: StatusError) -> None:
        wait: float | None
        if isinstance(error, Unreachable):
            wait = 0.0 if error.refused or idempotent(item.method) else None
        else:
            wait = retry_after(error, item.path)
        if wait is None or item.attempts >= self._retry.attempts:
            _fail(item, error)
            return
        if self._metrics is not None:
            self._metrics.retries.labels(str(error.code), item.method, self._transport.host).inc()
        loop = asyncio.get_running_loop()
        loop.call_later(max(wait, self._retry.delay(item.attempts)), self._again, item)

    def _again(self, item: _Item) -> None:
        self._pending.appendleft(item)
        self._want_pump(asyncio.get_running_loop())

    def _headers(self, content_type: str, token: str) -> dict[str, str]:
        headers = {"Accept": JSON, "User-Agent": self._user_agent}
        if content_type:
            headers["Content-Type"] = content_type
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _observe(self, method: str, started: float, items: int) -> None:
        if self._metrics is not None:
            seconds = asyncio.get_running_loop().time() - started
            self._metrics.request_seconds.labels(method, self._transport.host).observe(seconds)
            self._metrics.batch_items.observe(items)


def _fail(item: _Item, error: StatusError) -> None:
    if not item.future.done():
        item.future.set_exception(error)
