"""Volumes of a pod and their sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cluster.api import names
from cluster.api.errors import duplicate, forbidden, invalid, required
from cluster.api.meta import Object
from cluster.api.validation import fields
from cluster.api.validation.downward import file_selector
from cluster.api.validation.fields import Errors

Check = Callable[[Object, str, Errors], None]
_HOST_PATH_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate",
    "Socket",
)  # fmt: skip


def volumes(found: list[Object], pod_name: str, path: str, errors: Errors) -> dict[str, Object]:
    """Check the volumes of a pod (`pod_name` empty: of a template); the valid ones by name."""
    known: dict[str, Object] = {}
    created = (
        {f"{pod_name}-{v.get('name')}" for v in found if v.get("ephemeral")} if pod_name else set()
    )
    for i, volume in enumerate(found):
        at = f"{path}[{i}]"
        before = len(errors)
        _source(volume, pod_name, at, errors)
        volume_name = volume.get("name") or ""
        if not volume_name:
            errors.append(required(f"{at}.name"))
        else:
            fields.name(volume_name, names.dns_label, f"{at}.name", errors)
        if volume_name in known:
            errors.append(duplicate(f"{at}.name", volume_name))
        if len(errors) == before:
            known[volume_name] = volume
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim in created and claim:
            detail = "must not reference a PVC that gets created for an ephemeral volume"
            errors.append(invalid(f"{at}.persistentVolumeClaim.claimName", claim, detail))
    return known


def _source(volume: Object, pod_name: str, path: str, errors: Errors) -> None:
    sources = [key for key in volume if key != "name" and volume[key] is not None]
    if not sources:
        errors.append(required(path, "must specify a volume type"))
        return
    for extra in sources[1:]:
        errors.append(forbidden(f"{path}.{extra}", "may not specify more than 1 volume type"))
    kind = sources[0]
    check = _SOURCES.get(kind)
    if check is not None:
        check(volume[kind], f"{path}.{kind}", errors)
    if kind == "ephemeral" and pod_name and volume.get("name"):
        claim = f"{pod_name}-{volume['name']}"
        for message in names.dns_subdomain(claim):
            detail = f'PVC name "{claim}": {message}'
            errors.append(invalid(f"{path}.name", volume["name"], detail))


def _empty_dir(source: Object, path: str, errors: Errors) -> None:
    limit = source.get("sizeLimit")
    if limit is not None:
        number = fields.checked_amount(limit, f"{path}.sizeLimit", errors)
        if number is not None and number < 0:
            detail = "SizeLimit field must be a valid resource quantity"
            errors.append(forbidden(f"{path}.sizeLimit", detail))


def host_path(source: Object, path: str, errors: Errors) -> None:
    if not source.get("path"):
        errors.append(required(f"{path}.path"))
        return
    fields.no_backsteps(source["path"], f"{path}.path", errors)
    kind = source.get("type")
    if kind is not None and kind not in _HOST_PATH_TYPES:
        errors.append(fields.unsupported(f"{path}.type", kind, _HOST_PATH_TYPES))


def _required(*keys: str) -> Check:
    def check(source: Object, path: str, errors: Errors) -> None:
        for key in keys:
            if not source.get(key):
                errors.append(required(f"{path}.{key}"))

    return check


def _keyed(name_field: str) -> Check:
    """A ConfigMap or Secret as a volume: whole or by items."""

    def check(source: Object, path: str, errors: Errors) -> None:
        if not source.get(name_field):
            errors.append(required(f"{path}.{name_field}"))
        fields.file_mode(source.get("defaultMode"), f"{path}.defaultMode", errors)
        for i, item in enumerate(source.get("items") or ()):
            _key_to_path(item, f"{path}.items[{i}]", errors)

    return check


def _key_to_path(item: Object, path: str, errors: Errors) -> None:
    for key in ("key", "path"):
        if not item.get(key):
            errors.append(required(f"{path}.{key}"))
    fields.local_path(item.get("path") or "", f"{path}.path", errors)
    fields.file_mode(item.get("mode"), f"{path}.mode", errors)


def nfs(source: Object, path: str, errors: Errors) -> None:
    _required("server", "path")(source, path, errors)
    if not (source.get("path") or "").startswith("/"):
        errors.append(invalid(f"{path}.path", source.get("path") or "", "must be an absolute path"))


def _downward_api(source: Object, path: str, errors: Errors) -> None:
    fields.file_mode(source.get("defaultMode"), f"{path}.defaultMode", errors)
    for item in source.get("items") or ():
        file_selector(item, path, errors)


def _projected(source: Object, path: str, errors: Errors) -> None:
    fields.file_mode(source.get("defaultMode"), f"{path}.defaultMode", errors)
    seen: set[str] = set()
    for i, each in enumerate(source.get("sources") or ()):
        at = f"{path}.sources[{i}]"
        given = [kind for kind in each if each[kind] is not None]
        for kind in ("secret", "configMap"):
            if each.get(kind) is not None:
                _projected_keys(each[kind], f"{at}.{kind}", path, seen, errors)
        for item in (each.get("downwardAPI") or {}).get("items") or ():
            file_selector(item, f"{at}.downwardAPI", errors)
            _unique(item.get("path"), item.get("path"), path, seen, errors)
        if each.get("serviceAccountToken") is not None:
            _token(each["serviceAccountToken"], f"{at}.serviceAccountToken", path, errors)
        if len(given) > 1:
            errors.append(forbidden(at, "may not specify more than 1 volume type per source"))


def _projected_keys(source: Object, at: str, path: str, seen: set[str], errors: Errors) -> None:
    if not source.get("name"):
        errors.append(required(f"{at}.name"))
    for i, item in enumerate(source.get("items") or ()):
        _key_to_path(item, f"{at}.items[{i}]", errors)
        _unique(item.get("path"), source.get("name"), path, seen, errors)


def _unique(file: str | None, value: str | None, path: str, seen: set[str], errors: Errors) -> None:
    if file:
        if file in seen:
            errors.append(invalid(path, value, "conflicting duplicate paths"))
        seen.add(file)


def _token(token: Object, at: str, path: str, errors: Errors) -> None:
    seconds = token.get("expirationSeconds") or 0
    if seconds < 600:
        detail = "may not specify a duration less than 10 minutes"
        errors.append(invalid(f"{at}.expirationSeconds", seconds, detail))
    if seconds > 1 << 32:
        detail = "may not specify a duration larger than 2^32 seconds"
        errors.append(invalid(f"{at}.expirationSeconds", seconds, detail))
    if not token.get("path"):
        errors.append(required(f"{path}.path"))
    else:
        fields.local_path(token["path"], f"{path}.path", errors)


def _ephemeral(source: Object, path: str, errors: Errors) -> None:
    template = source.get("volumeClaimTemplate")
    if template is None:
        errors.append(required(f"{path}.volumeClaimTemplate"))
        return
    from cluster.api.validation.storage import claim_spec

    claim_spec(template.get("spec") or {}, f"{path}.volumeClaimTemplate.spec", errors)


def _csi(source: Object, path: str, errors: Errors) -> None:
    if not source.get("driver"):
        errors.append(required(f"{path}.driver"))
    secret = source.get("nodePublishSecretRef")
    if secret is not None and not secret.get("name"):
        errors.append(required(f"{path}.nodePublishSecretRef.name"))


def _image(source: Object, path: str, errors: Errors) -> None:
    if not source.get("reference"):
        errors.append(required(f"{path}.reference"))
    policies = ("Always", "IfNotPresent", "Never")
    fields.one_of(source.get("pullPolicy"), policies, f"{path}.pullPolicy", errors)


_SOURCES: Mapping[str, Check] = {
    "emptyDir": _empty_dir,
    "hostPath": host_path,
    "secret": _keyed("secretName"),
    "configMap": _keyed("name"),
    "persistentVolumeClaim": _required("claimName"),
    "downwardAPI": _downward_api,
    "projected": _projected,
    "nfs": nfs,
    "ephemeral": _ephemeral,
    "csi": _csi,
    "image": _image,
    "gitRepo": _required("repository"),
    "iscsi": _required("targetPortal", "iqn"),
    "glusterfs": _required("endpoints", "path"),
    "rbd": _required("monitors", "image"),
    "cephfs": _required("monitors"),
    "cinder": _required("volumeID"),
    "gcePersistentDisk": _required("pdName"),
    "awsElasticBlockStore": _required("volumeID"),
    "azureFile": _required("secretName", "shareName"),
    "azureDisk": _required("diskName", "diskURI"),
    "vsphereVolume": _required("volumePath"),
    "photonPersistentDisk": _required("pdID"),
    "portworxVolume": _required("volumeID"),
    "flexVolume": _required("driver"),
}
