"""The catalogue: every resource that the API serves, with the names and verbs that upstream gives
it.

Plays the REST storage maps of pkg/registry/*/rest and the scheme. Built-in resources are a table
below, cut to what the chosen version's schemas know; custom resources are added and removed while
the cluster lives. Only generally available versions are served, as upstream does by default (flow
control excepted, as upstream).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cluster.api.meta import GVR
from cluster.api.schema import Schemas

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_CREATE = ("create",)
_READ = ("get", "list")
_UPDATE = ("get", "patch", "update")
_PROXY = ("create", "delete", "get", "patch", "update")
_CONNECT = ("create", "get")

SUBRESOURCE_VERBS: dict[str, tuple[str, ...]] = {
    "status": _UPDATE, "scale": _UPDATE, "ephemeralcontainers": _UPDATE, "resize": _UPDATE,
    "approval": _UPDATE, "finalize": ("update",), "log": ("get",), "exec": _CONNECT,
    "attach": _CONNECT, "portforward": _CONNECT, "proxy": _PROXY, "binding": _CREATE,
    "eviction": _CREATE, "token": _CREATE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource type of one version. `verbs` of a virtual resource (a review) is only `create`,
    and its `storage_prefix` is ''. `schema_name` is its definition in `Schemas`."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    short_names: tuple[str, ...]
    categories: tuple[str, ...]
    verbs: tuple[str, ...]
    subresources: frozenset[str]
    schema_name: str
    storage_prefix: str
    list_kind: str
    custom: bool = field(default=False, compare=False)

    @property
    def gvr(self) -> GVR:
        return GVR(self.group, self.version, self.plural)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """How messages name it: `deployments.apps`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


class Catalogue:
    """What is served now. Look-ups are by group, version and plural name, or by apiVersion and
    kind."""

    def __init__(self, schemas: Schemas) -> None:
        self.schemas = schemas
        self._by_address: dict[tuple[str, str, str], Resource] = {}
        self._by_kind: dict[tuple[str, str], Resource] = {}
        self._stored: dict[tuple[str, str], str] = {}
        self.generation = 0
        for resource in _built_in(schemas):
            self.add(resource)

    @property
    def resources(self) -> list[Resource]:
        """All of them, built-in ones first, in upstream's order of groups."""
        return list(self._by_address.values())

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._by_address.get((group, version, plural))

    def of_kind(self, api_version: str, kind: str) -> Resource | None:
        return self._by_kind.get((api_version, kind))

    def of_group(self, group: str, plural: str) -> Resource | None:
        """The resource in its group's preferred version that has it."""
        for version in self.versions(group):
            found = self._by_address.get((group, version, plural))
            if found is not None:
                return found
        return None

    def groups(self) -> list[str]:
        """Groups that serve something, '' (core) first, in upstream's order of priority, others by
        name."""
        present = {resource.group for resource in self._by_address.values()}
        known = [group for group in GROUP_ORDER if group in present]
        return known + sorted(present.difference(known))

    def versions(self, group: str) -> list[str]:
        """Versions of a group, the preferred one first (GA, then beta, then alpha)."""
        found = {r.version for r in self._by_address.values() if r.group == group}
        return sorted(found, key=version_priority, reverse=True)

    def preferred_version(self, group: str) -> str:
        """Raises IndexError for a group that serves nothing."""
        return self.versions(group)[0]

    def storage_version(self, group: str, plural: str) -> Resource:
        """The one resource in whose version objects are stored: see convert.py for the others.
        KeyError."""
        if (group, plural) == ("events.k8s.io", "events"):
            group = ""
        version = self._stored[group, plural]
        return self._by_address[group, version, plural]

    def add(self, resource: Resource, *, stored: bool = True) -> None:
        """Serve a resource. Of several versions the first one with `stored` is the one that is
        stored."""
        self._by_address[resource.gvr] = resource
        self._by_kind[resource.api_version, resource.kind] = resource
        if stored and resource.storage_prefix and resource.gvr not in _NOT_STORED:
            self._stored.setdefault((resource.group, resource.plural), resource.version)
        self.generation += 1

    def remove(self, resource: Resource) -> None:
        """Serve it no longer."""
        self._by_address.pop(resource.gvr, None)
        self._by_kind.pop((resource.api_version, resource.kind), None)
        if self._stored.get((resource.group, resource.plural)) == resource.version:
            del self._stored[resource.group, resource.plural]
        self.generation += 1


def version_priority(version: str) -> tuple[int, int, int]:
    """version.CompareKubeAwareVersionStrings as a sort key: v2 > v1 > v2beta1 > v1alpha1."""
    body = version[1:]
    for rank, stage in ((2, "beta"), (1, "alpha")):
        major, found, minor = body.partition(stage)
        if found and major.isdigit():
            return rank, int(major), int(minor) if minor.isdigit() else 0
    return (3, int(body), 0) if body.isdigit() else (0, 0, 0)


