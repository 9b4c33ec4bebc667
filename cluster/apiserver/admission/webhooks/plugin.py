"""Both webhook plugins in one: mutating ones in turn, validating ones at once."""

from __future__ import annotations

import asyncio
import logging

import orjson

from cluster.api import patch, strategy
from cluster.api.errors import BadRequest, InternalError, StatusError
from cluster.api.meta import GVR, NewUid, Object
from cluster.apiserver.admission.webhooks.client import CallFailed, WebhookClient
from cluster.apiserver.admission.webhooks.configuration import Hook, Hooks
from cluster.apiserver.admission.webhooks.review import (
    BadAnswer,
    Verdict,
    denied,
    review_of,
    verdict_of,
)
from cluster.apiserver.attributes import AdmissionRequest, Operation, Registry
from cluster.apiserver.authz.messages import quoted

log = logging.getLogger(__name__)

_DRY_RUN_SAFE = ("None", "NoneOnDryRun")


class Webhooks:
    """See the room's sign. `handles` costs nothing while there is no configuration."""

    name = "Webhooks"

    def __init__(self, registry: Registry, client: WebhookClient, new_uid: NewUid) -> None:
        self._hooks = Hooks(registry)
        self._client = client
        self._new_uid = new_uid
        self._generation = 0

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        return bool(self._hooks.concerned(operation, gvr, subresource))

    async def prepare(self, request: AdmissionRequest) -> None:
        """Nothing to prepare."""

    async def admit(self, request: AdmissionRequest) -> None:
        """The mutating webhooks in the order of their configurations' names; those that want it are
        called once more if a later one changed the object."""
        if request.obj is None:
            return
        called: list[tuple[Hook, bytes]] = []
        for hook in self._hooks.matching("mutating", request):
            await self._mutate(hook, request)
            called.append((hook, _digest(request.obj)))
        for hook, seen in called:
            if hook.reinvoke and _digest(request.obj) != seen:
                await self._mutate(hook, request)

    async def validate(self, request: AdmissionRequest) -> None:
        """All validating webhooks together; the first refusal in order is the answer."""
        hooks = self._hooks.matching("validating", request)
        results = await asyncio.gather(
            *(self._ask(hook, request) for hook in hooks), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def close(self) -> None:
        await self._client.close()

    async def _mutate(self, hook: Hook, request: AdmissionRequest) -> None:
        verdict = await self._ask(hook, request)
        if verdict is None or not verdict.patch or request.obj is None:
            return
        try:
            changed = patch.json_patch(request.obj, verdict.patch)
            if not isinstance(changed.get("metadata"), dict):
                raise BadRequest("the object has lost its metadata")
            gvr = request.gvr
            strategy.default((gvr.group, gvr.version, request.kind), changed)
        except StatusError as error:
            raise InternalError(
                f"Internal error occurred: admission webhook {quoted(hook.name)} returned a patch"
                f" that does not apply: {error.message}"
            ) from None
        request.obj.clear()
        request.obj.update(changed)

    async def _ask(self, hook: Hook, request: AdmissionRequest) -> Verdict | None:
        """What the hook says; None if it could not be asked and that does not matter. Raises the
        refusal, or InternalError if it could not be asked and that does."""
        if request.dry_run and hook.side_effects not in _DRY_RUN_SAFE:
            raise BadRequest(f"admission webhook {quoted(hook.name)} does not support dry run")
        if self._generation != self._hooks.generation:
            self._generation = self._hooks.generation
            self._client.forget()
        uid = self._new_uid()
        try:
            body = review_of(request, uid)
            answer = await self._client.call(hook.client, body, hook.timeout_seconds)
            verdict = verdict_of(answer, uid, mutating=hook.kind == "mutating")
        except (CallFailed, BadAnswer) as error:
            verb = "failed to call webhook: " if isinstance(error, CallFailed) else ""
            message = f"failed calling webhook {quoted(hook.name)}: {verb}{error}"
            if hook.fail_open:
                log.warning("%s; failing open", message)
                return None
            raise InternalError(f"Internal error occurred: {message}") from None
        request.warnings.extend(verdict.warnings)
        if not verdict.allowed:
            raise denied(hook.name, verdict.status)
        return verdict


def _digest(obj: Object) -> bytes:
    return orjson.dumps(obj, option=orjson.OPT_SORT_KEYS)
