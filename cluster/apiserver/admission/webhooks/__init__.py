"""MutatingAdmissionWebhook and ValidatingAdmissionWebhook: play
k8s.io/apiserver/pkg/admission/plugin/webhook.

`configuration` knows which hooks there are and which of them a request concerns, `review` writes
and reads AdmissionReviews, `client` sends them over HTTPS, `plugin` puts it together. Left out:
matchPolicy Equivalent's conversion between versions, and matchConditions (CEL), which are refused
by name (`notemulated.py`).
"""

from cluster.apiserver.admission.webhooks.client import WebhookClient
from cluster.apiserver.admission.webhooks.plugin import Webhooks

__all__ = ["WebhookClient", "Webhooks"]
