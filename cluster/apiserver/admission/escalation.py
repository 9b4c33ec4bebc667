"""Nobody grants what they do not have: pkg/registry/rbac/*/policybased, as a validating plugin.

A role may hold only rules that its author holds, unless the author may `escalate` roles; a binding
may hand out only a role whose rules its author holds, unless the author may `bind` that role.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cluster.api.errors import NotFound
from cluster.api.meta import GVR, Object
from cluster.apiserver.admission.chain import Plugin
from cluster.apiserver.attributes import AdmissionRequest, Attributes, Operation, UserInfo
from cluster.apiserver.authn.groups import MASTERS
from cluster.apiserver.authz import Authorization
from cluster.apiserver.authz.messages import forbidden_resource, quoted
from cluster.apiserver.authz.rules import Rule, covers, describe_missing

_GROUP = "rbac.authorization.k8s.io"
_ROLES = frozenset(("roles", "clusterroles"))
_BINDINGS = frozenset(("rolebindings", "clusterrolebindings"))
_EVERYTHING: tuple[Rule, ...] = (
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
)


class RbacEscalation(Plugin):
    name = "RBACEscalation"

    def __init__(self, authorization: Authorization) -> None:
        self._authorization = authorization

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        return (
            gvr.group == _GROUP
            and operation in ("CREATE", "UPDATE")
            and gvr.plural in (_ROLES | _BINDINGS)
        )

    def validate(self, request: AdmissionRequest) -> None:
        if request.obj is None or MASTERS in request.user.groups:
            return
        if request.gvr.plural in _ROLES:
            self._check_role(request, request.obj)
        else:
            self._check_binding(request, request.obj)

    def _check_role(self, request: AdmissionRequest, role: Object) -> None:
        old = request.old or {}
        rules = role.get("rules") or []
        aggregation = role.get("aggregationRule")
        if request.old is not None and (
            rules == (old.get("rules") or []) and aggregation == old.get("aggregationRule")
        ):
            return
        if self._may(request, "escalate", request.gvr.plural, request.name):
            return
        if aggregation or old.get("aggregationRule"):
            held, _ = self._authorization.rbac.rules_for(request.user, "")
            if covers(held, _EVERYTHING):
                raise forbidden_resource(
                    _GROUP,
                    request.gvr.plural,
                    request.name,
                    "must have cluster-admin privileges to use the aggregationRule",
                )
        self._confirm(request, rules)

    def _check_binding(self, request: AdmissionRequest, binding: Object) -> None:
        old = request.old or {}
        reference = binding.get("roleRef") or {}
        subjects = binding.get("subjects") or []
        if request.old is not None and (
            reference == old.get("roleRef") and subjects == (old.get("subjects") or [])
        ):
            return
        kind, name = reference.get("kind", ""), reference.get("name", "")
        plural = "clusterroles" if kind == "ClusterRole" else "roles"
        if self._may(request, "bind", plural, name):
            return
        rules = self._authorization.rbac.role_rules(kind, request.namespace, name)
        if rules is None:
            raise NotFound(
                f"{plural}.{_GROUP} {quoted(name)} not found",
                details={"name": name, "group": _GROUP, "kind": plural},
            )
        self._confirm(request, rules)

    def _may(self, request: AdmissionRequest, verb: str, plural: str, name: str) -> bool:
        attributes = Attributes(
            user=request.user,
            verb=verb,
            path="",
            is_resource=True,
            group=_GROUP,
            version="v1",
            resource=plural,
            namespace=request.namespace,
            name=name,
        )
        if self._authorization.authorize(attributes).allowed:
            return True
        # A ClusterRole is bound inside a namespace with a permission there, or everywhere.
        return bool(request.namespace) and (
            self._authorization.authorize(replace(attributes, namespace="")).allowed
        )

    def _confirm(self, request: AdmissionRequest, rules: Sequence[Rule]) -> None:
        held, errors = self._authorization.rbac.rules_for(request.user, request.namespace)
        missing = covers(held, rules)
        if not missing:
            return
        message = (
            f"user {quoted(request.user.name)} (groups={_groups(request.user)}) is attempting to"
            f" grant RBAC permissions not currently held:\n{describe_missing(missing)}"
        )
        if errors:
            message += f"; resolution errors: [{', '.join(errors)}]"
        raise forbidden_resource(_GROUP, request.gvr.plural, request.name, message)


def _groups(user: UserInfo) -> str:
    return "[" + " ".join(quoted(group) for group in user.groups) + "]"
