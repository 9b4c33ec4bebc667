"""Watches: who hears of which change, in which shape.

Watchers that ask for the same thing share a `Feed`: a change is matched, encoded and framed once a
feed, then written to each of its connections; all changes of one commit leave in one write. A
watcher that reads too slowly is closed after 1,000 waiting events (the client lists again): memory
stays bounded and nobody else waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cluster.apiserver.watchcache.entry import Change, Entry, Selection

if TYPE_CHECKING:
    from cluster.apiserver.watchcache.cache import ResourceCache
    from cluster.httpserver import StreamResponse

WATCHER_BUFFER_EVENTS = 1_000
"""Events that wait for one slow watcher; past that it is closed."""

Shape = Callable[[str, Entry], bytes]
"""(event type, entry) to one watch line, newline included."""


class Watcher:
    """One open watch: its stream and how many events wait for it."""

    __slots__ = ("bookmarks", "feed", "min_revision", "on_closed", "stream", "waiting")

    def __init__(self, feed: Feed, stream: StreamResponse, *, bookmarks: bool) -> None:
        self.feed = feed
        self.stream = stream
        self.bookmarks = bookmarks
        self.waiting = 0
        self.min_revision = 0
        self.on_closed: Callable[[], None] | None = None

    def send(self, data: bytes, events: int) -> bool:
        """False: too slow or gone, and now closed."""
        stream = self.stream
        if stream.blocked:
            self.waiting += events
            if self.waiting > WATCHER_BUFFER_EVENTS:
                self.feed.cache.metrics.terminated_watcher(self.feed.cache.resource.plural)
                stream.close()
                return False
        else:
            self.waiting = 0
        if not stream.write_nowait(data):
            stream.close()
            return False
        return True


class Feed:
    """All watchers of one selection in one shape."""

    def __init__(
        self, cache: ResourceCache, identity: object, selection: Selection, shape: Shape | None
    ) -> None:
        self.cache = cache
        self.identity = identity
        self.selection = selection
        self.shape = shape
        self.watchers: set[Watcher] = set()

    def line(self, change: Change) -> bytes | None:
        """What this feed's watchers hear of a change; None: nothing."""
        selection = self.selection
        if selection.everything and not selection.namespace:
            kind, entry = change.type, change.entry
        else:
            now = change.type != "DELETED" and selection.matches(change.entry)
            before = change.prev is not None and selection.matches(change.prev)
            if now:
                kind, entry = ("MODIFIED" if before else "ADDED"), change.entry
            elif before:
                # The object left the selection: its last matching state, at this change's revision.
                kind, entry = "DELETED", change.departed()
            else:
                return None
        if self.shape is None:
            return change.line(kind, entry)
        return self.shape(kind, entry)

    def dispatch(self, lines: list[bytes], revision: int) -> None:
        """One commit's lines to everybody."""
        data = b"".join(lines)
        count = len(lines)
        for watcher in list(self.watchers):
            if watcher.min_revision < revision:
                watcher.send(data, count)
