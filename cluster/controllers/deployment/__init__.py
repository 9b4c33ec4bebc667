"""Deployments: roll one ReplicaSet up and the others down.

Plays pkg/controller/deployment. `revisions` finds the ReplicaSet of the wanted template and numbers
it, `rollout` decides sizes, `status` words the progress, `plan` puts the three together into
effects, `controller` is the shell.
"""

from cluster.controllers.deployment.controller import DeploymentController

__all__ = ["DeploymentController"]
