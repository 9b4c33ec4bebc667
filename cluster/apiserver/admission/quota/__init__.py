"""ResourceQuota: plays k8s.io/apiserver/pkg/admission/plugin/resourcequota, pkg/quota/v1 and, for
status, pkg/controller/resourcequota.

The plugin is the one that knows what is used: it counts when the first request of a namespace needs
it, charges each admitted object in memory at once, and writes `status` behind the requests.
"""

from cluster.apiserver.admission.quota.plugin import ResourceQuota

__all__ = ["ResourceQuota"]
