"""An actor's connection to the API server, made the same way for every component."""

from __future__ import annotations

from actors.context import Context
from cluster.client import Client, ClientConfig
from cluster.metrics.client import ClientMetrics


def client_of(context: Context, metrics: ClientMetrics | None = None) -> Client:
    """The component's own identity, with batches. The server may not be up yet: requests wait."""
    config = ClientConfig(
        server=context.plan.server_url,
        ca_pem=context.client.ca,
        cert_pem=context.client.cert,
        key_pem=context.client.key,
        user_agent=context.component,
    )
    return config.connect(metrics=metrics)
