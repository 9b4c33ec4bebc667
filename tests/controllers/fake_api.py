"""A small API server in memory, as a transport of the real client: controllers can live on it.

It keeps resourceVersions, UIDs, generations, finalizers, graceful pod deletion, strategic merge of
the few lists that controllers patch, watches and the batch endpoint. It checks nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import orjson

from cluster.api.errors import AlreadyExists, Conflict, NotFound, StatusError
from cluster.api.meta import GVR, Object, rfc3339
from cluster.client.transport import Answer, Unreachable

KINDS = {
    "pods": "Pod",
    "nodes": "Node",
    "namespaces": "Namespace",
    "services": "Service",
    "endpoints": "Endpoints",
    "events": "Event",
    "configmaps": "ConfigMap",
    "serviceaccounts": "ServiceAccount",
    "replicationcontrollers": "ReplicationController",
    "resourcequotas": "ResourceQuota",
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "persistentvolumes": "PersistentVolume",
    "apps/deployments": "Deployment",
    "apps/replicasets": "ReplicaSet",
    "apps/statefulsets": "StatefulSet",
    "apps/daemonsets": "DaemonSet",
    "apps/controllerrevisions": "ControllerRevision",
    "batch/jobs": "Job",
    "batch/cronjobs": "CronJob",
    "discovery.k8s.io/endpointslices": "EndpointSlice",
    "coordination.k8s.io/leases": "Lease",
    "policy/poddisruptionbudgets": "PodDisruptionBudget",
}
CLUSTER_SCOPED = {"nodes", "namespaces", "persistentvolumes"}
_MERGE_KEYS = {"ownerReferences": "uid", "conditions": "type"}


class FakeApi:
    """The transport. `calls` counts (method, plural, subresource); `refuse` answers with errors."""

    host = "fake"

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now
        self.store: dict[GVR, dict[str, Object]] = {}
        self.calls: dict[tuple[str, str, str], int] = {}
        self.refuse: dict[tuple[str, str], StatusError] = {}  # (method, plural) -> answer with this
        self.unreachable = False
        self.version = 0
        self._serial = 0
        self._watchers: dict[GVR, list[asyncio.Queue[bytes]]] = {}

    # -- what tests do

    def put(self, gvr: GVR, obj: Object) -> Object:
        """Store as if someone had created it, or replaced it whole."""
        key = _key(obj)
        old = self.store.get(gvr, {}).get(key)
        obj = {"apiVersion": gvr.api_version, "kind": _kind(gvr), **obj}
        obj["metadata"] = {
            "uid": f"uid-{self._next()}",
            "creationTimestamp": rfc3339(self.now),
            "generation": 1,
            **obj["metadata"],
        }
        self._write(gvr, key, obj, "MODIFIED" if old else "ADDED")
        return self.store[gvr][key]

    def change(self, gvr: GVR, key: str, **fields: object) -> Object:
        """Replace top-level fields of a stored object."""
        return self.put(gvr, {**self.store[gvr][key], **fields})

    def objects(self, gvr: GVR) -> list[Object]:
        return list(self.store.get(gvr, {}).values())

    def remove(self, gvr: GVR, key: str) -> None:
        """Gone at once, whatever its finalizers."""
        obj = self.store[gvr].pop(key)
        self.version += 1
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
        self._tell(gvr, "DELETED", obj)

    # -- the transport

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        if self.unreachable:
            raise Unreachable("away", refused=True)
        if path == "/apis/kubestage.io/v1/batch":
            assert body is not None
            results = []
            for item in orjson.loads(body):
                status, answer = self._answer(
                    item["m"], item["p"], item.get("b"), item.get("c", "")
                )
                if status < 400 and item["a"] == 0:
                    results.append({"s": status})
                elif status < 400 and item["a"] == 1:
                    keys = ("name", "namespace", "uid", "resourceVersion")
                    meta = answer.get("metadata", {})
                    results.append(
                        {"s": status, "b": {"metadata": {k: meta[k] for k in keys if k in meta}}}
                    )
                else:
                    results.append({"s": status, "b": answer})
            await asyncio.sleep(0)
            return Answer(200, {}, orjson.dumps(results))
        content = headers.get("Content-Type", "")
        status, answer = self._answer(method, path, orjson.loads(body) if body else None, content)
        return Answer(status, {}, orjson.dumps(answer))

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        gvr, _, _, _ = _parse(urlsplit(path).path)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._watchers.setdefault(gvr, []).append(queue)
        since = int(parse_qs(urlsplit(path).query).get("resourceVersion", ["0"])[0])
        for obj in self.objects(gvr):
            if int(obj["metadata"]["resourceVersion"]) > since:
                queue.put_nowait(orjson.dumps({"type": "ADDED", "object": obj}) + b"\n")

        async def chunks() -> AsyncIterator[bytes]:
            while True:
                parts = [await queue.get()]
                while not queue.empty():
                    parts.append(queue.get_nowait())
                yield b"".join(parts)

        try:
            yield chunks()
        finally:
            self._watchers[gvr].remove(queue)

    async def close(self) -> None:
        return None

    # -- verbs

    def _answer(
        self, method: str, path: str, body: Object | None, content: str
    ) -> tuple[int, Object]:
        split = urlsplit(path)
        if split.path in _DISCOVERY:
            return 200, _discovery(split.path)
        if split.path.startswith("/apis/kubestage.io/v1/flow"):
            return 200, {}
        gvr, namespace, name, sub = _parse(split.path)
        call = (method, gvr.plural, sub)
        self.calls[call] = self.calls.get(call, 0) + 1
        try:
            if (method, gvr.plural) in self.refuse:
                raise self.refuse[method, gvr.plural]
            return 200, self._verb(method, gvr, namespace, name, sub, body, content)
        except StatusError as error:
            return error.code, error.to_status()

    def _verb(
        self,
        method: str,
        gvr: GVR,
        namespace: str,
        name: str,
        sub: str,
        body: Object | None,
        content: str,
    ) -> Object:
        if method == "GET" and not name:
            items = [
                o
                for o in self.objects(gvr)
                if not namespace or o["metadata"].get("namespace") == namespace
            ]
            return {
                "apiVersion": gvr.api_version,
                "kind": _kind(gvr) + "List",
                "items": items,
                "metadata": {"resourceVersion": str(self.version)},
            }
        if method == "DELETE" and not name:
            for obj in [
                o for o in self.objects(gvr) if o["metadata"].get("namespace") == namespace
            ]:
                self._delete(gvr, _key(obj), body or {})
            return {"kind": "Status", "status": "Success"}
        if method == "POST":
            assert body is not None
            return self._create(gvr, namespace, body)
        key = f"{namespace}/{name}" if namespace else name
        held = self.store.get(gvr, {}).get(key)
        if held is None:
            raise NotFound(f'{gvr.plural} "{name}" not found')
        if method == "GET":
            return held
        if method == "DELETE":
            return self._delete(gvr, key, body or {})
        assert body is not None
        if method == "PATCH":
            body = _merge(orjson.loads(orjson.dumps(held)), body, strategic="strategic" in content)
        return self._update(gvr, key, held, body, sub)

    def _create(self, gvr: GVR, namespace: str, body: Object) -> Object:
        obj = orjson.loads(orjson.dumps(body))
        meta = obj["metadata"]
        if not meta.get("name"):
            meta["name"] = meta["generateName"] + f"{self._next():05d}"
        if namespace:
            meta["namespace"] = namespace
        if _key(obj) in self.store.get(gvr, {}):
            raise AlreadyExists(f'{gvr.plural} "{meta["name"]}" already exists')
        if gvr.plural == "pods":
            obj.setdefault("status", {"phase": "Pending"})
        return self.put(gvr, obj)

    def _update(self, gvr: GVR, key: str, held: Object, body: Object, sub: str) -> Object:
        wanted = body["metadata"].get("resourceVersion")
        if wanted and wanted != held["metadata"]["resourceVersion"]:
            raise Conflict(f'Operation cannot be fulfilled on {gvr.plural} "{key}"')
        if body["metadata"].get("uid", held["metadata"]["uid"]) != held["metadata"]["uid"]:
            raise Conflict("Precondition failed: UID in precondition")
        obj = {**held, "status": body.get("status")} if sub == "status" else {**body}
        obj["metadata"] = dict(body["metadata"])
        if sub != "status":
            if held.get("status") is not None:
                obj["status"] = held["status"]
            if obj.get("spec") != held.get("spec"):
                obj["metadata"]["generation"] = held["metadata"].get("generation", 0) + 1
        if obj == held:
            return held
        if "deletionTimestamp" in held["metadata"] and not obj["metadata"].get("finalizers"):
            spec_finalizers = (obj.get("spec") or {}).get("finalizers")
            if gvr.plural != "pods" and not spec_finalizers:
                self.remove(gvr, key)
                return obj
        self._write(gvr, key, obj, "MODIFIED")
        return self.store[gvr][key]

    def _delete(self, gvr: GVR, key: str, options: Object) -> Object:
        held = self.store[gvr][key]
        meta = held["metadata"]
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted and wanted != meta["uid"]:
            raise Conflict("Precondition failed: UID in precondition")
        finalizers = list(meta.get("finalizers") or ())
        policy = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(
            options.get("propagationPolicy", "")
        )
        if policy and policy not in finalizers:
            finalizers.append(policy)
        graceful = (
            gvr.plural == "pods"
            and (held.get("spec") or {}).get("nodeName")
            and options.get("gracePeriodSeconds") != 0
        )
        waits = (
            graceful
            or finalizers
            or (gvr.plural == "namespaces" and held["spec"].get("finalizers"))
        )
        if not waits:
            self.remove(gvr, key)
            return held
        if "deletionTimestamp" in meta and finalizers == list(meta.get("finalizers") or ()):
            return held
        changed = {**meta, "deletionTimestamp": rfc3339(self.now)}
        if finalizers:
            changed["finalizers"] = finalizers
        self._write(gvr, key, {**held, "metadata": changed}, "MODIFIED")
        return self.store[gvr][key]

    # -- storing and telling

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def _write(self, gvr: GVR, key: str, obj: Object, event: str) -> None:
        self.version += 1
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
        self.store.setdefault(gvr, {})[key] = obj
        self._tell(gvr, event, obj)

    def _tell(self, gvr: GVR, event: str, obj: Object) -> None:
        queues = self._watchers.get(gvr)
        if queues:
            line = orjson.dumps({"type": event, "object": obj}) + b"\n"
            for queue in queues:
                queue.put_nowait(line)


def _kind(gvr: GVR) -> str:
    return KINDS[f"{gvr.group}/{gvr.plural}" if gvr.group else gvr.plural]


def _key(obj: Object) -> str:
    meta = obj["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])


def _parse(path: str) -> tuple[GVR, str, str, str]:
    parts = path.strip("/").split("/")
    if parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    else:
        group, version, rest = parts[1], parts[2], parts[3:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("finalize", "status"):
        namespace, rest = rest[1], rest[2:]
    name = rest[1] if len(rest) > 1 else ""
    return GVR(group, version, rest[0]), namespace, name, rest[2] if len(rest) > 2 else ""


def _merge(target: Object, patch: Object, *, strategic: bool) -> Object:
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict):
            target[name] = _merge(dict(target.get(name) or {}), value, strategic=strategic)
        elif strategic and name in _MERGE_KEYS:
            target[name] = _merge_list(list(target.get(name) or ()), value, _MERGE_KEYS[name])
        else:
            target[name] = value
    return target


def _merge_list(items: list[Object], patch: list[Object], key: str) -> list[Object]:
    for entry in patch:
        held = next((i for i in items if i[key] == entry[key]), None)
        if entry.get("$patch") == "delete":
            items = [i for i in items if i is not held]
        elif held is not None:
            items = [{**i, **entry} if i is held else i for i in items]
        else:
            items = [*items, entry]
    return items


_GROUPS = sorted({k.partition("/")[0] for k in KINDS if "/" in k})
_DISCOVERY = {"/apis", "/api/v1", *(f"/apis/{g}/v1" for g in _GROUPS)}


def _discovery(path: str) -> Object:
    if path == "/apis":
        groups = [
            {"name": g, "versions": [{"version": "v1"}], "preferredVersion": {"version": "v1"}}
            for g in _GROUPS
        ]
        return {"groups": groups}
    group = path.split("/")[2] if path.startswith("/apis") else ""
    verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    resources = []
    for name, kind in KINDS.items():
        own, _, plural = name.rpartition("/")
        if own == group:
            resources.append(
                {
                    "name": plural,
                    "kind": kind,
                    "namespaced": plural not in CLUSTER_SCOPED,
                    "verbs": verbs,
                }
            )
    return {"resources": resources}
