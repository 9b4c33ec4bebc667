"""Which function answers a subresource: by its name and the HTTP method."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call, Result
from cluster.apiserver.subresources import binding, connect, eviction, ownform, scale, token

Handler = Callable[[Backend, Call], Result | Awaitable[Result]]

_OWN_FORM: dict[str, Handler] = {
    "GET": ownform.read,
    "PUT": ownform.update,
    "PATCH": ownform.patch,
}
_PROXY: dict[str, Handler] = dict.fromkeys(
    ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"), connect.proxy
)
_HANDLERS: dict[str, dict[str, Handler]] = {
    "status": _OWN_FORM,
    "ephemeralcontainers": _OWN_FORM,
    "resize": _OWN_FORM,
    "approval": _OWN_FORM,
    "finalize": {"PUT": ownform.finalize},
    "scale": {"GET": scale.read, "PUT": scale.update, "PATCH": scale.patch},
    "binding": {"POST": binding.bind},
    "eviction": {"POST": eviction.evict},
    "token": {"POST": token.request_token},
    "log": {"GET": connect.log},
    "exec": {"GET": connect.exec_, "POST": connect.exec_},
    "attach": {"GET": connect.attach, "POST": connect.attach},
    "portforward": {"GET": connect.portforward, "POST": connect.portforward},
    "proxy": _PROXY,
}


def handler_of(subresource: str, method: str) -> Handler | None:
    return _HANDLERS.get(subresource, {}).get(method)
