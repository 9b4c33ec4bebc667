"""Impersonation headers (k8s.io/apiserver/pkg/endpoints/filters/impersonation.go).

`plan_impersonation` says which permissions the real user needs and whom the request then counts as;
the caller authorises each and goes on with `Impersonation.user`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from cluster.api.errors import BadRequest
from cluster.apiserver.attributes import Attributes, UserInfo
from cluster.apiserver.authn.groups import (
    ALL_AUTHENTICATED,
    ALL_UNAUTHENTICATED,
    ANONYMOUS,
    service_account_groups,
    split_service_account,
)

USER = "impersonate-user"
GROUP = "impersonate-group"
UID = "impersonate-uid"
EXTRA_PREFIX = "impersonate-extra-"


@dataclass(frozen=True, slots=True)
class Impersonation:
    """`checks` must all be allowed for the real user; then the request is `user`'s."""

    user: UserInfo
    checks: tuple[Attributes, ...]


def plan_impersonation(
    headers: Mapping[str, str],
    requestor: UserInfo,
    repeated: Mapping[str, Sequence[str]] | None = None,
) -> Impersonation | None:
    """None when no header asks for it. `headers` are lower-case; `repeated` has every value of the
    headers that came more than once."""
    if USER not in headers and GROUP not in headers and UID not in headers:
        return None
    name = headers.get(USER, "")
    groups = list((repeated or {}).get(GROUP) or [headers[GROUP]] if GROUP in headers else [])
    uid = headers.get(UID, "")
    extra = _extra(headers, repeated or {})
    if not name:
        if groups or uid or extra:
            # Unlike Kubernetes: upstream answers 500, though the request is what is wrong.
            raise BadRequest("requested impersonation of groups, uid or extra without a user")
        return None
    checks = _checks(requestor, name, groups, uid, extra)
    account = split_service_account(name)
    if account is not None and not groups:
        groups = list(service_account_groups(account[0]))
    if name == ANONYMOUS:
        if ALL_UNAUTHENTICATED not in groups:
            groups.append(ALL_UNAUTHENTICATED)
    elif ALL_AUTHENTICATED not in groups and ALL_UNAUTHENTICATED not in groups:
        groups.append(ALL_AUTHENTICATED)
    return Impersonation(UserInfo(name, tuple(groups), uid, extra), tuple(checks))


def _extra(
    headers: Mapping[str, str], repeated: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for header, value in headers.items():
        if header.startswith(EXTRA_PREFIX):
            key = unquote(header[len(EXTRA_PREFIX) :])
            found[key] = (*found.get(key, ()), *(repeated.get(header) or (value,)))
    return found


def _checks(
    requestor: UserInfo,
    name: str,
    groups: Sequence[str],
    uid: str,
    extra: Mapping[str, Sequence[str]],
) -> list[Attributes]:
    def check(
        resource: str, value: str, *, group: str = "", subresource: str = "", namespace: str = ""
    ) -> Attributes:
        return Attributes(
            user=requestor,
            verb="impersonate",
            path="",
            is_resource=True,
            group=group,
            version="v1",
            resource=resource,
            subresource=subresource,
            namespace=namespace,
            name=value,
        )

    account = split_service_account(name)
    if account is not None:
        checks = [check("serviceaccounts", account[1], namespace=account[0])]
    else:
        checks = [check("users", name)]
    checks += [check("groups", group) for group in groups]
    checks += [
        check("userextras", value, group="authentication.k8s.io", subresource=key)
        for key, values in extra.items()
        for value in values
    ]
    if uid:
        checks.append(check("uids", uid, group="authentication.k8s.io"))
    return checks
