"""Service account tokens and node tokens: signing and verifying, no lookup of objects.

Plays pkg/serviceaccount (jwt.go, claims.go, openidmetadata.go). Whether the objects that a token is
bound to still exist is decided in authn/serviceaccount.py.

The key decides the algorithm: RSA signs RS256, EC P-256 signs ES256. Signing costs 680 us with RSA
2048 and 70 us with P-256, and every pod needs a token: P-256 is what ensure_pki makes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cluster.api.meta import Clock, NewUid

MINIMUM_SECONDS = 600
DEFAULT_SECONDS = 3600
MAXIMUM_SECONDS = 1 << 32
WARN_AFTER_SECONDS = 3607
EXTENDED_SECONDS = 365 * 24 * 3600
_CACHE_SIZE = 65_536


class InvalidToken(Exception):
    """The token is not one of ours, or no longer good. The message never holds the token."""


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """What a token is bound to: kind is Pod, Secret or Node."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a verified token says."""

    namespace: str
    name: str
    uid: str
    audiences: tuple[str, ...]
    expires: float
    issued: float
    token_id: str
    bound: tuple[ObjectReference, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """Whom to issue a token for. `node_*` is the node of the bound pod, or the bound node."""

    namespace: str
    name: str
    uid: str
    audiences: tuple[str, ...] = ()
    expiration_seconds: int = DEFAULT_SECONDS
    bound: ObjectReference | None = None
    node_name: str = ""
    node_uid: str = ""


class ServiceAccountTokens:
    """Signs with one key, verifies with it and with older ones."""

    def __init__(
        self,
        signing_key: bytes,
        *,
        issuer: str,
        audiences: Sequence[str],
        clock: Clock,
        new_uid: NewUid,
        old_public_keys: Sequence[bytes] = (),
    ) -> None:
        key = serialization.load_pem_private_key(signing_key, None)
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise ValueError("the service account key must be RSA or EC P-256")
        self._key = key
        self.issuer = issuer
        self.audiences = tuple(audiences) or (issuer,)
        self._clock = clock
        self._new_uid = new_uid
        public: list[rsa.RSAPublicKey | ec.EllipticCurvePublicKey] = [key.public_key()]
        for pem in old_public_keys:
            old = serialization.load_pem_public_key(pem)
            if isinstance(old, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
                public.append(old)
        self._public = {key_id(k): k for k in public}
        self._key_id = key_id(public[0])
        self._algorithm = _algorithm(public[0])

    @classmethod
    def load(
        cls, key: Path, *, issuer: str, audiences: Sequence[str], clock: Clock, new_uid: NewUid
    ) -> ServiceAccountTokens:
        return cls(
            key.read_bytes(), issuer=issuer, audiences=audiences, clock=clock, new_uid=new_uid
        )

    def issue(self, request: TokenRequest) -> tuple[str, float]:
        """A signed token and when it expires (Unix seconds).

        A pod's token of the projected volume (3607 s, for the API server itself) lives a year and
        carries `warnafter`, as upstream's --service-account-extend-token-expiration has it.
        """
        now = int(self._clock.now())
        audiences = list(request.audiences or self.audiences)
        seconds = request.expiration_seconds
        private: dict[str, Any] = {
            "namespace": request.namespace,
            "serviceaccount": {"name": request.name, "uid": request.uid},
        }
        bound = request.bound
        if bound is not None:
            private[bound.kind.lower()] = {"name": bound.name, "uid": bound.uid}
            if bound.kind == "Pod" and request.node_name:
                private["node"] = _named(request.node_name, request.node_uid)
            extend = seconds == WARN_AFTER_SECONDS and set(audiences) <= set(self.audiences)
            if bound.kind == "Pod" and extend:
                private["warnafter"] = now + seconds
                seconds = EXTENDED_SECONDS
        claims: dict[str, Any] = {
            "aud": audiences,
            "exp": now + seconds,
            "iat": now,
            "iss": self.issuer,
            "jti": self._new_uid(),
            "kubernetes.io": private,
            "nbf": now,
            "sub": f"system:serviceaccount:{request.namespace}:{request.name}",
        }
        token = jwt.encode(
            claims, self._key, algorithm=self._algorithm, headers={"kid": self._key_id, "typ": None}
        )
        # TokenRequest's answer names what was asked for, not the extended life.
        return token, float(now + request.expiration_seconds)

    def verify(self, token: str, audiences: Sequence[str] = ()) -> TokenClaims:
        """Signature, issuer, times, audience (any of `audiences`, default the API server's)."""
        accepted = tuple(audiences) or self.audiences
        try:
            header = jwt.get_unverified_header(token)
            public = self._public.get(str(header.get("kid", "")))
            if public is None:
                raise InvalidToken("no key of this issuer signed the token")
            claims = jwt.decode(
                token,
                public,
                algorithms=[_algorithm(public)],
                options={
                    "verify_aud": False,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_iss": False,
                    "verify_sub": False,
                    "verify_jti": False,
                },
            )
            parsed = _claims(claims)
        except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
            raise InvalidToken(f"invalid token: {type(error).__name__}") from None
        if claims.get("iss") != self.issuer:
            raise InvalidToken("token from another issuer")
        now = self._clock.now()
        if now >= parsed.expires:
            raise InvalidToken("service account token has expired")
        if now < float(claims.get("nbf", 0)) - 1:
            raise InvalidToken("service account token is not valid yet")
        if not set(parsed.audiences) & set(accepted):
            raise InvalidToken(
                f"token audiences {list(parsed.audiences)} is invalid for the target audiences"
                f" {list(accepted)}"
            )
        return parsed

    def openid_configuration(self) -> dict[str, Any]:
        """/.well-known/openid-configuration"""
        algorithms = sorted({_algorithm(key) for key in self._public.values()})
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer.rstrip('/')}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        }

    def jwks(self) -> dict[str, Any]:
        """/openid/v1/jwks"""
        return {"keys": [_jwk(kid, key) for kid, key in self._public.items()]}


