"""Storage with etcd's semantics: revisions, compare-and-swap, watch, compaction.

Plays etcd behind kube-apiserver. `store` is the interface, `sqlite` the embedded default, `grpc` a
real etcd. Only the API server imports this room.
"""

from cluster.etcd.grpc import EtcdStore, EtcdTls
from cluster.etcd.sqlite import SqliteStore
from cluster.etcd.store import (
    Compacted,
    CompareFailed,
    Event,
    FutureRevision,
    KeyValue,
    RangeResult,
    Store,
    StoreError,
    StoreUnavailable,
    Watch,
    WatchOverflow,
    Write,
)

__all__ = [
    "Compacted",
    "CompareFailed",
    "EtcdStore",
    "EtcdTls",
    "Event",
    "FutureRevision",
    "KeyValue",
    "RangeResult",
    "SqliteStore",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "Watch",
    "WatchOverflow",
    "Write",
]
