"""What may enter the store, and in what shape: plays k8s.io/apiserver/pkg/admission and
plugin/pkg/admission.

`build_chain` makes the plugins that kube-apiserver turns on by default (and NodeRestriction, as
kubeadm does), in upstream's order; adding one is a file here and a line in `plugins.py`.
"""

from cluster.apiserver.admission.chain import AdmissionChain, AsyncAdmissionPlugin, Plugin
from cluster.apiserver.admission.plugins import PLUGIN_ORDER, build_chain

__all__ = ["PLUGIN_ORDER", "AdmissionChain", "AsyncAdmissionPlugin", "Plugin", "build_chain"]
