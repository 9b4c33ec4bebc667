"""Writes aggregated rules into the ClusterRoles that aggregate:
pkg/controller/clusterroleaggregation. The authorizer does not wait for it; clients that read the
role, and escalation checks of other API servers, see the same rules.

# Unlike Kubernetes: part of the API server instead of the controller manager, since it needs
# nothing but the roles, which are in memory here.
"""

from __future__ import annotations

import asyncio

from cluster.api.errors import StatusError
from cluster.api.meta import CLUSTERROLES, Object
from cluster.apiserver.attributes import Registry
from cluster.apiserver.authz.aggregation import aggregated_rules

DELAY_SECONDS = 0.1


class ClusterRoleAggregation:
    """Lives as long as the registry it subscribes to."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._roles: dict[str, Object] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        registry.subscribe(CLUSTERROLES, self._handle_role)

    async def reconcile(self) -> None:
        """Write every aggregating role whose rules are no longer those it selects."""
        for name, rules in self.plan().items():

            def change(role: Object, rules: list[Object] = rules) -> Object | None:
                return None if role.get("rules") == rules else {**role, "rules": rules}

            try:
                await self._registry.update(CLUSTERROLES, "", name, change)
            except StatusError:
                continue  # gone, or written by somebody else: its event brings us back

    def plan(self) -> dict[str, list[Object]]:
        """name -> rules to store, of the roles that have others."""
        planned: dict[str, list[Object]] = {}
        for name, role in sorted(self._roles.items()):
            if not role.get("aggregationRule"):
                continue
            rules = [dict(rule) for rule in aggregated_rules(role, self._roles.values())]
            if rules != (role.get("rules") or []):
                planned[name] = rules
        return planned

    def _handle_role(self, old: Object | None, new: Object | None) -> None:
        role = new or old
        assert role is not None
        if new is not None:
            self._roles[new["metadata"]["name"]] = new
        else:
            self._roles.pop(role["metadata"]["name"], None)
        if self._timer is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return  # changed outside of a loop: whoever does that calls reconcile
            self._timer = loop.call_later(DELAY_SECONDS, self._start)

    def _start(self) -> None:
        self._timer = None
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self.reconcile())
        else:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(DELAY_SECONDS, self._start)
