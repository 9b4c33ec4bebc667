"""What one request is and who sends it: the values that authn, authz, admission and verbs pass
along.

Plays k8s.io/apiserver/pkg/authentication/user.Info, pkg/authorization/authorizer.Attributes,
pkg/admission.Attributes and the read side of pkg/registry that plugins need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from cluster.api.meta import GVR, Object

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


@dataclass(frozen=True, slots=True)
class UserInfo:
    """An authenticated identity."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What authorization decides over. `verb` is lower case (get, list, watch, create, update,
    patch, delete, deletecollection, or an HTTP method for a non-resource path)."""

    user: UserInfo
    verb: str
    path: str
    is_resource: bool
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""
    label_selector: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """An authorizer's verdict. Not allowed and not denied means: no opinion, ask the next one."""

    allowed: bool
    reason: str = ""
    denied: bool = False


@dataclass(slots=True)
class AdmissionRequest:
    """One object on its way in. Mutating plugins change `obj` in place; `old` is never changed."""

    operation: Operation
    gvr: GVR
    kind: str
    namespace: str
    name: str
    subresource: str
    user: UserInfo
    obj: Object | None
    old: Object | None
    dry_run: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Registry(Protocol):
    """The API server's own read access to stored objects, from memory. Objects returned are shared:
    never change one. `version` of a GVR is ignored."""

    def get(self, gvr: GVR, namespace: str, name: str) -> Object | None: ...

    def list(self, gvr: GVR, namespace: str = "") -> Iterable[Object]: ...

    def subscribe(self, gvr: GVR, handler: Callable[[Object | None, Object | None], None]) -> None:
        """Call `handler(old, new)` for every object there is (old=None) and for every change, in
        order."""

    async def create(self, gvr: GVR, namespace: str, obj: Object) -> Object:
        """Store as the system itself, past authn, authz and admission. Raises AlreadyExists."""

    async def update(
        self, gvr: GVR, namespace: str, name: str, change: Callable[[Object], Object | None]
    ) -> Object:
        """Read, change a copy (None: leave as it is), store; again on a conflict, at most 10
        times."""


class AdmissionPlugin(Protocol):
    """A link of the chain. `handles` is asked once per (gvr, operation, subresource) and cached."""

    name: str

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool: ...

    def admit(self, request: AdmissionRequest) -> None:
        """Mutate `request.obj` or raise StatusError. Leave empty if the plugin only validates."""

    def validate(self, request: AdmissionRequest) -> None:
        """Raise StatusError, or return."""
