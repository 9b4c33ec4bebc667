"""The cache of one resource: its objects in key order, their recent history, its watches.

Invariants: `entries` is the state after `revision`; `history` holds every change after
`history_start`, in order; a watcher has been sent exactly the matching changes up to `revision`.
All of it changes in synchronous methods only.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from sortedcontainers import SortedDict

from cluster.api.catalogue import Resource
from cluster.api.meta import Object
from cluster.api.selectors import SUPPORTED_FIELDS, field_value
from cluster.apiserver.watchcache.entry import Change, Entry, Selection, labels_of
from cluster.apiserver.watchcache.feed import Feed, Shape, Watcher
from cluster.httpserver import StreamResponse

HISTORY_SECONDS = 300.0
HISTORY_EVENTS = 100_000
HISTORY_BYTES = 64 * 1024 * 1024
"""What a resumed watch may catch up on, a resource; older is 410 Expired and the client lists
again."""

Handler = Callable[[Object | None, Object | None], None]


class CacheMetrics(Protocol):
    """What the caches report (cluster/metrics/apiserver.py)."""

    def watch_events(self, resource: Resource, events: int, size: int) -> None: ...

    def terminated_watcher(self, resource: str) -> None: ...

    def watchers(self, resource: Resource, count: int) -> None: ...

    def objects(self, resource: Resource, count: int) -> None: ...


def field_labels(resource: Resource) -> tuple[str, ...]:
    """The field labels whose values an entry keeps (name and namespace are in its key)."""
    names = SUPPORTED_FIELDS.get((resource.group, resource.plural), ())
    return tuple(n for n in names if n not in ("metadata.name", "metadata.namespace"))


class ResourceCache:
    """See the module."""

    def __init__(self, resource: Resource, metrics: CacheMetrics) -> None:
        self.resource = resource
        self.metrics = metrics
        self.prefix = resource.storage_prefix + "/"
        self.field_names = field_labels(resource)
        self.entries: SortedDict[str, Entry] = SortedDict()
        self.revision = 0  # the last change of this resource
        self.history: deque[Change] = deque()
        self.history_start = 0
        self._history_bytes = 0
        self._feeds: dict[object, Feed] = {}
        self._open_feeds: set[Feed] = set()
        self._node_feeds: dict[str, set[Feed]] = {}
        self._by_node: dict[str, dict[str, Entry]] | None = None
        self._node_at = -1
        if "spec.nodeName" in self.field_names:
            self._by_node = {}
            self._node_at = self.field_names.index("spec.nodeName")
        self._handlers: list[Handler] = []
        self.watcher_count = 0

    # -- reading ----------

    def key(self, namespace: str, name: str) -> str:
        return f"{namespace}/{name}" if namespace else name

    def get(self, namespace: str, name: str) -> Entry | None:
        entry: Entry | None = self.entries.get(f"{namespace}/{name}" if namespace else name)
        return entry

    def select(self, selection: Selection, start_after: str = "") -> Iterator[Entry]:
        """Matching entries in key order, from the narrowest index there is."""
        candidates: Iterable[Entry]
        if selection.node_names is not None and self._by_node is not None:
            found: dict[str, Entry] = {}
            for node in selection.node_names:
                found.update(self._by_node.get(node, {}))
            candidates = (found[k] for k in sorted(found) if k > start_after)
        elif selection.name and (selection.namespace or not self.resource.namespaced):
            entry = self.get(selection.namespace, selection.name)
            candidates = (entry,) if entry is not None and entry.key > start_after else ()
        else:
            candidates = self._range(selection.namespace, start_after)
            if selection.everything:
                yield from candidates
                return
        matches = selection.matches
        for candidate in candidates:
            if matches(candidate):
                yield candidate

    def _range(self, namespace: str, start_after: str) -> Iterator[Entry]:
        entries = self.entries
        if not namespace and not start_after:
            yield from entries.values()
            return
        low = max(namespace + "/" if namespace else "", start_after)
        high = namespace + "0" if namespace else None  # "0" sorts right after "/"
        for key in entries.irange(low or None, high, inclusive=(False, False)):
            yield entries[key]

    # -- changing ----------

    def extract(self, key: str, revision: int, encoded: bytes, obj: Object) -> Entry:
        """An entry with its index values taken out of the decoded object."""
        labels = labels_of(obj)
        if labels is not None:
            labels = {sys.intern(k): sys.intern(v) for k, v in labels.items()}
        fields = tuple(sys.intern(field_value(obj, path)) for path in self.field_names)
        return Entry(key, revision, encoded, labels, fields)

    def load(self, entry: Entry) -> None:
        """Initial state: no event."""
        self.entries[entry.key] = entry
        self._index(None, entry)
        self.revision = max(self.revision, entry.revision)

    def apply(self, change: Change) -> None:
        """Make a committed change visible to readers (watchers hear of it by `dispatch`)."""
        entry = change.entry
        old: Entry | None = self.entries.get(entry.key)
        if change.type == "DELETED":
            self.entries.pop(entry.key, None)
            self._index(old, None)
        else:
            self.entries[entry.key] = entry
            self._index(old, entry)
        self.revision = change.revision
        self.history.append(change)
        self._history_bytes += len(entry.encoded)
        if self._history_bytes > HISTORY_BYTES or len(self.history) > HISTORY_EVENTS:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        oldest = self.history.popleft()
        self._history_bytes -= len(oldest.entry.encoded)
        self.history_start = oldest.revision

    def expire_history(self, now: float) -> None:
        """Forget what is older than the window (called now and then)."""
        while self.history and self.history[0].time < now - HISTORY_SECONDS:
            self._forget_oldest()

    def _index(self, old: Entry | None, new: Entry | None) -> None:
        if self._by_node is None:
            return
        at = self._node_at
        if old is not None and (new is None or new.fields[at] != old.fields[at]):
            home = self._by_node.get(old.fields[at])
            if home is not None:
                home.pop(old.key, None)
                if not home:
                    del self._by_node[old.fields[at]]
        if new is not None:
            self._by_node.setdefault(new.fields[at], {})[new.key] = new

    # -- subscribers inside the API server ----------

    def subscribe(self, handler: Handler) -> None:
        for entry in list(self.entries.values()):
            handler(None, entry.decode())
        self._handlers.append(handler)

    def replace(self, other: ResourceCache) -> None:
        """Take `other`'s place: its subscribers stay, and hear of whatever is different here."""
        self._handlers = other._handlers
        if not self._handlers:
            return
        for key in {*other.entries, *self.entries}:
            old: Entry | None = other.entries.get(key)
            new: Entry | None = self.entries.get(key)
            if old is None or new is None or old.revision != new.revision:
                self.notify(old.decode() if old else None, new.decode() if new else None)

    @property
    def subscribed(self) -> bool:
        return bool(self._handlers)

    def notify(self, old: Object | None, new: Object | None) -> None:
        for handler in self._handlers:
            handler(old, new)

    # -- watches ----------

    def dispatch(self, changes: list[Change]) -> None:
        """Tell the watchers of one commit's changes of this resource, each feed in one write."""
        if not self._feeds:
            return
        pending: dict[Feed, list[bytes]] = {}
        size = 0
        for change in changes:
            for feed in self._concerned(change):
                line = feed.line(change)
                if line is not None:
                    pending.setdefault(feed, []).append(line)
                    size += len(line)
        revision = changes[-1].revision
        events = 0
        for feed, lines in pending.items():
            feed.dispatch(lines, revision)
            events += len(lines)
        for change in changes:
            change.forget_lines()
        if events:
            self.metrics.watch_events(self.resource, events, size)

    def _concerned(self, change: Change) -> Iterable[Feed]:
        if not self._node_feeds:
            return self._open_feeds
        concerned = list(self._open_feeds)
        at = self._node_at
        here = self._node_feeds.get(change.entry.fields[at], ())
        concerned.extend(here)
        prev = change.prev
        if prev is not None and prev.fields[at] != change.entry.fields[at]:
            there = self._node_feeds.get(prev.fields[at], ())
            concerned.extend(f for f in there if f not in here)
        return concerned

    def changes_since(self, revision: int) -> list[Change] | None:
        """History after `revision`; None if it is not all there any more."""
        if revision < self.history_start:
            return None
        newer: list[Change] = []
        for change in reversed(self.history):
            if change.revision <= revision:
                break
            newer.append(change)
        newer.reverse()
        return newer

    def open_watch(
        self,
        stream: StreamResponse,
        identity: object,
        selection: Selection,
        shape: Shape | None,
        *,
        bookmarks: bool,
    ) -> Watcher:
        """A new watcher of the feed `identity` names; it hears of every later change."""
        feed = self._feeds.get(identity)
        if feed is None:
            feed = self._feeds[identity] = Feed(self, identity, selection, shape)
            for home in self._homes(feed):
                home.add(feed)
        watcher = Watcher(feed, stream, bookmarks=bookmarks)
        feed.watchers.add(watcher)
        self.watcher_count += 1
        self.metrics.watchers(self.resource, self.watcher_count)
        return watcher

    def close_watch(self, watcher: Watcher) -> None:
        feed = watcher.feed
        if watcher not in feed.watchers:
            return
        feed.watchers.discard(watcher)
        self.watcher_count -= 1
        self.metrics.watchers(self.resource, self.watcher_count)
        if not feed.watchers:
            del self._feeds[feed.identity]
            for home in self._homes(feed):
                home.discard(feed)
            for node in feed.selection.node_names or ():
                if not self._node_feeds.get(node, True):
                    del self._node_feeds[node]

    def _homes(self, feed: Feed) -> list[set[Feed]]:
        names = feed.selection.node_names
        if names is None or self._by_node is None:
            return [self._open_feeds]
        return [self._node_feeds.setdefault(name, set()) for name in names]

    def watchers(self) -> Iterator[Watcher]:
        for feed in list(self._feeds.values()):
            yield from list(feed.watchers)
