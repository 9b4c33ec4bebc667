"""Volumes of a pod: the source that is meant when none is given, file modes, and the old in-tree
kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.api.meta import Object

_MODE = 0o644


def default_volume(volume: Object) -> None:
    for source, value in volume.items():
        if source == "name":
            continue
        fill = _SOURCES.get(source)
        if fill is not None and value is not None:
            fill(value)
        return
    volume["emptyDir"] = {}


def _mode(source: Object) -> None:
    if source.get("defaultMode") is None:
        source["defaultMode"] = _MODE


def _downward(source: Object) -> None:
    _mode(source)
    _field_refs(source)


def _field_refs(source: Object) -> None:
    for item in source.get("items") or ():
        ref = item.get("fieldRef")
        if ref is not None and not ref.get("apiVersion"):
            ref["apiVersion"] = "v1"
        resource = item.get("resourceFieldRef")
        if resource is not None and not resource.get("divisor"):
            resource["divisor"] = "0"


def _projected(source: Object) -> None:
    _mode(source)
    for each in source.get("sources") or ():
        token = each.get("serviceAccountToken")
        if token is not None and token.get("expirationSeconds") is None:
            token["expirationSeconds"] = 3600
        downward = each.get("downwardAPI")
        if downward:
            _field_refs(downward)


def _empty_dir(source: Object) -> None:
    if source.get("sizeLimit") is not None:
        from cluster.api.defaults.quantities import canonical

        source["sizeLimit"] = canonical(str(source["sizeLimit"]))


def _host_path(source: Object) -> None:
    if source.get("type") is None:
        source["type"] = ""


def _ephemeral(source: Object) -> None:
    template = source.get("volumeClaimTemplate")
    if template is not None:
        claim = template.setdefault("spec", {})
        if not claim.get("volumeMode"):
            claim["volumeMode"] = "Filesystem"


def _image(source: Object) -> None:
    from cluster.api.defaults.pods import pull_policy

    if not source.get("pullPolicy"):
        source["pullPolicy"] = pull_policy(source.get("reference") or "")


def _fixed(**values: Any) -> Callable[[Object], None]:
    def fill(source: Object) -> None:
        for key, value in values.items():
            if source.get(key) in (None, ""):
                source[key] = value

    return fill


iscsi = _fixed(iscsiInterface="default")
rbd = _fixed(pool="rbd", user="admin", keyring="/etc/ceph/keyring")
azure_disk = _fixed(cachingMode="ReadWrite", kind="Shared", fsType="ext4", readOnly=False)
scale_io = _fixed(storageMode="ThinProvisioned", fsType="xfs")
host_path = _host_path

_SOURCES: dict[str, Callable[[Object], None]] = {
    "emptyDir": _empty_dir,
    "secret": _mode,
    "configMap": _mode,
    "downwardAPI": _downward,
    "projected": _projected,
    "hostPath": _host_path,
    "ephemeral": _ephemeral,
    "image": _image,
    "iscsi": iscsi,
    "rbd": rbd,
    "azureDisk": azure_disk,
    "scaleIO": scale_io,
}
