"""Garbage collection by owner references: an object goes when its last owner has gone.

Plays pkg/controller/garbagecollector. `graph` keeps who owns whom and decides, `controller` is the
shell that watches every type the API serves and carries the decisions out.
"""

from cluster.controllers.garbagecollector.controller import GarbageCollector

__all__ = ["GarbageCollector"]
