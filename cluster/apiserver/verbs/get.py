"""GET of one object: from the cache, without a copy."""

from __future__ import annotations

from cluster.api.errors import BadRequest
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call, Outcome
from cluster.apiserver.problems import not_found


def get(backend: Backend, call: Call) -> Outcome:
    """The object as it is now. Every revision this server has acknowledged is in the cache
    already."""
    if call.query_string:
        parse_revision(call.parameter("resourceVersion"))
    entry = backend.cache(call.resource).get(call.namespace, call.name)
    if entry is None:
        raise not_found(call.resource, call.name)
    return Outcome(200, entry)


def parse_revision(text: str) -> int:
    """A resourceVersion parameter; '' is 0. Raises BadRequest in upstream's words."""
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise BadRequest(
            f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    return int(text)
