"""Writes golden/policy.json anew: `python -m tests.apiserver_auth.record_policy`."""

from __future__ import annotations

import asyncio
import json

from cluster.api.meta import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES
from cluster.apiserver.bootstrap import BootstrapConfig, ensure
from tests.apiserver_auth.fakes import FakeClock, FakeRegistry
from tests.apiserver_auth.test_rbac import GOLDEN


def main() -> None:
    registry = FakeRegistry()
    asyncio.run(ensure(registry, BootstrapConfig(), FakeClock()))
    found = {}
    for gvr in (CLUSTERROLES, CLUSTERROLEBINDINGS, ROLES, ROLEBINDINGS):
        for obj in registry.list(gvr):
            meta = obj["metadata"]
            key = "/".join(filter(None, (obj["kind"], meta.get("namespace"), meta["name"])))
            found[key] = {
                k: v for k, v in obj.items() if k not in ("apiVersion", "kind", "metadata")
            }
    lines = [f"{json.dumps(k)}: {json.dumps(found[k], sort_keys=True)}" for k in sorted(found)]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
