"""LIST: pages of the cache in key order, with upstream's resourceVersion semantics.

A first page is the present; its continue token names the revision it was read at, and later pages
are of that revision:
from the cache while nothing has changed since, from the store's own history otherwise, 410
Expired once that is compacted.
"""

from __future__ import annotations

import base64
from itertools import islice

import orjson

from cluster.api.errors import BadRequest, Expired, FieldError, Invalid
from cluster.api.meta import Object
from cluster.api.selectors import FieldSelector, LabelSelector
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call
from cluster.apiserver.convert import stored_selector
from cluster.apiserver.negotiation import respond_list
from cluster.apiserver.verbs.get import parse_revision
from cluster.apiserver.watchcache import Entry, ResourceCache, Selection
from cluster.etcd.store import Compacted, FutureRevision
from cluster.httpserver import Response

_STORE_PAGE = 500
_TOKEN_VERSION = "meta.k8s.io/v1"
_EXPIRED_TOKEN = (
    "The provided continue parameter is too old to display a consistent list result. You can start "
    "a new list without the continue parameter, or use the continue token in this response to "
    "retrieve the remainder of the results. Continuing with the provided token results in an "
    "inconsistent list - objects that were created, modified, or deleted between the time the "
    "first chunk was returned and now may show up in the list."
)


class ExpiredToken(Expired):
    """The page asked for is of a revision that is forgotten; its token goes on with the present."""

    def __init__(self, token: str) -> None:
        super().__init__(_EXPIRED_TOKEN)
        self.token = token

    def to_status(self) -> Object:
        return {**super().to_status(), "metadata": {"continue": self.token}}


def list_(backend: Backend, call: Call) -> Response | object:
    """A response, or a coroutine for one where the store's history or a future revision is asked
    for."""
    cache = backend.cache(call.resource)
    if not call.query_string:
        entries = list(cache.select(Selection(call.namespace)))
        metadata = {"resourceVersion": str(backend.storage.revision)}
        return respond_list(call, entries, metadata, backend.clock.now())
    selection = selection_of(call, cache)
    limit = call.number("limit") or 0
    if limit < 0:
        limit = 0
    token = call.parameter("continue")
    match = check_match(call, token)
    wanted = parse_revision(call.parameter("resourceVersion"))
    if token:
        if wanted and call.parameter("resourceVersion") != "0":
            raise BadRequest("specifying resource version is not allowed when using continue")
        revision, start_after = decode_token(token)
        if revision < 0 or cache.revision <= revision <= backend.storage.revision:
            revision = backend.storage.revision if revision < 0 else revision
            return page(backend, call, cache, selection, limit, start_after, revision)
        return page_of_history(backend, call, cache, selection, limit, start_after, revision)
    if match == "Exact" and wanted:
        if not cache.revision <= wanted <= backend.storage.revision:
            return page_of_history(backend, call, cache, selection, limit, "", wanted)
        return page(backend, call, cache, selection, limit, "", wanted)
    if wanted > backend.storage.revision:
        return wait_and_page(backend, call, cache, selection, limit, wanted)
    return page(backend, call, cache, selection, limit, "", backend.storage.revision)


def selection_of(call: Call, cache: ResourceCache) -> Selection:
    """The selectors of a request. Raises BadRequest for unknown field labels, in upstream's
    words."""
    labels = call.parameter("labelSelector")
    fields = call.parameter("fieldSelector")
    selection = Selection(call.namespace)
    if call.converts:
        fields = stored_selector(call.served, fields)
    if labels:
        label_selector = LabelSelector.parse(labels)
        selection.labels = None if label_selector.empty() else label_selector
    if call.name:
        fields = f"{fields},metadata.name={call.name}" if fields else f"metadata.name={call.name}"
    if fields:
        selection.fields = FieldSelector.parse(fields)
        selection.fields.check_supported(call.resource.group, call.resource.plural)
        if selection.fields.empty():
            selection.fields = None
    return selection.bind(cache.field_names)


