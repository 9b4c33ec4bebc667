"""Who sends a request: plays k8s.io/apiserver/pkg/authentication and kubeapiserver/authenticator.

In order: a node token, the client certificate that TLS verified, the bearer token (static file,
then service account JWT), and nobody at all, but only for the paths that anyone may read.
"""

from cluster.apiserver.authn.authentication import (
    ANONYMOUS_PATHS,
    Authentication,
    TokenReviewResult,
)
from cluster.apiserver.authn.impersonation import Impersonation, plan_impersonation
from cluster.apiserver.authn.statictokens import read_token_file

__all__ = [
    "ANONYMOUS_PATHS",
    "Authentication",
    "Impersonation",
    "TokenReviewResult",
    "plan_impersonation",
    "read_token_file",
]
