"""Discovery documents: which groups, versions and resources there are.

Plays k8s.io/apiserver/pkg/endpoints/discovery: the legacy documents (/api, /apis, /apis/GROUP,
/apis/GROUP/VERSION) and the aggregated one (apidiscovery.k8s.io/v2, which kubectl asks for first).
Pure functions of a catalogue.
"""

from __future__ import annotations

import base64
import hashlib

from cluster.api.catalogue import SUBRESOURCE_VERBS, Catalogue, Resource
from cluster.api.meta import Object

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
AGGREGATED_BETA = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"

_FOREIGN_KINDS = {
    "scale": ("autoscaling", "v1", "Scale"),
    "eviction": ("policy", "v1", "Eviction"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
}
_OPTION_KINDS = {
    ("pods", "attach"): "PodAttachOptions", ("pods", "exec"): "PodExecOptions",
    ("pods", "portforward"): "PodPortForwardOptions", ("pods", "proxy"): "PodProxyOptions",
    ("nodes", "proxy"): "NodeProxyOptions", ("services", "proxy"): "ServiceProxyOptions",
    ("pods", "binding"): "Binding",
}  # fmt: skip


def api_versions(server_address: str) -> Object:
    """GET /api: `server_address` is HOST:PORT as the client reaches it."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [
            {"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}
        ],
    }


def group_list(catalogue: Catalogue) -> Object:
    """GET /apis."""
    groups = [_group(catalogue, group) for group in catalogue.groups() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(catalogue: Catalogue, name: str) -> Object:
    """GET /apis/GROUP. Raises IndexError for a group that serves nothing."""
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(catalogue, name)}


def resource_list(catalogue: Catalogue, group: str, version: str) -> Object:
    """GET /api/v1 or /apis/GROUP/VERSION."""
    resources: list[Object] = []
    for resource in _of(catalogue, group, version):
        resources.append(_legacy(resource, catalogue))
        resources += (_legacy_subresource(resource, name) for name in sorted(resource.subresources))
    document: Object = {"kind": "APIResourceList"}
    if group:
        document["apiVersion"] = "v1"
    document["groupVersion"] = f"{group}/{version}" if group else version
    document["resources"] = resources
    return document


def aggregated(catalogue: Catalogue, *, core: bool, version: str = "v2") -> Object:
    """GET /api (core) or /apis as APIGroupDiscoveryList."""
    names = [name for name in catalogue.groups() if (name == "") == core]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": [_aggregated_group(catalogue, name) for name in names],
    }


def storage_version_hash(resource: Resource) -> str:
    """How clients tell that the stored version changed (discovery.StorageVersionHash)."""
    text = f"{resource.group}/{resource.version}/{resource.kind}"
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


def _of(catalogue: Catalogue, group: str, version: str) -> list[Resource]:
    found = [r for r in catalogue.resources if r.group == group and r.version == version]
    return sorted(found, key=lambda r: r.plural)


def _group(catalogue: Catalogue, name: str) -> Object:
    versions = [
        {"groupVersion": f"{name}/{version}", "version": version}
        for version in catalogue.versions(name)
    ]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _legacy(resource: Resource, catalogue: Catalogue) -> Object:
    entry: Object = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if resource.storage_prefix:
        stored = catalogue.storage_version(resource.group, resource.plural)
        entry["storageVersionHash"] = storage_version_hash(stored)
    return entry


def _legacy_subresource(resource: Resource, name: str) -> Object:
    group, version, kind = subresource_kind(resource, name)
    entry: Object = {
        "name": f"{resource.plural}/{name}",
        "singularName": "",
        "namespaced": resource.namespaced,
    }
    if (group, version) != (resource.group, resource.version):
        entry["group"] = group
        entry["version"] = version
    entry["kind"] = kind
    entry["verbs"] = list(SUBRESOURCE_VERBS[name])
    return entry


def subresource_kind(resource: Resource, name: str) -> tuple[str, str, str]:
    """Group, version and kind of what a subresource speaks."""
    foreign = _FOREIGN_KINDS.get(name)
    if foreign is not None:
        return foreign
    kind = _OPTION_KINDS.get((resource.plural, name), resource.kind)
    return resource.group, resource.version, kind


def _aggregated_group(catalogue: Catalogue, name: str) -> Object:
    metadata: Object = {"creationTimestamp": None}
    if name:
        metadata = {"name": name, **metadata}
    return {
        "metadata": metadata,
        "versions": [
            {
                "version": version,
                "resources": [_aggregated(r) for r in _of(catalogue, name, version)],
                "freshness": "Current",
            }
            for version in catalogue.versions(name)
        ],
    }


def _aggregated(resource: Resource) -> Object:
    entry: Object = {
        "resource": resource.plural,
        "responseKind": _kind(resource.group, resource.version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if resource.subresources:
        entry["subresources"] = [
            {
                "subresource": name,
                "responseKind": _kind(*subresource_kind(resource, name)),
                "verbs": list(SUBRESOURCE_VERBS[name]),
            }
            for name in sorted(resource.subresources)
        ]
    return entry


def _kind(group: str, version: str, kind: str) -> Object:
    return {"group": group, "version": version, "kind": kind}