def check_match(call: Call, token: str) -> str:
    """resourceVersionMatch, checked as metav1's ValidateListOptions does. Raises Invalid."""
    match = call.parameter("resourceVersionMatch")
    if not match:
        return ""
    version = call.parameter("resourceVersion")
    problem: FieldError | None = None
    if not version and not call.parameter("sendInitialEvents"):
        problem = _forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided")
    elif token:
        problem = _forbidden("resourceVersionMatch is forbidden when continue is provided")
    elif match not in ("Exact", "NotOlderThan"):
        detail = 'supported values: "Exact", "NotOlderThan"'
        problem = FieldError("FieldValueNotSupported", "resourceVersionMatch", match, detail)
    elif match == "Exact" and version == "0":
        problem = _forbidden('resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
    if problem is not None:
        raise Invalid.of("meta.k8s.io", "ListOptions", "", [problem])
    return match


def _forbidden(detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", "resourceVersionMatch", "", detail)


def page(
    backend: Backend,
    call: Call,
    cache: ResourceCache,
    selection: Selection,
    limit: int,
    start_after: str,
    revision: int,
) -> Response:
    """One page of the present."""
    found = cache.select(selection, start_after)
    entries = list(islice(found, limit)) if limit else list(found)
    metadata: Object = {"resourceVersion": str(revision)}
    if limit and len(entries) == limit:
        more = next(found, None)
        if more is not None:
            metadata["continue"] = encode_token(revision, entries[-1].key)
            if selection.everything:
                metadata["remainingItemCount"] = 1 + sum(1 for _ in found)
    return respond_list(call, entries, metadata, backend.clock.now())


async def wait_and_page(
    backend: Backend,
    call: Call,
    cache: ResourceCache,
    selection: Selection,
    limit: int,
    wanted: int,
) -> Response:
    await backend.storage.wait_revision(wanted)
    return page(backend, call, cache, selection, limit, "", backend.storage.revision)


async def page_of_history(
    backend: Backend,
    call: Call,
    cache: ResourceCache,
    selection: Selection,
    limit: int,
    start_after: str,
    revision: int,
) -> Response:
    """One page as of an older revision, from the store. Raises Expired."""
    entries: list[Entry] = []
    prefix = cache.prefix + (f"{selection.namespace}/" if selection.namespace else "")
    cursor = cache.prefix + start_after if start_after else ""
    more = True
    while more and (not limit or len(entries) <= limit):
        try:
            result = await backend.storage.store.range(
                prefix, start_after=cursor, limit=_STORE_PAGE, revision=revision
            )
        except Compacted:
            if not start_after:
                raise Expired(
                    f"The resourceVersion for the provided list is too old: {revision}"
                ) from None
            raise ExpiredToken(encode_token(-1, start_after)) from None
        except FutureRevision:
            from cluster.apiserver.watchcache.storage import too_large

            raise too_large(revision, backend.storage.revision) from None
        more = result.more and bool(result.kvs)
        if result.kvs:
            cursor = result.kvs[-1].key
        for kv in result.kvs:
            entry = backend.storage.entry_of(cache, kv)
            if selection.matches(entry):
                entries.append(entry)
    metadata: Object = {"resourceVersion": str(revision)}
    if limit and len(entries) > limit:
        entries = entries[:limit]
        metadata["continue"] = encode_token(revision, entries[-1].key)
    return respond_list(call, entries, metadata, backend.clock.now())


def encode_token(revision: int, last: str) -> str:
    """A continue token in upstream's form: it starts right after `last`."""
    token = orjson.dumps({"v": _TOKEN_VERSION, "rv": revision, "start": f"{last}\x00"})
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def decode_token(text: str) -> tuple[int, str]:
    """(revision, key to start after). Raises BadRequest."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        token = orjson.loads(raw)
        version, revision, start = token["v"], token["rv"], token["start"]
        if version != _TOKEN_VERSION or not isinstance(start, str) or not start:
            raise ValueError(version)
        revision = int(revision)
    except (ValueError, KeyError, TypeError):
        raise BadRequest(
            "continue key is not valid: encoded string does not match format"
        ) from None
    if revision == 0:
        raise BadRequest(
            "continue key is not valid: incorrect encoded start resourceVersion "
            f"(version {version})"
        )
    return revision, start.removesuffix("\x00")
