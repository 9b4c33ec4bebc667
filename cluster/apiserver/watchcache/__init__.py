"""What the API server remembers of the store: every object once, encoded, ready to be sent.

Plays k8s.io/apiserver/pkg/storage/cacher. One watch on the store feeds one cache a resource;
reads, lists and watches are answered from here, writes go to the store and are answered once their
event has come back. An object is kept as the bytes that leave on the wire plus the few values
selectors ask for; it is decoded only when somebody must look inside.
"""

from cluster.apiserver.watchcache.cache import ResourceCache
from cluster.apiserver.watchcache.entry import Change, Entry, Selection
from cluster.apiserver.watchcache.feed import Feed, Watcher
from cluster.apiserver.watchcache.storage import Storage

__all__ = ["Change", "Entry", "Feed", "ResourceCache", "Selection", "Storage", "Watcher"]
