"""`kubestage flow NAMESPACE/POD`: the nine stages of one pod, as the components measured them."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from actors import ledger
from actors.errors import UserError
from cluster.api.errors import StatusError
from cluster.client import ClientConfig

PATH = "/apis/kubestage.io/v1/flow"


def flow(name: str, pod: str) -> dict[str, Any]:
    """The API server's record of the pod's way. Raises UserError."""
    namespace, slash, pod_name = pod.rpartition("/")
    if not pod_name or (slash and not namespace):
        raise UserError(f"{pod!r}: expected NAMESPACE/POD, e.g. default/nginx")
    entry = ledger.require(name)
    return asyncio.run(_ask(entry.kubeconfig, namespace or "default", pod_name))


async def _ask(kubeconfig: str, namespace: str, pod: str) -> dict[str, Any]:
    client = ClientConfig.from_kubeconfig(kubeconfig).connect(batches=False)
    try:
        status, body = await client.raw("GET", f"{PATH}/{namespace}/{pod}")
    except StatusError as error:
        raise UserError(error.message) from error
    finally:
        await client.close()
    document: dict[str, Any] = orjson.loads(body)
    if status != 200:
        raise UserError(str(document.get("message", f"the API server answered {status}")))
    return document
