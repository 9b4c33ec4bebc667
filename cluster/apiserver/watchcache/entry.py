"""One stored object as the caches hold it, and what a reader may select by.

The store keeps objects without their resourceVersion (as upstream does: it is the key's revision);
it is spliced into the bytes once, when the event comes in, and those bytes serve every get, list
and watch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from cluster.api.meta import Object
from cluster.api.selectors import FieldSelector, LabelSelector

_METADATA = b'"metadata":{'
_VERSION = b'"resourceVersion":"'

Labels = dict[str, str]


def encode(obj: Object) -> bytes:
    """The stored form: apiVersion, kind and metadata first, no resourceVersion. Raises TypeError
    for what JSON cannot hold (depth, numbers past 64 bits)."""
    metadata = obj["metadata"]
    if "resourceVersion" in metadata:
        metadata = {k: v for k, v in metadata.items() if k != "resourceVersion"}
    shaped: Object = {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": metadata,
    }
    for key, value in obj.items():
        if key not in shaped:
            shaped[key] = value
    return orjson.dumps(shaped)


def splice(value: bytes, revision: int) -> bytes:
    """Stored bytes to wire bytes."""
    at = value.index(_METADATA) + len(_METADATA)
    return b'%b"resourceVersion":"%d",%b' % (value[:at], revision, value[at:])


def resplice(encoded: bytes, revision: int) -> bytes:
    """Wire bytes with another resourceVersion (a deletion's, a selector transition's)."""
    start = encoded.index(_METADATA) + len(_METADATA) + len(_VERSION)
    end = encoded.index(b'"', start)
    return b"%b%d%b" % (encoded[:start], revision, encoded[end:])


class Entry:
    """One version of one object. `key` is namespace/name or name; `fields` are the values of the
    cache's field labels in their order; `encoded` is what leaves on the wire."""

    __slots__ = ("encoded", "fields", "key", "labels", "name", "namespace", "revision")

    def __init__(
        self,
        key: str,
        revision: int,
        encoded: bytes,
        labels: Labels | None,
        fields: tuple[str, ...],
    ) -> None:
        self.key = key
        self.namespace, _, self.name = key.rpartition("/")
        self.revision = revision
        self.encoded = encoded
        self.labels = labels
        self.fields = fields

    def decode(self) -> Object:
        """A private copy."""
        obj: Object = orjson.loads(self.encoded)
        return obj

    def at(self, revision: int) -> Entry:
        """The same content at another revision."""
        encoded = resplice(self.encoded, revision)
        return Entry(self.key, revision, encoded, self.labels, self.fields)


class Change:
    """One committed change of one object. Of a deletion, `entry` is the last state at the
    deletion's revision. The encoded watch lines are made once, whoever asks first."""

    __slots__ = ("_departed", "_lines", "entry", "prev", "revision", "time", "type")

    def __init__(self, type_: str, entry: Entry, prev: Entry | None, time: float) -> None:
        self.type = type_
        self.entry = entry
        self.prev = prev
        self.revision = entry.revision
        self.time = time
        self._departed: Entry | None = None
        self._lines: dict[tuple[str, int], bytes] = {}

    def departed(self) -> Entry:
        """What a watcher hears whose selection the object has left."""
        if self.type == "DELETED":
            return self.entry
        if self._departed is None:
            assert self.prev is not None
            self._departed = self.prev.at(self.revision)
        return self._departed

    def line(self, kind: str, entry: Entry) -> bytes:
        key = (kind, id(entry))
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = plain_line(kind, entry)
        return line

    def forget_lines(self) -> None:
        """After the fan-out: history keeps the objects, not their frames."""
        self._lines.clear()
        self._departed = None


_LINE_HEADS = {
    kind: b'{"type":"%b","object":' % kind.encode()
    for kind in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR")
}


def plain_line(kind: str, entry: Entry) -> bytes:
    """One watch line with the object as it is."""
    return b"%b%b}\n" % (_LINE_HEADS[kind], entry.encoded)


def line_of(kind: str, obj: Object) -> bytes:
    """One watch line of a decoded object."""
    return b"%b%b}\n" % (_LINE_HEADS[kind], orjson.dumps(obj))


@dataclass(slots=True)
class Selection:
    """Which entries a list or a watch wants. `node_names` is filled where spec.nodeName is asked
    for by = or in: the caches index it."""

    namespace: str = ""
    labels: LabelSelector | None = None
    fields: FieldSelector | None = None
    node_names: frozenset[str] | None = None
    name: str = ""
    _positions: dict[str, int] = field(default_factory=dict)

    @property
    def everything(self) -> bool:
        """True if only the namespace narrows it."""
        return self.labels is None and self.fields is None

    def bind(self, field_names: tuple[str, ...]) -> Selection:
        """Resolve field labels to positions in Entry.fields; find the indexable ones."""
        self._positions = {name: i for i, name in enumerate(field_names)}
        if self.fields is not None:
            for path, op, value in self.fields.requirements:
                if path == "spec.nodeName" and op in ("=", "in") and self.node_names is None:
                    names = value.split(",") if op == "in" else [value]
                    self.node_names = frozenset(n for n in names if n or op == "=")
                elif path == "metadata.name" and op == "=":
                    self.name = value
        return self

    def matches(self, entry: Entry) -> bool:
        if self.namespace and entry.namespace != self.namespace:
            return False
        if self.labels is not None and not self.labels.matches(entry.labels or {}):
            return False
        if self.fields is None:
            return True
        positions = self._positions

        def get(path: str) -> str:
            if path == "metadata.name":
                return entry.name
            if path == "metadata.namespace":
                return entry.namespace
            at = positions.get(path)
            return entry.fields[at] if at is not None else ""

        return bool(self.fields.matches(get))


def labels_of(obj: Object) -> Labels | None:
    labels: Any = obj["metadata"].get("labels")
    return labels if isinstance(labels, dict) and labels else None
