"""`kubestage logs COMPONENT`: an actor's own log, from whatever host it is on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import ray

from actors import deploy, ledger, rayhost
from actors.errors import UserError

POLL_SECONDS = 0.5


def find_instance(name: str, component: str, index: int = 0) -> str:
    """`kube-scheduler` or `kubelet-1` for what the user typed. Raises UserError with the
    choices."""
    entry = ledger.require(name)
    if not rayhost.connect_existing(entry.configuration.ray_address):
        raise UserError("Ray does not answer: `kubestage down` removes what is left")
    known = [n.partition("/")[2] for n in deploy.names(name)]
    for candidate in (
        component,
        f"{component}-{index}",
        f"kube-{component}",
        f"kube-{component}-{index}",
    ):
        if candidate in known:
            return candidate
    raise UserError(f"no component {component!r}; there are: {', '.join(known) or 'none'}")


def read(name: str, component: str, lines: int, *, follow: bool) -> Iterator[str]:
    """The last `lines` lines, then, with `follow`, what comes. Survives restarts of the actor."""
    instance = find_instance(name, component)
    offset = -1
    while True:
        actor = deploy.find(f"{name}/{instance}")
        try:
            if actor is not None:
                found, offset = ray.get(actor.logs.remote(lines, offset), timeout=10)
                yield from found
        except ray.exceptions.RayError:
            if not follow:
                raise UserError(f"{instance} does not answer (restarting?); try again") from None
        if not follow:
            return
        time.sleep(POLL_SECONDS)
