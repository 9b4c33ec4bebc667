"""WATCH: the state if asked for, what was missed since a revision, then every change as it is
committed."""

from __future__ import annotations

import asyncio

import orjson

from cluster.api.convert import to_version
from cluster.api.errors import Expired, FieldError, Invalid
from cluster.api.meta import Object
from cluster.api.table import to_table
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call
from cluster.apiserver.negotiation import (
    Form,
    form_of,
    include_object,
    partial,
)
from cluster.apiserver.verbs.get import parse_revision
from cluster.apiserver.verbs.list import selection_of
from cluster.apiserver.watchcache import Change, Entry, ResourceCache, Selection, Watcher
from cluster.apiserver.watchcache.entry import line_of, plain_line
from cluster.apiserver.watchcache.feed import Feed, Shape
from cluster.apiserver.watchcache.storage import bookmark
from cluster.httpserver import StreamResponse


def watch(backend: Backend, call: Call) -> StreamResponse:
    """A stream that starts once its head is sent; nothing is missed in between."""
    cache = backend.cache(call.resource)
    selection = selection_of(call, cache)
    form = form_of(call.accept) if call.accept else Form()
    initial = check_initial(call)
    version = call.parameter("resourceVersion")
    revision = parse_revision(version)
    timeout = call.number("timeoutSeconds") or 0
    if timeout <= 0:
        floor = backend.config.min_request_timeout_seconds
        timeout_seconds = floor * (1.0 + backend.rng.random())
    else:
        timeout_seconds = float(timeout)
    opening = _Opening(backend, call, cache, selection, form, initial, revision, timeout_seconds)
    stream = StreamResponse(
        200,
        {"Cache-Control": "no-cache, private"},
        "application/json;stream=watch" if "stream=watch" in call.accept else "application/json",
        on_start=opening.start,
        on_close=opening.stop,
    )
    return stream


def check_initial(call: Call) -> bool | None:
    """sendInitialEvents, checked as metav1's ValidateListOptions does. Raises Invalid."""
    initial = call.flag("sendInitialEvents")
    match = call.parameter("resourceVersionMatch")
    problem: FieldError | None = None
    if initial is None:
        if match:
            problem = FieldError(
                "FieldValueForbidden",
                "resourceVersionMatch",
                "",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )
    elif match != "NotOlderThan":
        problem = FieldError(
            "FieldValueForbidden",
            "resourceVersionMatch",
            "",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )
    if problem is not None:
        raise Invalid.of("meta.k8s.io", "ListOptions", "", [problem])
    return initial


class _Opening:
    """One watch from its request to its end."""

    def __init__(
        self,
        backend: Backend,
        call: Call,
        cache: ResourceCache,
        selection: Selection,
        form: Form,
        initial: bool | None,
        revision: int,
        timeout_seconds: float,
    ) -> None:
        self._backend = backend
        self._call = call
        self._cache = cache
        self._selection = selection
        self._shape = shape_of(backend, call, form)
        self._form = form
        self._initial = initial
        self._revision = revision
        self._timeout_seconds = timeout_seconds
        self._bookmarks = bool(call.flag("allowWatchBookmarks"))
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: Watcher | None = None

    def start(self, stream: StreamResponse) -> None:
        cache, backend = self._cache, self._backend
        now = backend.storage.revision
        with_state = self._initial is True or (self._initial is None and self._revision == 0)
        lines: list[bytes] = []
        if with_state:
            shape = self._shape or plain_line
            lines = [shape("ADDED", entry) for entry in cache.select(self._selection)]
            if self._initial and self._bookmarks:
                lines.append(self._bookmark_line(now, initial_end=True))
        elif self._revision:
            missed = cache.changes_since(self._revision)
            if missed is None:
                stream.write_nowait(line_of("ERROR", _too_old(self._revision, cache)))
                stream.close()
                return
            lines = self._replay(missed)
        if lines:
            stream.write_nowait(b"".join(lines))
        self._watcher = cache.open_watch(
            stream, self._identity(), self._selection, self._shape, bookmarks=self._bookmarks
        )
        if self._revision > now:
            self._watcher.min_revision = self._revision
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._timeout_seconds, self._expire, stream)
        backend.metrics.long_running(self._call, 1)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._cache.close_watch(self._watcher)
            self._watcher = None
            self._backend.metrics.long_running(self._call, -1)

    def _expire(self, stream: StreamResponse) -> None:
        if self._bookmarks and not stream.blocked:
            stream.write_nowait(self._bookmark_line(self._backend.storage.revision))
        stream.close()

    def _bookmark_line(self, revision: int, *, initial_end: bool = False) -> bytes:
        return line_of("BOOKMARK", bookmark(self._call.served, revision, initial_end=initial_end))

    def _replay(self, missed: list[Change]) -> list[bytes]:
        feed = Feed(self._cache, None, self._selection, self._shape)
        lines: list[bytes] = []
        for change in missed:
            line = feed.line(change)
            if line is not None:
                lines.append(line)
            change.forget_lines()
        return lines

    def _identity(self) -> tuple[object, ...]:
        call = self._call
        return (
            call.namespace,
            call.name,
            call.parameter("labelSelector"),
            call.parameter("fieldSelector"),
            self._form,
            call.served.gvr,
            include_object(call) if self._form.as_kind == "Table" else "",
        )


def shape_of(backend: Backend, call: Call, form: Form) -> Shape | None:
    """How a line is made for a form; None: the object as it is."""
    resource, version = call.served, form.as_version
    if not form.as_kind:
        if not call.converts:
            return None
        return lambda kind, entry: line_of(
            kind, to_version(entry.decode(), call.served.api_version)
        )
    if form.as_kind == "Table":
        include = include_object(call)

        def table_line(kind: str, entry: Entry) -> bytes:
            obj: Object = to_version(entry.decode(), call.served.api_version)
            table = to_table(
                resource,
                [obj],
                include_object=include,
                now=backend.clock.now(),
                list_meta={"resourceVersion": str(entry.revision)},
            )
            table["apiVersion"] = f"meta.k8s.io/{version}"
            return line_of(kind, table)

        return table_line

    def partial_line(kind: str, entry: Entry) -> bytes:
        return line_of(kind, partial(orjson.loads(entry.encoded), version))

    return partial_line


def _too_old(revision: int, cache: ResourceCache) -> Object:
    return Expired(f"too old resource version: {revision} ({cache.history_start})").to_status()
