"""Typed-by-GVR access to an API server: get, list, create, update, patch, delete, watch.

Plays k8s.io/client-go/rest and dynamic. Objects are plain dicts. Requests about one object travel
through the `Batcher` when there is one; lists, watches and raw requests have a connection of their
own. Failures are `StatusError`s: what to do about one is its class.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Literal, NamedTuple, Protocol
from urllib.parse import quote, urlencode

import orjson

from cluster.api.errors import from_status
from cluster.api.meta import GVR, Object
from cluster.client.retry import RetryPolicy, idempotent, retry_after
from cluster.client.transport import Transport, Unreachable, error_of
from cluster.metrics.client import ClientMetrics

AnswerWanted = Literal["object", "meta", "none"]
PatchType = Literal["merge", "strategic", "json", "apply"]

_CONTENT_TYPES: Mapping[PatchType, str] = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
_SAFE = re.compile(r"[A-Za-z0-9.\-_~:]*\Z")
JSON = "application/json"


class ObjectList(NamedTuple):
    """One page of a list. Every item has its apiVersion and kind."""

    items: list[Object]
    resource_version: str
    continue_: str


class WatchEvent(NamedTuple):
    """`type` is ADDED, MODIFIED, DELETED or BOOKMARK; an ERROR is raised instead."""

    type: str
    object: Object


EventBatch = list[WatchEvent]


class Submitter(Protocol):
    """What `Client` needs of a batcher."""

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
    ) -> asyncio.Future[Object]: ...


class Client:
    """One identity at one API server. Cheap: a kubelet's is `shared.with_token(token)`."""

    def __init__(
        self,
        transport: Transport,
        *,
        token: str = "",
        user_agent: str = "kubestage",
        batcher: Submitter | None = None,
        metrics: ClientMetrics | None = None,
        retry: RetryPolicy | None = None,
        background: bool = False,
    ) -> None:
        self._background = background
        self.transport = transport
        self.token = token
        self.user_agent = user_agent
        self.batcher = batcher
        self._metrics = metrics
        self._retry = retry or RetryPolicy()

    def with_token(self, token: str) -> Client:
        """Another identity over the same connections and batches."""
        return Client(
            self.transport, token=token, user_agent=self.user_agent, batcher=self.batcher,
            metrics=self._metrics, retry=self._retry,
        )  # fmt: skip

    def in_background(self) -> Client:
        """The same identity for what may wait (events): such requests fill what is left of a
        batch."""
        return Client(
            self.transport, token=self.token, user_agent=self.user_agent, batcher=self.batcher,
            metrics=self._metrics, retry=self._retry, background=True,
        )  # fmt: skip

    def without_batches(self) -> Client:
        """The same identity, each request on its own."""
        return Client(
            self.transport, token=self.token, user_agent=self.user_agent, metrics=self._metrics,
            retry=self._retry,
        )  # fmt: skip

    async def get(
        self, gvr: GVR, name: str, namespace: str = "", *, subresource: str = ""
    ) -> Object:
        return await self.submit("GET", object_path(gvr, namespace, name, subresource), None)

    async def list(
        self,
        gvr: GVR,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_: str = "",
        resource_version: str = "",
        resource_version_match: str = "",
    ) -> ObjectList:
        query = _query(
            labelSelector=label_selector, fieldSelector=field_selector, limit=limit or "",
            resourceVersion=resource_version, resourceVersionMatch=resource_version_match,
            **{"continue": continue_},
        )  # fmt: skip
        found = await self._single("GET", collection_path(gvr, namespace) + query, None)
        return _object_list(found)

    async def create(
        self,
        gvr: GVR,
        obj: Object,
        namespace: str = "",
        *,
        subresource: str = "",
        name: str = "",
        answer: AnswerWanted = "object",
        dry_run: bool = False,
    ) -> Object:
        """`namespace` defaults to the object's own. A subresource (binding, eviction, token) needs
        `name`."""
        return await self.create_nowait(
            gvr, obj, namespace, subresource=subresource, name=name, answer=answer, dry_run=dry_run
        )

    def create_nowait(
        self,
        gvr: GVR,
        obj: Object,
        namespace: str = "",
        *,
        subresource: str = "",
        name: str = "",
        answer: AnswerWanted = "object",
        dry_run: bool = False,
    ) -> asyncio.Future[Object]:
        """`create` without a coroutine of its own: many share a batch, then await the futures."""
        namespace = namespace or obj.get("metadata", {}).get("namespace", "")
        path = (
            object_path(gvr, namespace, name, subresource)
            if subresource
            else collection_path(gvr, namespace)
        )
        return self.submit("POST", path + _dry_run(dry_run), obj, answer=answer)

    async def update(
        self,
        gvr: GVR,
        obj: Object,
        *,
        subresource: str = "",
        answer: AnswerWanted = "object",
        dry_run: bool = False,
    ) -> Object:
        return await self.update_nowait(
            gvr, obj, subresource=subresource, answer=answer, dry_run=dry_run
        )

    def update_nowait(
        self,
        gvr: GVR,
        obj: Object,
        *,
        subresource: str = "",
        answer: AnswerWanted = "object",
        dry_run: bool = False,
    ) -> asyncio.Future[Object]:
        meta = obj["metadata"]
        path = object_path(gvr, meta.get("namespace", ""), meta["name"], subresource)
        return self.submit("PUT", path + _dry_run(dry_run), obj, answer=answer)

    async def patch(
        self,
        gvr: GVR,
        name: str,
        patch: object,
        namespace: str = "",
        *,
        patch_type: PatchType = "merge",
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
        answer: AnswerWanted = "object",
    ) -> Object:
        return await self.patch_nowait(
            gvr, name, patch, namespace, patch_type=patch_type, subresource=subresource,
            field_manager=field_manager, force=force, answer=answer,
        )  # fmt: skip

    def patch_nowait(
        self,
        gvr: GVR,
        name: str,
        patch: object,
        namespace: str = "",
        *,
        patch_type: PatchType = "merge",
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
        answer: AnswerWanted = "object",
    ) -> asyncio.Future[Object]:
        query = _query(fieldManager=field_manager, force="true" if force else "")
        path = object_path(gvr, namespace, name, subresource) + query
        return self.submit(
            "PATCH", path, patch, content_type=_CONTENT_TYPES[patch_type], answer=answer
        )

    async def delete(
        self,
        gvr: GVR,
        name: str,
        namespace: str = "",
        *,
        grace_seconds: int | None = None,
        propagation: str = "",
        uid: str = "",
        resource_version: str = "",
    ) -> Object:
        """The object as it was, or a Status. `propagation`: Background, Foreground or Orphan."""
        return await self.delete_nowait(
            gvr, name, namespace, grace_seconds=grace_seconds, propagation=propagation, uid=uid,
            resource_version=resource_version,
        )  # fmt: skip

    def delete_nowait(
        self,
        gvr: GVR,
        name: str,
        namespace: str = "",
        *,
        grace_seconds: int | None = None,
        propagation: str = "",
        uid: str = "",
        resource_version: str = "",
    ) -> asyncio.Future[Object]:
        options = _delete_options(grace_seconds, propagation, uid, resource_version)
        return self.submit("DELETE", object_path(gvr, namespace, name), options, answer="meta")

    async def delete_collection(
        self,
        gvr: GVR,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        grace_seconds: int | None = None,
        propagation: str = "",
    ) -> Object:
        query = _query(labelSelector=label_selector, fieldSelector=field_selector)
        options = _delete_options(grace_seconds, propagation, "", "")
        return await self._single("DELETE", collection_path(gvr, namespace) + query, options)

    async def watch(
        self,
        gvr: GVR,
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        allow_bookmarks: bool = True,
        timeout_seconds: int = 0,
    ) -> AsyncIterator[EventBatch]:
        """Events as they arrive, those of one chunk together. Ends when the server ends it. Raises
        Expired (list again), Unreachable (watch again) and any other StatusError. Close it with
        contextlib.aclosing."""
        query = _query(
            watch="1", resourceVersion=resource_version, labelSelector=label_selector,
            fieldSelector=field_selector, allowWatchBookmarks="true" if allow_bookmarks else "",
            timeoutSeconds=timeout_seconds or "",
        )  # fmt: skip
        path = collection_path(gvr, namespace) + query
        async with self.transport.stream("GET", path, self._headers()) as chunks:
            rest = b""
            async for chunk in chunks:
                end = chunk.rfind(b"\n")
                if end < 0:
                    rest += chunk
                    continue
                events = decode_events(rest + chunk[:end])
                rest = chunk[end + 1 :]
                if events:
                    yield events

    async def raw(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Any request, any status: nothing is raised but Unreachable."""
        answer = await self.transport.request(method, path, self._headers(), body)
        return answer.status, answer.body

    def submit(
        self,
        method: str,
        path: str,
        body: object,
        *,
        content_type: str = JSON,
        answer: AnswerWanted = "object",
    ) -> asyncio.Future[Object]:
        """Any request about one object, as a future of its answer ({} where none was wanted)."""
        if self.batcher is not None:
            return self.batcher.submit(
                method, path, body, token=self.token, content_type=content_type, answer=answer,
                background=self._background,
            )  # fmt: skip
        return asyncio.ensure_future(self._single(method, path, body, content_type))

    async def close(self) -> None:
        await self.transport.close()

    async def _single(
        self, method: str, path: str, body: object, content_type: str = JSON
    ) -> Object:
        payload = None if body is None else orjson.dumps(body)
        headers = self._headers() if body is None else self._headers(content_type)
        attempt = 0
        while True:
            attempt += 1
            try:
                found = await self.transport.request(method, path, headers, payload)
            except Unreachable as error:
                if not (error.refused or idempotent(method)) or attempt >= self._retry.attempts:
                    raise
                await asyncio.sleep(self._retry.delay(attempt))
                continue
            if self._metrics is not None:
                self._metrics.count(method, found.status, self.transport.host)
            if found.status < 400:
                return _decode(found.body)
            error_found = error_of(found.status, found.body)
            wait = retry_after(error_found, path)
            if wait is None or attempt >= self._retry.attempts:
                raise error_found
            await asyncio.sleep(max(wait, self._retry.delay(attempt)))

    def _headers(self, content_type: str = "") -> dict[str, str]:
        headers = {"Accept": JSON, "User-Agent": self.user_agent}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if content_type:
            headers["Content-Type"] = content_type
        return headers


def collection_path(gvr: GVR, namespace: str = "") -> str:
    """`/api/v1/namespaces/default/pods`."""
    if namespace:
        return f"{gvr.prefix}/namespaces/{_escape(namespace)}/{gvr.plural}"
    return f"{gvr.prefix}/{gvr.plural}"


def object_path(gvr: GVR, namespace: str, name: str, subresource: str = "") -> str:
    """`/api/v1/namespaces/default/pods/nginx/status`."""
    path = f"{collection_path(gvr, namespace)}/{_escape(name)}"
    return f"{path}/{subresource}" if subresource else path


def decode_events(lines: bytes) -> EventBatch:
    """Whole lines of a watch. One call decodes them all: JSON has no raw newline within."""
    if not lines.strip():
        return []
    found = orjson.loads(b"[" + lines.strip(b"\n").replace(b"\n", b",") + b"]")
    events = []
    for each in found:
        kind, obj = each["type"], each["object"]
        if kind == "ERROR":
            raise from_status(int(obj.get("code", 500)), obj)
        events.append(WatchEvent(kind, obj))
    return events


async def watch_one(
    client: Client, gvr: GVR, name: str, namespace: str = "", *, timeout_seconds: int = 60
) -> AsyncIterator[WatchEvent]:
    """The events of a single object, from now on (first an ADDED if it exists)."""
    stream = client.watch(
        gvr, namespace, field_selector=f"metadata.name={name}", timeout_seconds=timeout_seconds
    )
    async with aclosing(stream) as batches:  # type: ignore[type-var]
        async for events in batches:
            for event in events:
                yield event


def _escape(segment: str) -> str:
    return segment if _SAFE.match(segment) else quote(segment, safe=":")


def _query(**values: object) -> str:
    chosen = [(k, str(v)) for k, v in values.items() if v != ""]
    return "?" + urlencode(chosen) if chosen else ""


def _dry_run(wanted: bool) -> str:
    return "?dryRun=All" if wanted else ""


def _delete_options(
    grace_seconds: int | None, propagation: str, uid: str, resource_version: str
) -> Object | None:
    options: Object = {}
    if grace_seconds is not None:
        options["gracePeriodSeconds"] = grace_seconds
    if propagation:
        options["propagationPolicy"] = propagation
    conditions = {k: v for k, v in (("uid", uid), ("resourceVersion", resource_version)) if v}
    if conditions:
        options["preconditions"] = conditions
    return {"kind": "DeleteOptions", "apiVersion": "v1", **options} if options else None


def _decode(body: bytes) -> Object:
    found = orjson.loads(body) if body else {}
    return found if isinstance(found, dict) else {"items": found}


def _object_list(found: Object) -> ObjectList:
    meta = found.get("metadata") or {}
    items = found.get("items") or []
    api_version = found.get("apiVersion", "v1")
    kind = str(found.get("kind", "")).removesuffix("List")
    for item in items:
        item.setdefault("apiVersion", api_version)
        item.setdefault("kind", kind)
    return ObjectList(items, str(meta.get("resourceVersion", "")), str(meta.get("continue", "")))
