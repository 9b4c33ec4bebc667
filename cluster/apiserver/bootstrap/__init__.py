"""What a cluster holds before anyone asks: plays pkg/controlplane (the post-start hooks of the API
server), rbac/bootstrappolicy and what kubeadm adds for its components.

`ensure` creates what is missing and brings the default roles up to date, as upstream reconciles
them: rules and subjects that an administrator added stay, those taken away come back, unless the
object carries `rbac.authorization.kubernetes.io/autoupdate: "false"`.
"""

from cluster.apiserver.bootstrap.ensure import BootstrapConfig, ensure

__all__ = ["BootstrapConfig", "ensure"]
