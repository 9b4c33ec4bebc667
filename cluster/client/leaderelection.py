"""One of several candidates leads: a Lease held for 15 s, renewed within 10 s, tried every 2 s.

Plays k8s.io/client-go/tools/leaderelection with the LeaseLock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from cluster.api.errors import AlreadyExists, Conflict, NotFound, StatusError
from cluster.api.meta import LEASES, Clock, Object, rfc3339_micro
from cluster.client.rest import Client

log = logging.getLogger(__name__)


class LeadershipLost(Exception):
    """The lease could not be renewed in time: stop acting as the leader at once."""


class LeaderElector:
    """One candidate. `identity` must differ between candidates."""

    def __init__(
        self,
        client: Client,
        name: str,
        identity: str,
        clock: Clock,
        *,
        namespace: str = "kube-system",
        lease_seconds: float = 15.0,
        renew_seconds: float = 10.0,
        retry_seconds: float = 2.0,
    ) -> None:
        self._client = client
        self._name = name
        self._identity = identity
        self._clock = clock
        self._namespace = namespace
        self._lease_seconds = lease_seconds
        self._renew_seconds = renew_seconds
        self._retry_seconds = retry_seconds
        self._observed: Object | None = None
        self._observed_at = 0.0

    @property
    def leading(self) -> bool:
        spec = (self._observed or {}).get("spec") or {}
        return bool(spec.get("holderIdentity") == self._identity)

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease, then run `lead` while renewing. Ends when `lead` ends. Raises
        LeadershipLost."""
        while not await self.try_once():  # noqa: ASYNC110 - the API has no event to wait for
            await asyncio.sleep(self._retry_seconds)
        leader = asyncio.ensure_future(lead())
        renewer = asyncio.ensure_future(self._renew())
        try:
            await asyncio.wait((leader, renewer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (leader, renewer):
                task.cancel()
            results = await asyncio.gather(leader, renewer, return_exceptions=True)
        if leader.done() and not leader.cancelled():
            leader.result()
            await self.release()
            return
        for result in results:
            if isinstance(result, LeadershipLost):
                raise result

    async def try_once(self) -> bool:
        """Take or renew the lease if that is allowed now."""
        now = self._clock.now()
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
        except NotFound:
            return await self._create(now)
        except StatusError as error:
            log.info("lease %s: %s", self._name, error)
            return False
        self._observe(lease)
        wanted = self.plan_lease(lease, now)
        if wanted is None:
            return False
        try:
            self._observe(await self._client.update(LEASES, wanted))
        except StatusError as error:
            if not isinstance(error, Conflict):
                log.info("lease %s: %s", self._name, error)
            return False
        return True

    def plan_lease(self, lease: Object, now: float) -> Object | None:
        """The lease as we want it written, or None: another one holds it. Expiry is counted on our
        own clock from when we saw it change, so that clocks may differ."""
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        mine = holder == self._identity
        if holder and not mine:
            held = float(spec.get("leaseDurationSeconds") or self._lease_seconds)
            if self._clock.monotonic() < self._observed_at + held:
                return None
        fresh = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(self._lease_seconds),
            "acquireTime": spec.get("acquireTime") if mine else rfc3339_micro(now),
            "renewTime": rfc3339_micro(now),
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (0 if mine else 1),
        }
        return {**lease, "spec": {**spec, **fresh}}

    async def release(self) -> None:
        """Let another candidate take over at once."""
        if not self.leading or self._observed is None:
            return
        spec = {**self._observed["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            self._observe(await self._client.update(LEASES, {**self._observed, "spec": spec}))
        except StatusError as error:
            log.info("lease %s: %s", self._name, error)

    async def _renew(self) -> None:
        renewed = self._clock.monotonic()
        while True:
            await asyncio.sleep(self._retry_seconds)
            if await self.try_once():
                renewed = self._clock.monotonic()
            elif self._clock.monotonic() - renewed > self._renew_seconds:
                raise LeadershipLost(self._name)

    async def _create(self, now: float) -> bool:
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(self._lease_seconds),
                "acquireTime": rfc3339_micro(now),
                "renewTime": rfc3339_micro(now),
                "leaseTransitions": 0,
            },
        }
        try:
            self._observe(await self._client.create(LEASES, lease, self._namespace))
        except AlreadyExists:
            return False
        except StatusError as error:
            log.info("lease %s: %s", self._name, error)
            return False
        return True

    def _observe(self, lease: Object) -> None:
        if self._observed is None or self._observed.get("spec") != lease.get("spec"):
            self._observed_at = self._clock.monotonic()
        self._observed = lease
