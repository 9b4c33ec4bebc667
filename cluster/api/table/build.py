"""From objects to a metav1.Table."""

from __future__ import annotations

from typing import Any, Literal

from cluster.api.catalogue import Resource
from cluster.api.meta import Object
from cluster.api.table import admission, core, pods, policy, storage, workloads
from cluster.api.table.columns import AGE, CREATED_AT, NAME, Layout
from cluster.api.table.custom import custom_layout
from cluster.api.table.durations import age

IncludeObject = Literal["None", "Metadata", "Object"]

_LAYOUTS: dict[tuple[str, str], Layout] = {
    **pods.LAYOUTS,
    **core.LAYOUTS,
    **workloads.LAYOUTS,
    **policy.LAYOUTS,
    **storage.LAYOUTS,
    **admission.LAYOUTS,
}


def to_table(
    resource: Resource,
    objects: list[Object],
    *,
    include_object: str = "Metadata",
    now: float,
    no_headers: bool = False,
    list_meta: Object | None = None,
    printer_columns: list[Object] | None = None,
) -> Object:
    """The objects as a meta.k8s.io/v1 Table. `printer_columns` are a custom resource's
    additionalPrinterColumns."""
    shape = _layout_of(resource, printer_columns)
    table: Object = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_meta or {}}
    table["columnDefinitions"] = None if no_headers else list(shape.columns)
    table["rows"] = [_row(shape, obj, include_object, now) for obj in objects]
    return table


def _layout_of(resource: Resource, printer_columns: list[Object] | None) -> Layout:
    if resource.custom:
        return custom_layout(printer_columns)
    return _LAYOUTS.get((resource.group, resource.kind), _DEFAULT)


def _row(shape: Layout, obj: Object, include_object: str, now: float) -> Object:
    row: Object = {"cells": shape.cells(obj, now)}
    if obj.get("kind") == "Pod":
        conditions = pods.row_conditions(obj)
        if conditions:
            row["conditions"] = conditions
    row["object"] = _embedded(obj, include_object)
    return row


def _embedded(obj: Object, include_object: str) -> Any:
    if include_object == "None":
        return None
    if include_object == "Object":
        return obj
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }


def _name_and_time(obj: Object, now: float) -> list[Any]:
    meta = obj["metadata"]
    return [meta["name"], meta.get("creationTimestamp")]


def _name_and_age(obj: Object, now: float) -> list[Any]:
    return [obj["metadata"]["name"], age(obj, now)]


_DEFAULT = Layout((NAME, CREATED_AT), _name_and_time)
NAME_AND_AGE = Layout((NAME, AGE), _name_and_age)
