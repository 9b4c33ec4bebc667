"""Words that every room shares: names of resources, object keys, times.

Plays the small parts of k8s.io/apimachinery/pkg/apis/meta/v1. Objects themselves stay plain JSON
dicts: they are decoded and encoded thousands of times a second, and a dict costs a tenth of a class
here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple, NewType, Protocol

Object = dict[str, Any]
"""A Kubernetes object as JSON: apiVersion, kind, metadata, and the rest."""

Uid = NewType("Uid", str)
ResourceVersion = NewType("ResourceVersion", str)
NewUid = Callable[[], str]


class GVR(NamedTuple):
    """Group, version and plural name: the address of a resource type. The core group is ''."""

    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def prefix(self) -> str:
        """The URL prefix: /api/v1 or /apis/GROUP/VERSION."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


PODS = GVR("", "v1", "pods")
NODES = GVR("", "v1", "nodes")
NAMESPACES = GVR("", "v1", "namespaces")
SERVICES = GVR("", "v1", "services")
ENDPOINTS = GVR("", "v1", "endpoints")
EVENTS = GVR("", "v1", "events")
CONFIGMAPS = GVR("", "v1", "configmaps")
SECRETS = GVR("", "v1", "secrets")
SERVICEACCOUNTS = GVR("", "v1", "serviceaccounts")
LIMITRANGES = GVR("", "v1", "limitranges")
RESOURCEQUOTAS = GVR("", "v1", "resourcequotas")
PERSISTENTVOLUMES = GVR("", "v1", "persistentvolumes")
PERSISTENTVOLUMECLAIMS = GVR("", "v1", "persistentvolumeclaims")
REPLICATIONCONTROLLERS = GVR("", "v1", "replicationcontrollers")
DEPLOYMENTS = GVR("apps", "v1", "deployments")
REPLICASETS = GVR("apps", "v1", "replicasets")
STATEFULSETS = GVR("apps", "v1", "statefulsets")
DAEMONSETS = GVR("apps", "v1", "daemonsets")
CONTROLLERREVISIONS = GVR("apps", "v1", "controllerrevisions")
JOBS = GVR("batch", "v1", "jobs")
CRONJOBS = GVR("batch", "v1", "cronjobs")
ENDPOINTSLICES = GVR("discovery.k8s.io", "v1", "endpointslices")
LEASES = GVR("coordination.k8s.io", "v1", "leases")
PRIORITYCLASSES = GVR("scheduling.k8s.io", "v1", "priorityclasses")
PODDISRUPTIONBUDGETS = GVR("policy", "v1", "poddisruptionbudgets")
ROLES = GVR("rbac.authorization.k8s.io", "v1", "roles")
ROLEBINDINGS = GVR("rbac.authorization.k8s.io", "v1", "rolebindings")
CLUSTERROLES = GVR("rbac.authorization.k8s.io", "v1", "clusterroles")
CLUSTERROLEBINDINGS = GVR("rbac.authorization.k8s.io", "v1", "clusterrolebindings")
RUNTIMECLASSES = GVR("node.k8s.io", "v1", "runtimeclasses")
CSINODES = GVR("storage.k8s.io", "v1", "csinodes")


def object_key(obj: Object) -> str:
    """`namespace/name`, or `name` for a cluster-scoped object (cache.MetaNamespaceKeyFunc)."""
    meta = obj["metadata"]
    namespace = meta.get("namespace")
    return f"{namespace}/{meta['name']}" if namespace else str(meta["name"])


def split_key(key: str) -> tuple[str, str]:
    """`namespace/name` into its two parts; the namespace of a cluster-scoped key is ''."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def controller_of(obj: Object) -> Object | None:
    """The owner reference with controller=true, if any (metav1.GetControllerOf)."""
    for ref in obj["metadata"].get("ownerReferences") or ():
        if ref.get("controller"):
            return dict(ref)
    return None


class Clock(Protocol):
    """Time as an argument. Seconds; `now` since the Unix epoch, `monotonic` since any fixed
    instant."""

    def now(self) -> float: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's clock; made by a composition root only."""

    def now(self) -> float:
        import time

        return time.time()

    def monotonic(self) -> float:
        import time

        return time.monotonic()


def uid_maker(rng: random.Random) -> NewUid:
    """Version 4 UUIDs out of `rng`, at a quarter of uuid.uuid4's cost. Unique, not secret."""
    getrandbits = rng.getrandbits

    def new_uid() -> str:
        bits = (getrandbits(128) & ~(0xF << 76 | 0x3 << 62)) | 4 << 76 | 2 << 62
        text = f"{bits:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    return new_uid


def rfc3339(seconds: float) -> str:
    """metav1.Time: whole seconds, UTC, `2026-01-02T03:04:05Z`."""
    return _whole_second(int(seconds))


@lru_cache(maxsize=4096)
def _whole_second(seconds: int) -> str:
    # Remembered: strftime was a twentieth of every write.
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(seconds: float) -> str:
    """metav1.MicroTime: `2026-01-02T03:04:05.000006Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> float:
    """Seconds since the epoch of a Time or MicroTime. Raises ValueError."""
    return datetime.fromisoformat(text).timestamp()
