"""Volumes of pods: what must exist before a pod starts, and files for whoever reads them.

Plays pkg/kubelet/volumemanager and pkg/volume/{configmap,secret,projected,downwardapi,emptydir,
hostpath}. A missing ConfigMap or Secret blocks the start as upstream does; files are only written
once something can read them (a command in the container, or `kubectl exec`), because most emulated
containers never look.
"""

from cluster.kubelet.volumes.manager import MountFailed, VolumeManager
from cluster.kubelet.volumes.plan import SourceRef, required_sources
from cluster.kubelet.volumes.sources import SourceCache

__all__ = ["MountFailed", "SourceCache", "SourceRef", "VolumeManager", "required_sources"]
