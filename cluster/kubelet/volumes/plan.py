"""What a pod's volumes need and contain: decided from the spec. Pure."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from cluster.api.meta import Object
from cluster.kubelet.environment import container_resource, pod_field

Payload = dict[str, tuple[bytes, int]]
"""File name (may have slashes) -> content and mode."""


@dataclass(frozen=True, slots=True)
class SourceRef:
    """A ConfigMap or Secret that a volume is made of."""

    kind: str  # ConfigMap or Secret
    name: str
    optional: bool
    volume: str


class MissingKey(Exception):
    """A volume refers to a key that its source has not."""


SUPPORTED = frozenset(
    {"emptyDir", "configMap", "secret", "projected", "downwardAPI", "hostPath",
     "persistentVolumeClaim", "ephemeral", "image", "csi", "nfs", "local"}
)  # fmt: skip


def volume_type(volume: Object) -> str:
    """The one key beside `name`."""
    return next((k for k in volume if k != "name"), "emptyDir")


def plugin_name(volume: Object) -> str:
    """`kubernetes.io~configmap`: the directory under the pod's volumes."""
    names = {
        "emptyDir": "empty-dir", "configMap": "configmap", "secret": "secret",
        "projected": "projected", "downwardAPI": "downward-api", "hostPath": "host-path",
    }  # fmt: skip
    return "kubernetes.io~" + names.get(volume_type(volume), "empty-dir")


def required_sources(pod: Object) -> list[SourceRef]:
    """Every ConfigMap and Secret its volumes name."""
    refs: list[SourceRef] = []
    for volume in pod["spec"].get("volumes") or ():
        name = volume["name"]
        if (source := volume.get("projected")) is not None:
            for part in source.get("sources") or ():
                for kind, key in (("ConfigMap", "configMap"), ("Secret", "secret")):
                    if (item := part.get(key)) is not None:
                        refs.append(SourceRef(kind, item["name"], bool(item.get("optional")), name))
        elif (source := volume.get("configMap")) is not None:
            refs.append(SourceRef("ConfigMap", source["name"], bool(source.get("optional")), name))
        elif (source := volume.get("secret")) is not None:
            refs.append(
                SourceRef("Secret", source["secretName"], bool(source.get("optional")), name)
            )
    return refs


@dataclass(frozen=True, slots=True)
class Tokens:
    """A projected service-account token to ask for."""

    audience: str
    expiration_seconds: int
    path: str
    mode: int


def token_requests(volume: Object) -> Iterator[Tokens]:
    """The tokens of a projected volume."""
    projected = volume.get("projected") or {}
    mode = projected.get("defaultMode", 0o644)
    for part in projected.get("sources") or ():
        if (token := part.get("serviceAccountToken")) is not None:
            yield Tokens(
                token.get("audience", ""), token.get("expirationSeconds", 3600), token["path"], mode
            )


Lookup = Callable[[str, str], Object | None]
"""Kind and name -> the object, None if it does not exist."""


def payload(pod: Object, volume: Object, lookup: Lookup, tokens: Mapping[str, str]) -> Payload:
    """The files of a configMap, secret, downwardAPI or projected volume. Raises MissingKey."""
    files: Payload = {}
    if (source := volume.get("configMap")) is not None:
        mode = source.get("defaultMode", 0o644)
        files.update(_object_files("ConfigMap", source["name"], source, mode, lookup))
    elif (source := volume.get("secret")) is not None:
        mode = source.get("defaultMode", 0o644)
        files.update(_object_files("Secret", source["secretName"], source, mode, lookup))
    elif (source := volume.get("downwardAPI")) is not None:
        files.update(_downward(pod, source.get("items") or (), source.get("defaultMode", 0o644)))
    elif (source := volume.get("projected")) is not None:
        mode = source.get("defaultMode", 0o644)
        for part in source.get("sources") or ():
            if (item := part.get("configMap")) is not None:
                files.update(_object_files("ConfigMap", item["name"], item, mode, lookup))
            elif (item := part.get("secret")) is not None:
                files.update(_object_files("Secret", item["name"], item, mode, lookup))
            elif (item := part.get("downwardAPI")) is not None:
                files.update(_downward(pod, item.get("items") or (), mode))
            elif (item := part.get("serviceAccountToken", {})) and item["path"] in tokens:
                files[item["path"]] = (tokens[item["path"]].encode(), mode)
    return files


def check_keys(pod: Object, lookup: Lookup) -> None:
    """Raise MissingKey as mounting would, without making the files."""
    for volume in pod["spec"].get("volumes") or ():
        if _has_items(volume):
            payload(pod, volume, lookup, {})


def _has_items(volume: Object) -> bool:
    kind = volume_type(volume)
    source = volume.get(kind) or {}
    if kind == "projected":
        parts = source.get("sources") or ()
        return any((p.get("configMap") or p.get("secret") or {}).get("items") for p in parts)
    return kind in ("configMap", "secret") and bool(source.get("items"))


def _object_files(kind: str, name: str, source: Object, mode: int, lookup: Lookup) -> Payload:
    found = lookup(kind, name)
    data = contents(kind, found) if found is not None else {}
    items = source.get("items")
    if not items:
        return {key: (value, mode) for key, value in data.items()}
    files: Payload = {}
    for item in items:
        key = item["key"]
        if key not in data:
            if source.get("optional"):
                continue
            word = "config" if kind == "ConfigMap" else "secret"
            raise MissingKey(f"references non-existent {word} key: {key}")
        files[item["path"]] = (data[key], item.get("mode", mode))
    return files


def contents(kind: str, obj: Object) -> dict[str, bytes]:
    """A ConfigMap's or Secret's data as bytes."""
    data = {
        key: text.encode() if kind == "ConfigMap" else base64.b64decode(text)
        for key, text in (obj.get("data") or {}).items()
    }
    for key, text in (obj.get("binaryData") or {}).items():
        data[key] = base64.b64decode(text)
    return data


def _downward(pod: Object, items: object, mode: int) -> Payload:
    assert isinstance(items, list | tuple)
    files: Payload = {}
    for item in items:
        if (field := item.get("fieldRef")) is not None:
            text = pod_field(pod, field["fieldPath"], {})
        else:
            ref = item["resourceFieldRef"]
            text = container_resource(pod, ref.get("containerName", ""), ref, {})
        files[item["path"]] = (text.encode(), item.get("mode", mode))
    return files
