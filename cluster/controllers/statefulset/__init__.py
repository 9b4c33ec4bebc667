"""StatefulSets: pods with names, claims and an order (pkg/controller/statefulset).

`identity` makes a pod of an ordinal and its claims, `plan` decides the next step, `controller` is
the shell. Not yet: maxUnavailable of a rolling update (one at a time),
persistentVolumeClaimRetentionPolicy Delete.
"""

from cluster.controllers.statefulset.controller import StatefulSetController

__all__ = ["StatefulSetController"]
