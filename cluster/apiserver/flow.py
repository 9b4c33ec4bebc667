"""The nine stages of a pod, with times: what `kubestage flow` shows.

Kept in memory only, for the last 20,000 pods: this server marks what it does itself, the other
components report theirs by POST, batched and best effort. # Unlike Kubernetes: it has nothing of
the kind.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import orjson

from cluster.api.errors import BadRequest, NotFound
from cluster.api.meta import Clock, Object
from cluster.httpserver import Response

PODS_REMEMBERED = 20_000
STAGES_A_POD = 64
PREFIX = "/apis/kubestage.io/v1/flow"


class FlowLog:
    """Stage times by pod. A pod of the same name that comes later starts anew."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pods: OrderedDict[str, tuple[str, list[Object]]] = OrderedDict()

    def begin(self, namespace: str, name: str, uid: str) -> None:
        key = f"{namespace}/{name}"
        self._pods.pop(key, None)
        self._pods[key] = (uid, [])
        if len(self._pods) > PODS_REMEMBERED:
            self._pods.popitem(last=False)

    def mark(self, namespace: str, name: str, stage: str, start: float, end: float) -> None:
        self.add(namespace, name, {"stage": stage, "start": start, "end": end})

    def add(self, namespace: str, name: str, stage: Object) -> None:
        known = self._pods.get(f"{namespace}/{name}")
        if known is not None and len(known[1]) < STAGES_A_POD:
            known[1].append(stage)

    def stages(self, namespace: str, name: str) -> Object:
        known = self._pods.get(f"{namespace}/{name}")
        if known is None:
            raise NotFound(f'no flow is known of pod "{namespace}/{name}"')
        return {
            "namespace": namespace,
            "pod": name,
            "uid": known[0],
            "stages": sorted(known[1], key=lambda s: (s["start"], s["end"])),
        }

    # -- over HTTP ----------

    def answer(self, method: str, path: str, body: Any) -> Response:
        """GET or POST of /apis/kubestage.io/v1/flow/NAMESPACE/POD; POST of the bare path takes a
        list whose items name their pod."""
        parts = [p for p in path[len(PREFIX) :].split("/") if p]
        if method == "GET" and len(parts) == 2:
            return Response(200, orjson.dumps(self.stages(*parts)))
        if method != "POST" or len(parts) not in (0, 2):
            raise BadRequest(f"{PREFIX}/NAMESPACE/POD takes GET and POST")
        for item in body if isinstance(body, list) else [body]:
            stage = _stage(item)
            if len(parts) == 2:
                self.add(parts[0], parts[1], stage)
            else:
                self.add(str(item.get("namespace", "")), str(item.get("pod", "")), stage)
        return Response(200, b"{}")


def _stage(item: Any) -> Object:
    if not isinstance(item, dict) or not isinstance(item.get("stage"), str):
        raise BadRequest('a stage is {"stage":"...","start":seconds,"end":seconds}')
    start, end = item.get("start"), item.get("end")
    if not isinstance(start, int | float) or not isinstance(end, int | float):
        raise BadRequest("start and end of a stage are Unix seconds")
    stage: Object = {"stage": item["stage"][:64], "start": start, "end": end}
    if isinstance(item.get("detail"), dict):
        stage["detail"] = item["detail"]
    return stage
