"""Kubelets: they register nodes, keep them alive and run the pods bound to them.

Plays cmd/kubelet and pkg/kubelet. Start at pool.py (many nodes in one process), then worker.py (one
pod): podstate.py plans, podstatus.py describes, containers.py and termination.py act. Leaves out
static pods, device plugins, eviction by pressure, checkpoints.
"""

from cluster.kubelet.config import KubeletConfig, NodeSpec
from cluster.kubelet.pool import KubeletPool

__all__ = ["KubeletConfig", "KubeletPool", "NodeSpec"]