class NodeTokens:
    """Bearer tokens of the nodes whose kubelets share an actor: `node.NAME.HMAC`.

    # Unlike Kubernetes: hundreds of kubelets share a connection, so a client certificate cannot
    # tell them apart. The token is derived from the name: nothing to store, nothing to hand out.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < 32:
            raise ValueError("the key of the node tokens must have at least 32 bytes")
        self._key = key
        self._tokens: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def token(self, name: str) -> str:
        known = self._tokens.get(name)
        if known is None:
            digest = hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()
            known = f"node.{name}.{digest}"
            if len(self._tokens) >= _CACHE_SIZE:
                self._tokens.clear()
            self._tokens[name] = known
        return known

    def verify(self, token: str) -> str:
        """The node's name. Raises InvalidToken."""
        known = self._names.get(token)
        if known is not None:
            return known
        prefix, _, rest = token.partition(".")
        name, _, digest = rest.rpartition(".")
        expected = hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()
        if (
            prefix != "node"
            or not name
            or not hmac.compare_digest(expected.encode(), digest.encode())
        ):
            raise InvalidToken("invalid node token")
        if len(self._names) >= _CACHE_SIZE:
            self._names.clear()
        self._names[token] = name
        return name


def key_id(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> str:
    """base64url(sha256(DER)) without padding, as upstream derives `kid`."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return _base64url(hashlib.sha256(der).digest())


def _algorithm(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> str:
    return "RS256" if isinstance(key, rsa.RSAPublicKey) else "ES256"


def _claims(claims: Mapping[str, Any]) -> TokenClaims:
    private = claims["kubernetes.io"]
    account = private["serviceaccount"]
    audiences = claims["aud"]
    bound = tuple(
        ObjectReference(kind, str(private[key]["name"]), str(private[key].get("uid", "")))
        for key, kind in (("pod", "Pod"), ("secret", "Secret"), ("node", "Node"))
        if private.get(key)
    )
    parsed = TokenClaims(
        namespace=str(private["namespace"]),
        name=str(account["name"]),
        uid=str(account["uid"]),
        audiences=(audiences,) if isinstance(audiences, str) else tuple(audiences),
        expires=float(claims["exp"]),
        issued=float(claims.get("iat", 0)),
        token_id=str(claims.get("jti", "")),
        bound=bound,
    )
    if claims.get("sub") != f"system:serviceaccount:{parsed.namespace}:{parsed.name}":
        raise ValueError("the subject is not the service account")
    return parsed


def _jwk(kid: str, key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {
            "use": "sig",
            "kty": "RSA",
            "kid": kid,
            "alg": "RS256",
            "n": _base64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8)),
            "e": _base64url(numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8)),
        }
    point = key.public_numbers()
    return {
        "use": "sig",
        "kty": "EC",
        "kid": kid,
        "crv": "P-256",
        "alg": "ES256",
        "x": _base64url(point.x.to_bytes(32)),
        "y": _base64url(point.y.to_bytes(32)),
    }


def _named(name: str, uid: str) -> dict[str, str]:
    return {"name": name, "uid": uid} if uid else {"name": name}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
