"""The chain of admission plugins: plays k8s.io/apiserver/pkg/admission/chain.go.

First every plugin may change the object, then every plugin may refuse it. Which plugins care about
a kind of request is asked once and remembered: a request that none of them handles costs one dict
lookup. Built-in plugins decide at once, from memory; webhooks ask over the network, so they have an
async step of their own, which a request without webhooks skips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from cluster.api.meta import GVR
from cluster.apiserver.attributes import AdmissionPlugin, AdmissionRequest, Operation

_CACHE_SIZE = 16_384


class AsyncAdmissionPlugin(Protocol):
    """A link that has to wait for somebody: the webhooks."""

    name: str

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        """Asked for every request: webhook configurations come and go."""

    async def prepare(self, request: AdmissionRequest) -> None:
        """Before any plugin has seen the request."""

    async def admit(self, request: AdmissionRequest) -> None: ...

    async def validate(self, request: AdmissionRequest) -> None: ...


@runtime_checkable
class _Closing(Protocol):
    async def close(self) -> None: ...


_Interested = tuple[tuple[AdmissionPlugin, ...], tuple[AdmissionPlugin, ...]]
"""Who changes and who refuses requests of one kind; a half that is Plugin's own is left out."""


class AdmissionChain:
    """`mutate` before the object is validated, then `validate` just before it is stored."""

    def __init__(
        self,
        plugins: Sequence[AdmissionPlugin],
        webhooks: Sequence[AsyncAdmissionPlugin] = (),
    ) -> None:
        self.plugins = tuple(plugins)
        self.webhooks = tuple(webhooks)
        self._interested: dict[tuple[Operation, GVR, str], _Interested] = {}

    def admit(self, request: AdmissionRequest) -> None:
        """Both halves at once, webhooks left out."""
        mutators, validators = self._of(request)
        for plugin in mutators:
            plugin.admit(request)
        for plugin in validators:
            plugin.validate(request)

    def mutate(self, request: AdmissionRequest) -> None:
        """Let every interested plugin change `request.obj`. Raises StatusError."""
        for plugin in self._of(request)[0]:
            plugin.admit(request)

    def validate(self, request: AdmissionRequest) -> None:
        """Let every interested plugin refuse. Raises StatusError."""
        for plugin in self._of(request)[1]:
            plugin.validate(request)

    def waits(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        """Must `mutate_async` and `validate_async` be awaited for this kind of request?"""
        return any(hook.handles(operation, gvr, subresource) for hook in self.webhooks)

    async def mutate_async(self, request: AdmissionRequest) -> None:
        """Built-in plugins, the mutating webhooks, and the built-in ones once more, which must give
        the same for what they have seen (upstream's reinvocation)."""
        for hook in self.webhooks:
            await hook.prepare(request)
        self.mutate(request)
        for hook in self.webhooks:
            if hook.handles(request.operation, request.gvr, request.subresource):
                await hook.admit(request)
                self.mutate(request)

    async def validate_async(self, request: AdmissionRequest) -> None:
        """The validating webhooks, then the built-in plugins (the quota is charged last)."""
        for hook in self.webhooks:
            if hook.handles(request.operation, request.gvr, request.subresource):
                await hook.validate(request)
        self.validate(request)

    async def close(self) -> None:
        """Finish what plugins have begun and close the webhooks' connections. Harmless twice."""
        for part in (*self.plugins, *self.webhooks):
            if isinstance(part, _Closing):
                await part.close()

    def interested(
        self, operation: Operation, gvr: GVR, subresource: str
    ) -> tuple[AdmissionPlugin, ...]:
        """The plugins that handle such requests, in order. Remembered."""
        mutators, validators = self._lookup((operation, gvr, subresource))
        return tuple(p for p in self.plugins if p in mutators or p in validators)

    def _of(self, request: AdmissionRequest) -> _Interested:
        key = (request.operation, request.gvr, request.subresource)
        return self._interested.get(key) or self._lookup(key)

    def _lookup(self, key: tuple[Operation, GVR, str]) -> _Interested:
        known = self._interested.get(key)
        if known is None:
            plugins = [p for p in self.plugins if p.handles(*key)]
            known = (
                tuple(p for p in plugins if not _inherits(p, "admit")),
                tuple(p for p in plugins if not _inherits(p, "validate")),
            )
            if len(self._interested) >= _CACHE_SIZE:
                self._interested.clear()
            self._interested[key] = known
        return known


class Plugin:
    """A plugin that only mutates or only validates inherits the other half from here."""

    name = ""

    def admit(self, request: AdmissionRequest) -> None:
        """Changes nothing."""

    def validate(self, request: AdmissionRequest) -> None:
        """Refuses nothing."""


def _inherits(plugin: AdmissionPlugin, method: str) -> bool:
    """Is the method the one of Plugin that does nothing?"""
    return getattr(type(plugin), method, None) is getattr(Plugin, method)
