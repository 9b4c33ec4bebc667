"""The union of authenticators, and TokenReview's answer.

A cached identity costs under a microsecond. Every cache is bounded: full, it is emptied. Errors and
log lines never hold a credential.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cluster.api.errors import Unauthorized
from cluster.api.meta import Clock
from cluster.apiserver.attributes import Registry, UserInfo
from cluster.apiserver.authn.clientcert import ClientCertificates
from cluster.apiserver.authn.groups import (
    ALL_AUTHENTICATED,
    ALL_UNAUTHENTICATED,
    ANONYMOUS,
    NODE_PREFIX,
    NODES,
)
from cluster.apiserver.authn.serviceaccount import ServiceAccountAuthenticator
from cluster.apiserver.tokens import InvalidToken, NodeTokens, ServiceAccountTokens

ANONYMOUS_PATHS = frozenset(("/healthz", "/livez", "/readyz", "/version", "/version/"))
_CACHE_SIZE = 65_536
_MAX_TOKEN_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class TokenReviewResult:
    """What TokenReview's status says. `error` is empty for an authenticated token."""

    authenticated: bool
    user: UserInfo | None = None
    audiences: tuple[str, ...] = ()
    error: str = ""


class Authentication:
    """Decides who a request's sender is. Synchronous; reads objects from the registry's memory."""

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        *,
        service_account_tokens: ServiceAccountTokens | None = None,
        node_tokens: NodeTokens | None = None,
        static_tokens: Mapping[str, UserInfo] | None = None,
        anonymous_paths: Collection[str] = ANONYMOUS_PATHS,
    ) -> None:
        self._certificates = ClientCertificates(clock)
        self._node_tokens = node_tokens
        self._static = dict(static_tokens or {})
        self._anonymous_paths = frozenset(anonymous_paths)
        self._nodes: dict[str, UserInfo] = {}
        self._accounts = (
            ServiceAccountAuthenticator(service_account_tokens, registry, clock)
            if service_account_tokens is not None
            else None
        )
        self._api_audiences = service_account_tokens.audiences if service_account_tokens else ()

    def authenticate(
        self, headers: Mapping[str, str], peer_cert_der: bytes | None, path: str = ""
    ) -> UserInfo:
        """The sender of a request with these (lower-case) headers. Raises Unauthorized."""
        authorization = headers.get("authorization")
        if authorization is None:
            if peer_cert_der is not None:
                return self._certificates.user(peer_cert_der)
            return self._anonymous(path)
        token = bearer_token(authorization)
        if peer_cert_der is not None and not token.startswith("node."):
            # As upstream: the certificate comes before the bearer token.
            return self._certificates.user(peer_cert_der)
        if not token:
            return self._anonymous(path)
        return self.authenticate_token(token)

    def authenticate_token(self, token: str) -> UserInfo:
        """The owner of a bearer token. Raises Unauthorized."""
        node = self._nodes.get(token)
        if node is not None:
            return node
        try:
            return self._token_user(token, ())
        except InvalidToken:
            raise Unauthorized("Unauthorized") from None

    def review_token(self, token: str, audiences: Sequence[str] = ()) -> TokenReviewResult:
        """TokenReview: whose token it is, for any of `audiences` (default the API server's)."""
        wanted = tuple(audiences) or self._api_audiences
        try:
            user = self._token_user(token, wanted)
        except InvalidToken as error:
            return TokenReviewResult(False, error=f"[invalid bearer token, {error}]")
        granted = wanted
        if self._accounts is not None and token.count(".") == 2 and not token.startswith("node."):
            granted = tuple(a for a in wanted if a in self._accounts.audiences_of(token, wanted))
        elif not set(wanted) & set(self._api_audiences) and wanted:
            return TokenReviewResult(False, error="[invalid bearer token, token audience mismatch]")
        return TokenReviewResult(True, user, granted)

    def _token_user(self, token: str, audiences: Sequence[str]) -> UserInfo:
        if len(token) > _MAX_TOKEN_BYTES:
            raise InvalidToken("the token is too long")
        static = self._static.get(token)
        if static is not None:
            return static
        if token.startswith("node.") and self._node_tokens is not None:
            return self._node_user(token, self._node_tokens.verify(token))
        if self._accounts is not None and token.count(".") == 2:
            return self._accounts.user(token, audiences)
        raise InvalidToken("unknown token")

    def _node_user(self, token: str, name: str) -> UserInfo:
        user = UserInfo(NODE_PREFIX + name, (NODES, ALL_AUTHENTICATED))
        if len(self._nodes) >= _CACHE_SIZE:
            self._nodes.clear()
        self._nodes[token] = user
        return user

    def _anonymous(self, path: str) -> UserInfo:
        if path in self._anonymous_paths:
            return _ANONYMOUS_USER
        raise Unauthorized("Unauthorized")


def bearer_token(authorization: str) -> str:
    """The token of an Authorization header, '' for another scheme or none."""
    scheme, _, rest = authorization.strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else ""


_ANONYMOUS_USER = UserInfo(ANONYMOUS, (ALL_UNAUTHENTICATED,))
