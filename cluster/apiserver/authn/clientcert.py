"""Client certificates: CN is the user, each O a group (k8s.io/apiserver/.../request/x509).

TLS has verified the chain already. Parsed once per certificate, kept by its DER bytes.
"""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cluster.api.errors import Unauthorized
from cluster.api.meta import Clock
from cluster.apiserver.attributes import UserInfo
from cluster.apiserver.authn.groups import ALL_AUTHENTICATED

_CACHE_SIZE = 8_192


class ClientCertificates:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[bytes, tuple[UserInfo, float]] = {}

    def user(self, der: bytes) -> UserInfo:
        """Raises Unauthorized for one that is expired, not for clients, or has no common name."""
        known = self._known.get(der)
        if known is None:
            known = self._parse(der)
            if len(self._known) >= _CACHE_SIZE:
                self._known.clear()
            self._known[der] = known
        user, expires = known
        if self._clock.now() >= expires:
            raise Unauthorized("Unauthorized")
        return user

    def _parse(self, der: bytes) -> tuple[UserInfo, float]:
        try:
            cert = x509.load_der_x509_certificate(der)
        except ValueError:
            raise Unauthorized("Unauthorized") from None
        if not _for_clients(cert):
            raise Unauthorized("Unauthorized")
        names = cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if not names or not names[0].value:
            raise Unauthorized("Unauthorized")
        organizations = cert.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        groups = [_text(attribute.value) for attribute in organizations]
        if ALL_AUTHENTICATED not in groups:
            groups.append(ALL_AUTHENTICATED)
        credential = "X509SHA256=" + hashlib.sha256(der).hexdigest()
        user = UserInfo(
            _text(names[0].value),
            tuple(groups),
            extra={"authentication.kubernetes.io/credential-id": (credential,)},
        )
        return user, cert.not_valid_after_utc.timestamp()


def _for_clients(cert: x509.Certificate) -> bool:
    try:
        usage = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    except ValueError:
        return False
    return (
        ExtendedKeyUsageOID.CLIENT_AUTH in usage
        or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage
    )


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")
