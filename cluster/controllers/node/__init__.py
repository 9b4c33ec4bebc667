"""Nodes: are they alive, what taints say so, which pods must leave, which addresses they may give
to pods.

Plays pkg/controller/nodelifecycle, pkg/controller/tainteviction and pkg/controller/nodeipam.
"""

from cluster.controllers.node.ipam import NodeIpamController
from cluster.controllers.node.lifecycle import NodeLifecycleController
from cluster.controllers.node.tainteviction import TaintEvictionController

__all__ = ["NodeIpamController", "NodeLifecycleController", "TaintEvictionController"]
