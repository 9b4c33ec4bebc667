"""DaemonSets: one pod on every node that it fits (pkg/controller/daemon).

`placement` decides which nodes, `plan` which pods come and go, `controller` is the shell.
"""

from cluster.controllers.daemonset.controller import DaemonSetController

__all__ = ["DaemonSetController"]