def custom_resource(
    *,
    group: str,
    version: str,
    names: dict[str, object],
    namespaced: bool,
    subresources: Iterable[str],
    schema_name: str,
) -> Resource:
    """The resource of one version of a CustomResourceDefinition; `names` is its
    status.acceptedNames."""
    kind, plural = str(names["kind"]), str(names["plural"])
    short, categories = names.get("shortNames"), names.get("categories")
    return Resource(
        group=group,
        version=version,
        kind=kind,
        plural=plural,
        singular=str(names.get("singular") or kind.lower()),
        namespaced=namespaced,
        short_names=tuple(map(str, short)) if isinstance(short, list) else (),
        categories=tuple(map(str, categories)) if isinstance(categories, list) else (),
        verbs=ALL_VERBS,
        subresources=frozenset(subresources),
        schema_name=schema_name,
        storage_prefix=f"/registry/{group}/{plural}",
        list_kind=str(names.get("listKind") or f"{kind}List"),
        custom=True,
    )


GROUP_ORDER = (
    "", "apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io",
    "authorization.k8s.io", "autoscaling", "batch", "certificates.k8s.io", "networking.k8s.io",
    "policy", "rbac.authorization.k8s.io", "storage.k8s.io", "admissionregistration.k8s.io",
    "apiextensions.k8s.io", "scheduling.k8s.io", "coordination.k8s.io", "node.k8s.io",
    "discovery.k8s.io", "resource.k8s.io", "flowcontrol.apiserver.k8s.io",
    "storagemigration.k8s.io",
)  # fmt: skip
"""Groups in the order in which upstream's discovery lists them."""

