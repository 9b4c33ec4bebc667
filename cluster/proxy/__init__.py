"""kube-proxy: Services and EndpointSlices become the wanted dataplane.

`plan.py` decides (pure), `proxy.py` follows the API and has the plan applied. What programs the
kernel is handed in: this room does not know how.
"""

from cluster.proxy.plan import PlanChanges, ProxyPlan, ServicePlan
from cluster.proxy.proxy import Proxy

__all__ = ["PlanChanges", "Proxy", "ProxyPlan", "ServicePlan"]
