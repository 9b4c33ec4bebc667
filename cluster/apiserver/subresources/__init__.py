"""What hangs below an object: status, scale, binding, eviction, logs and the rest. One subresource
one file."""

from cluster.apiserver.subresources.table import handler_of

__all__ = ["handler_of"]
