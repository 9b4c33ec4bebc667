"""What an identity may do: plays kubeapiserver/authorizer: Node, then RBAC.

Both decide from memory, synchronously. A verdict of RBAC is kept until a role or binding changes.
"""

from cluster.apiserver.authz.authorization import Authorization, AuthorizationOptions
from cluster.apiserver.authz.messages import forbidden, forbidden_message
from cluster.apiserver.authz.node import NodeAuthorizer
from cluster.apiserver.authz.rbac import RbacAuthorizer
from cluster.apiserver.authz.rules import RulesReview

__all__ = [
    "Authorization",
    "AuthorizationOptions",
    "NodeAuthorizer",
    "RbacAuthorizer",
    "RulesReview",
    "forbidden",
    "forbidden_message",
]
