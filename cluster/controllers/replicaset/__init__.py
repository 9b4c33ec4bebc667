"""ReplicaSets and ReplicationControllers: keep n pods of one template.

Plays pkg/controller/replicaset and pkg/controller/replication. `replicas` decides how many to
create or delete and what the status says, `ranking` which pods go first, `controller` is the shell.
"""

from cluster.controllers.replicaset.controller import (
    REPLICASET,
    REPLICATIONCONTROLLER,
    ReplicaSetController,
)

__all__ = ["REPLICASET", "REPLICATIONCONTROLLER", "ReplicaSetController"]
