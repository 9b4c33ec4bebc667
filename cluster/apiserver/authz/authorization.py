"""The union of authorizers, in upstream's default order for kubeadm: Node, RBAC."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cluster.apiserver.attributes import Attributes, Decision, Registry, UserInfo
from cluster.apiserver.authn.groups import ALL_UNAUTHENTICATED, MASTERS, node_name
from cluster.apiserver.authz.messages import forbidden
from cluster.apiserver.authz.node import NodeAuthorizer
from cluster.apiserver.authz.rbac import RbacAuthorizer
from cluster.apiserver.authz.rules import Rule, RulesReview

_ALWAYS = Decision(True, "")
_ALL_RULES: tuple[Rule, ...] = (
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
)


@dataclass(frozen=True, slots=True)
class AuthorizationOptions:
    """`modes`: any of Node, RBAC, AlwaysAllow. `open_paths`: paths that every authenticated
    identity may use with any verb (what is sent there is authorised item by item)."""

    modes: tuple[str, ...] = ("Node", "RBAC")
    open_paths: Collection[str] = ("/apis/kubestage.io/v1/batch",)


class Authorization:
    def __init__(self, registry: Registry, options: AuthorizationOptions | None = None) -> None:
        options = options or AuthorizationOptions()
        unknown = set(options.modes) - {"Node", "RBAC", "AlwaysAllow"}
        if unknown:
            raise ValueError(f"authorization modes are Node, RBAC, AlwaysAllow, not {unknown}")
        self._always_allow = "AlwaysAllow" in options.modes
        self._open_paths = frozenset(options.open_paths)
        self.node = NodeAuthorizer(registry) if "Node" in options.modes else None
        self.rbac = RbacAuthorizer(registry)

    def authorize(self, attributes: Attributes) -> Decision:
        user = attributes.user
        if MASTERS in user.groups or self._always_allow:
            return _ALWAYS
        reason = ""
        if self.node is not None and user.name.startswith("system:node:"):
            decision = self.node.authorize(attributes)
            if decision.allowed or decision.denied:
                return decision
            reason = decision.reason
        if not attributes.is_resource and self._open_to(user, attributes.path):
            return _ALWAYS
        decision = self.rbac.authorize(attributes)
        if decision.allowed or not reason:
            return decision
        return Decision(False, f"{reason}\n{decision.reason}" if decision.reason else reason)

    def _open_to(self, user: UserInfo, path: str) -> bool:
        return path in self._open_paths and ALL_UNAUTHENTICATED not in user.groups

    def require(self, attributes: Attributes) -> None:
        """Raises Forbidden, in upstream's words."""
        decision = self.authorize(attributes)
        if not decision.allowed:
            raise forbidden(attributes, decision.reason)

    def rules_for(self, user: UserInfo, namespace: str) -> RulesReview:
        """What SelfSubjectRulesReview answers."""
        review = RulesReview()
        if MASTERS in user.groups or self._always_allow:
            review.add(_ALL_RULES)
        if self.node is not None and node_name(user.name, user.groups) is not None:
            review.incomplete = True
            review.evaluation_error = "node authorizer does not support user rule resolution"
        rules, errors = self.rbac.rules_for(user, namespace)
        review.add(rules)
        if errors:
            review.incomplete = True
            joined = ", ".join(errors)
            review.evaluation_error = "; ".join(filter(None, (review.evaluation_error, joined)))
        return review
