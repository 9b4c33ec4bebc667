"""Column definitions: `Name`, `Age` and the small language in which the families declare theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster.api.meta import Object

Cells = list[Any]
Printer = Callable[[Object, float], Cells]

_NAME = (
    "Name must be unique within a namespace. Is required when creating resources, although some "
    "resources may allow "
    "a client to request the generation of an appropriate name automatically. Name is primarily "
    "intended for creation "
    "idempotence and configuration definition. Cannot be updated. More info: "
    "https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"
)
CREATED = (
    "CreationTimestamp is a timestamp representing the server time when this object was created. "
    "It is not guaranteed "
    "to be set in happens-before order across separate operations. Clients may not set this "
    "value. It is represented "
    "in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More "
    "info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a kind and the function that fills them."""

    columns: tuple[Object, ...]
    cells: Printer


def column(
    name: str, kind: str = "string", *, wide: bool = False, description: str = "", form: str = ""
) -> Object:
    """One metav1.TableColumnDefinition; `wide` ones are shown with `-o wide` only."""
    return {
        "name": name,
        "type": kind,
        "format": form,
        "description": description,
        "priority": 1 if wide else 0,
    }


NAME = column("Name", form="name", description=_NAME)
AGE = column("Age", description=CREATED)
CREATED_AT = column("Created At", "date", description=CREATED)


def layout(names: str, cells: Printer) -> Layout:
    """Columns from a line of text: names separated by `|`; `:int` or `:bool` gives a type, `*`
    marks wide ones."""
    return Layout(tuple(_declared(word.strip()) for word in names.split("|")), cells)


def _declared(word: str) -> Object:
    wide = word.endswith("*")
    name, _, kind = word.rstrip("*").partition(":")
    if name == "Name":
        return {**NAME, "priority": int(wide)}
    if name == "Age":
        return AGE
    types = {"": "string", "int": "integer", "bool": "boolean"}
    return column(name, types[kind], wide=wide, description=DESCRIPTIONS.get(name, ""))


DESCRIPTIONS = {
    "Ready": "The aggregate readiness state of this pod for accepting traffic.",
    "Status": "The aggregate status of the containers in this pod.",
    "Restarts": "The number of times the containers in this pod have been restarted and when the "
    "last container in "
    "this pod has restarted.",
    "Containers": "Names of each container in the template.",
    "Images": "Images referenced by each container in the template.",
    "Roles": "The roles of the node",
}
