"""Tables: what `kubectl get` prints, made by the server.

Plays pkg/printers/internalversion: upstream's columns and cells, one module a family of kinds.
Every column is always there; the client hides those of priority 1 unless `-o wide`. Kinds without
columns of their own print name and age.
"""

from cluster.api.table.build import IncludeObject, to_table
from cluster.api.table.durations import human_duration

__all__ = ["IncludeObject", "human_duration", "to_table"]