_NOT_STORED = {
    GVR("autoscaling", "v1", "horizontalpodautoscalers"),
    GVR("events.k8s.io", "v1", "events"),
}


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the table: what differs from the rule (plural = kind in lower case + s, all verbs,
    no subresource)."""

    kind: str
    namespaced: bool = True
    short: str = ""
    categories: str = ""
    subresources: str = ""
    plural: str = ""
    verbs: tuple[str, ...] = ALL_VERBS
    storage: str | None = None


def _cluster(
    kind: str,
    *,
    short: str = "",
    categories: str = "",
    subresources: str = "",
    plural: str = "",
    verbs: tuple[str, ...] = ALL_VERBS,
    storage: str | None = None,
) -> _Row:
    return _Row(kind, False, short, categories, subresources, plural, verbs, storage)


def _review(kind: str, *, namespaced: bool = False) -> _Row:
    return _Row(kind, namespaced, verbs=_CREATE, storage="")


_NAMESPACE_VERBS = tuple(verb for verb in ALL_VERBS if verb != "deletecollection")
_POD_SUBRESOURCES = (
    "attach binding ephemeralcontainers eviction exec log portforward proxy resize status"
)
_EXTENSIONS = "api-extensions"

_TABLE: dict[tuple[str, tuple[str, ...]], tuple[_Row, ...]] = {
    ("", ("v1",)): (
        _Row("Binding", verbs=_CREATE, storage=""),
        _cluster(
            "ComponentStatus", plural="componentstatuses", short="cs", verbs=_READ, storage="",
        ),
        _Row("ConfigMap", short="cm"),
        _Row("Endpoints", short="ep", plural="endpoints", storage="/registry/services/endpoints"),
        _Row("Event", short="ev"),
        _Row("LimitRange", short="limits"),
        _cluster("Namespace", short="ns", subresources="finalize status", verbs=_NAMESPACE_VERBS),
        _cluster("Node", short="no", subresources="proxy status", storage="/registry/minions"),
        _Row("PersistentVolumeClaim", short="pvc", subresources="status"),
        _cluster("PersistentVolume", short="pv", subresources="status"),
        _Row("Pod", short="po", categories="all", subresources=_POD_SUBRESOURCES),
        _Row("PodTemplate"),
        _Row(
            "ReplicationController", short="rc", categories="all", subresources="scale status",
            storage="/registry/controllers",
        ),
        _Row("ResourceQuota", short="quota", subresources="status"),
        _Row("Secret"),
        _Row("ServiceAccount", short="sa", subresources="token"),
        _Row(
            "Service", short="svc", categories="all", subresources="proxy status",
            storage="/registry/services/specs",
        ),
    ),
    ("apiregistration.k8s.io", ("v1",)): (
        _cluster(
            "APIService", categories=_EXTENSIONS, subresources="status",
            storage="/registry/apiregistration.k8s.io/apiservices",
        ),
    ),
    ("apps", ("v1",)): (
        _Row("ControllerRevision"),
        _Row("DaemonSet", short="ds", categories="all", subresources="status"),
        _Row("Deployment", short="deploy", categories="all", subresources="scale status"),
        _Row("ReplicaSet", short="rs", categories="all", subresources="scale status"),
        _Row("StatefulSet", short="sts", categories="all", subresources="scale status"),
    ),
    ("events.k8s.io", ("v1",)): (_Row("Event", short="ev"),),
    ("authentication.k8s.io", ("v1",)): (_review("SelfSubjectReview"), _review("TokenReview")),
    ("authorization.k8s.io", ("v1",)): (
        _review("LocalSubjectAccessReview", namespaced=True),
        _review("SelfSubjectAccessReview"),
        _review("SelfSubjectRulesReview"),
        _review("SubjectAccessReview"),
    ),
    ("autoscaling", ("v2", "v1")): (
        _Row("HorizontalPodAutoscaler", short="hpa", categories="all", subresources="status"),
    ),
    ("batch", ("v1",)): (
        _Row("CronJob", short="cj", categories="all", subresources="status"),
        _Row("Job", categories="all", subresources="status"),
    ),
    ("certificates.k8s.io", ("v1",)): (
        _cluster("CertificateSigningRequest", short="csr", subresources="approval status"),
        _cluster("ClusterTrustBundle"),
        _Row("PodCertificateRequest", subresources="status"),
    ),
    ("networking.k8s.io", ("v1",)): (
        _cluster("IngressClass", plural="ingressclasses"),
        _Row(
            "Ingress", short="ing", plural="ingresses", subresources="status",
            storage="/registry/ingress",
        ),
        _cluster("IPAddress", short="ip", plural="ipaddresses"),
        _Row("NetworkPolicy", short="netpol", plural="networkpolicies"),
        _cluster("ServiceCIDR", subresources="status"),
    ),
    ("policy", ("v1",)): (_Row("PodDisruptionBudget", short="pdb", subresources="status"),),
    ("rbac.authorization.k8s.io", ("v1",)): (
        _cluster("ClusterRoleBinding"),
        _cluster("ClusterRole"),
        _Row("RoleBinding"),
        _Row("Role"),
    ),
    ("storage.k8s.io", ("v1",)): (
        _cluster("CSIDriver"),
        _cluster("CSINode"),
        _Row("CSIStorageCapacity", plural="csistoragecapacities"),
        _cluster("StorageClass", short="sc", plural="storageclasses"),
        _cluster("VolumeAttachment", subresources="status"),
        _cluster("VolumeAttributesClass", short="vac", plural="volumeattributesclasses"),
    ),
    ("admissionregistration.k8s.io", ("v1",)): (
        _cluster(
            "MutatingAdmissionPolicy", plural="mutatingadmissionpolicies", categories=_EXTENSIONS,
        ),
        _cluster("MutatingAdmissionPolicyBinding", categories=_EXTENSIONS),
        _cluster("MutatingWebhookConfiguration", categories=_EXTENSIONS),
        _cluster(
            "ValidatingAdmissionPolicy", plural="validatingadmissionpolicies",
            categories=_EXTENSIONS, subresources="status",
        ),
        _cluster("ValidatingAdmissionPolicyBinding", categories=_EXTENSIONS),
        _cluster("ValidatingWebhookConfiguration", categories=_EXTENSIONS),
    ),
    ("apiextensions.k8s.io", ("v1",)): (
        _cluster(
            "CustomResourceDefinition", short="crd crds", categories=_EXTENSIONS,
            subresources="status",
            storage="/registry/apiextensions.k8s.io/customresourcedefinitions",
        ),
    ),
    ("scheduling.k8s.io", ("v1",)): (
        _cluster("PriorityClass", short="pc", plural="priorityclasses"),
    ),
    ("coordination.k8s.io", ("v1",)): (_Row("Lease"),),
    ("node.k8s.io", ("v1",)): (_cluster("RuntimeClass", plural="runtimeclasses"),),
    ("discovery.k8s.io", ("v1",)): (_Row("EndpointSlice"),),
    ("resource.k8s.io", ("v1",)): (
        _cluster("DeviceClass", plural="deviceclasses"),
        _cluster("DeviceTaintRule", subresources="status"),
        _Row("ResourceClaim", subresources="status"),
        _Row("ResourceClaimTemplate"),
        _cluster("ResourceSlice"),
    ),
    ("flowcontrol.apiserver.k8s.io", ("v1", "v1beta3", "v1beta2")): (
        _cluster("FlowSchema", subresources="status"),
        _cluster("PriorityLevelConfiguration", subresources="status"),
    ),
    ("storagemigration.k8s.io", ("v1",)): (
        _cluster("StorageVersionMigration", subresources="status"),
    ),
}  # fmt: skip


def _built_in(schemas: Schemas) -> Iterable[Resource]:
    for (group, versions), rows in _TABLE.items():
        for version in versions:
            for row in rows:
                name = schemas.kinds.get((group, version, row.kind))
                if name is not None:
                    yield _resource(group, version, row, name, schemas.version)


def _resource(group: str, version: str, row: _Row, schema_name: str, kubernetes: str) -> Resource:
    plural = row.plural or row.kind.lower() + "s"
    subresources = frozenset(row.subresources.split())
    if int(kubernetes.partition(".")[2]) < 33:
        subresources -= {"resize"}  # in-place pod resize: on by default since 1.33
    return Resource(
        group=group,
        version=version,
        kind=row.kind,
        plural=plural,
        singular=row.kind.lower(),
        namespaced=row.namespaced,
        short_names=tuple(row.short.split()),
        categories=tuple(row.categories.split()),
        verbs=row.verbs,
        subresources=subresources,
        schema_name=schema_name,
        storage_prefix=f"/registry/{plural}" if row.storage is None else row.storage,
        list_kind=f"{row.kind}List",
    )
