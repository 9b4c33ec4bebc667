"""Service account tokens as identities: pkg/serviceaccount/claims.go's validator.

A verified token is kept, but whether its account and the object it is bound to still exist is asked
at every use: deleting a service account or a pod revokes its tokens at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.api.meta import (
    GVR,
    NODES,
    PODS,
    SECRETS,
    SERVICEACCOUNTS,
    Clock,
    Object,
    parse_rfc3339,
)
from cluster.apiserver.attributes import Registry, UserInfo
from cluster.apiserver.authn.groups import (
    ALL_AUTHENTICATED,
    SERVICE_ACCOUNT_PREFIX,
    service_account_groups,
)
from cluster.apiserver.tokens import InvalidToken, ServiceAccountTokens, TokenClaims

_CACHE_SIZE = 32_768
_DELETED_GRACE_SECONDS = 60
_KINDS: dict[str, GVR] = {"Pod": PODS, "Secret": SECRETS, "Node": NODES}


@dataclass(frozen=True, slots=True)
class _Known:
    user: UserInfo
    claims: TokenClaims


class ServiceAccountAuthenticator:
    def __init__(self, tokens: ServiceAccountTokens, registry: Registry, clock: Clock) -> None:
        self._tokens = tokens
        self._registry = registry
        self._clock = clock
        self._known: dict[tuple[str, tuple[str, ...]], _Known] = {}

    def user(self, token: str, audiences: Sequence[str] = ()) -> UserInfo:
        """Raises InvalidToken, in upstream's words."""
        key = (token, tuple(audiences))
        known = self._known.get(key)
        if known is None:
            claims = self._tokens.verify(token, audiences)
            known = _Known(_user(claims), claims)
            self._check(claims)
            if len(self._known) >= _CACHE_SIZE:
                self._known.clear()
            self._known[key] = known
            return known.user
        if self._clock.now() >= known.claims.expires:
            del self._known[key]
            raise InvalidToken("service account token has expired")
        self._check(known.claims)
        return known.user

    def audiences_of(self, token: str, audiences: Sequence[str] = ()) -> tuple[str, ...]:
        """The audiences of a token that `user` has just accepted for `audiences`."""
        known = self._known.get((token, tuple(audiences)))
        return known.claims.audiences if known is not None else ()

    def _check(self, claims: TokenClaims) -> None:
        account = self._registry.get(SERVICEACCOUNTS, claims.namespace, claims.name)
        qualified = f"{claims.namespace}/{claims.name}"
        if account is None or self._deleted(account):
            raise InvalidToken(f"service account {qualified} has been deleted")
        if account["metadata"].get("uid") != claims.uid:
            raise InvalidToken(f"service account UID ({claims.uid}) does not match the current one")
        # A token bound to a pod carries its node for information: only the pod itself revokes it.
        for reference in claims.bound[:1]:
            namespace = "" if reference.kind == "Node" else claims.namespace
            bound = self._registry.get(_KINDS[reference.kind], namespace, reference.name)
            if bound is None or bound["metadata"].get("uid") != reference.uid:
                raise InvalidToken("service account token has been invalidated")
            if self._deleted(bound):
                raise InvalidToken("service account token has been invalidated")

    def _deleted(self, obj: Object) -> bool:
        """Being deleted for more than a minute: its containers may use the token until then."""
        deletion = obj["metadata"].get("deletionTimestamp")
        if not deletion:
            return False
        return parse_rfc3339(deletion) + _DELETED_GRACE_SECONDS < self._clock.now()


def _user(claims: TokenClaims) -> UserInfo:
    prefix = "authentication.kubernetes.io/"
    extra: dict[str, tuple[str, ...]] = {}
    if claims.token_id:
        extra[prefix + "credential-id"] = (f"JTI={claims.token_id}",)
    for reference in claims.bound:
        if reference.kind in ("Pod", "Node"):
            kind = reference.kind.lower()
            extra[f"{prefix}{kind}-name"] = (reference.name,)
            if reference.uid:
                extra[f"{prefix}{kind}-uid"] = (reference.uid,)
    return UserInfo(
        f"{SERVICE_ACCOUNT_PREFIX}{claims.namespace}:{claims.name}",
        (*service_account_groups(claims.namespace), ALL_AUTHENTICATED),
        claims.uid,
        extra,
    )
