"""ObjectMeta on create and update (k8s.io/apimachinery/pkg/api/validation/objectmeta.go)."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.api import names
from cluster.api.errors import forbidden, invalid, required, too_long
from cluster.api.meta import Object
from cluster.api.validation.fields import IMMUTABLE, Errors

ANNOTATIONS_LIMIT = 256 * 1024
_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")


def create(metadata: Object, namespaced: bool, check: names.NameCheck, errors: Errors) -> None:
    generate = metadata.get("generateName")
    if generate:
        for message in names.prefix_of(check, generate):
            errors.append(invalid("metadata.generateName", generate, message))
    name = metadata.get("name")
    if not name:
        errors.append(required("metadata.name", "name or generateName is required"))
    else:
        for message in check(name):
            errors.append(invalid("metadata.name", name, message))
    namespace = metadata.get("namespace")
    if namespaced:
        if not namespace:
            errors.append(required("metadata.namespace"))
        else:
            for message in names.dns_label(namespace):
                errors.append(invalid("metadata.namespace", namespace, message))
    elif namespace:
        errors.append(forbidden("metadata.namespace", "not allowed on this type"))
    _contents(metadata, errors)


def update(new: Object, old: Object, errors: Errors, *, needs_version: bool = False) -> None:
    if needs_version and not new.get("resourceVersion") and old.get("resourceVersion"):
        detail = "must be specified for an update"
        errors.append(invalid("metadata.resourceVersion", "", detail))
    if old.get("deletionTimestamp"):
        _no_new_finalizers(new.get("finalizers") or [], old.get("finalizers") or [], errors)
    for key in ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp"):
        if new.get(key) != old.get(key) and (new.get(key) or old.get(key)):
            errors.append(invalid(f"metadata.{key}", new.get(key) or "", IMMUTABLE))
    key = "deletionGracePeriodSeconds"
    if new.get(key) != old.get(key):
        errors.append(invalid(f"metadata.{key}", new.get(key), IMMUTABLE))
    if (new.get("generation") or 0) < (old.get("generation") or 0):
        detail = "must not be decremented"
        errors.append(invalid("metadata.generation", new.get("generation") or 0, detail))
    # What was stored was valid: only parts that differ are looked at.
    changed = {k: v for k, v in new.items() if k in _CHECKED and v != old.get(k)}
    if changed:
        _contents(changed, errors)


_CHECKED = ("labels", "annotations", "ownerReferences", "finalizers", "managedFields")


def _contents(metadata: Object, errors: Errors) -> None:
    found = metadata.get("labels")
    if found:
        labels(found, "metadata.labels", errors)
    found = metadata.get("annotations")
    if found:
        check_annotations(found, "metadata.annotations", errors)
    if metadata.get("ownerReferences"):
        _owners(metadata["ownerReferences"], errors)
    if metadata.get("finalizers"):
        _finalizers(metadata["finalizers"], errors)
    for i, entry in enumerate(metadata.get("managedFields") or ()):
        path = f"metadata.managedFields[{i}]"
        if entry.get("operation") not in ("Apply", "Update"):
            detail = "must be `Apply` or `Update`"
            errors.append(invalid(f"{path}.operation", entry.get("operation") or "", detail))
        if entry.get("fieldsType") not in (None, "", "FieldsV1"):
            errors.append(invalid(f"{path}.fieldsType", entry["fieldsType"], "must be `FieldsV1`"))


def labels(found: Mapping[str, str], path: str, errors: Errors) -> None:
    for key, value in found.items():
        for message in names.qualified_name(key):
            errors.append(invalid(path, key, message))
        for message in names.label_value(value):
            errors.append(invalid(path, value, message))


def check_annotations(found: Mapping[str, str], path: str, errors: Errors) -> None:
    size = 0
    for key, value in found.items():
        size += len(key) + len(value)
        for message in names.qualified_name(key.lower()):
            errors.append(invalid(path, key, message))
    if size * 4 > ANNOTATIONS_LIMIT:
        size = sum(len(k.encode()) + len(v.encode()) for k, v in found.items())
        if size > ANNOTATIONS_LIMIT:
            errors.append(too_long(path, ANNOTATIONS_LIMIT))


def _owners(owners: list[Object], errors: Errors) -> None:
    path = "metadata.ownerReferences"
    controller = ""
    for owner in owners:
        version = owner.get("apiVersion") or ""
        if not version.rpartition("/")[2]:
            errors.append(invalid(f"{path}.apiVersion", version, "version must not be empty"))
        for key in ("kind", "name", "uid"):
            if not owner.get(key):
                errors.append(invalid(f"{path}.{key}", "", "must not be empty"))
        if version == "v1" and owner.get("kind") == "Event":
            errors.append(invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            current = f"{owner.get('kind')}/{owner.get('name')}"
            if controller:
                detail = (
                    "Only one reference can have Controller set to true. "
                    'Found "true" in references '
                    ""
                    f"for {controller} and {current}"
                )
                errors.append(invalid(path, owners, detail))
            controller = controller or current


def finalizer(value: str, path: str, errors: Errors) -> None:
    for message in names.qualified_name(value):
        errors.append(invalid(path, value, message))


def standard_finalizer(value: str, path: str, errors: Errors) -> None:
    if "/" not in value and value not in _STANDARD_FINALIZERS:
        detail = "name is neither a standard finalizer name nor is it fully qualified"
        errors.append(invalid(path, value, detail))


def _finalizers(found: list[str], errors: Errors) -> None:
    path = "metadata.finalizers"
    for value in found:
        finalizer(value, path, errors)
    if "orphan" in found and "foregroundDeletion" in found:
        detail = "finalizer orphan and foregroundDeletion cannot be both set"
        errors.append(invalid(path, found, detail))
    for i, value in enumerate(found):
        standard_finalizer(value, f"{path}[{i}]", errors)


def _no_new_finalizers(new: list[str], old: list[str], errors: Errors) -> None:
    extra = sorted(set(new) - set(old))
    if extra:
        shown = ", ".join(f'"{each}"' for each in extra)
        detail = (
            "no new finalizers can be added if the object is being deleted, found new finalizers "
            f"[]string{{{shown}}}"
        )
        errors.append(forbidden("metadata.finalizers", detail))
