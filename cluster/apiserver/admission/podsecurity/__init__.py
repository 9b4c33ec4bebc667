"""PodSecurity: plays k8s.io/pod-security-admission. The labels of the namespace,
`pod-security.kubernetes.io/{enforce,warn,audit}[-version]`, choose privileged, baseline or
restricted.

Pods that violate `enforce` are refused; those, and workloads whose template does, get a Warning for
`warn`. Versions are accepted and shown, the checks are always the latest. Audit annotations are
not written: there is no audit log yet.
"""

from cluster.apiserver.admission.podsecurity.plugin import PodSecurity

__all__ = ["PodSecurity"]
