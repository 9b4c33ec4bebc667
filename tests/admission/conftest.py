from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from cluster.api.meta import GVR, PODS, SERVICEACCOUNTS, Object
from cluster.apiserver.admission import AdmissionChain, build_chain
from cluster.apiserver.attributes import AdmissionRequest, Operation, UserInfo
from cluster.apiserver.authz import Authorization
from cluster.apiserver.bootstrap import BootstrapConfig, ensure
from tests.apiserver_auth.fakes import FakeClock, FakeRegistry, named, user

ANN = user("ann")


class World:
    """A bootstrapped registry and the whole chain over it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.registry = FakeRegistry()
        asyncio.run(ensure(self.registry, BootstrapConfig(), self.clock))
        self.registry.put(SERVICEACCOUNTS, named("default", "default"))
        self.authorization = Authorization(self.registry)
        self.chain: AdmissionChain = build_chain(
            self.registry, self.authorization, self.clock, random.Random(7)
        )

    def request(
        self,
        operation: Operation,
        gvr: GVR,
        obj: Object | None,
        old: Object | None = None,
        *,
        who: UserInfo = ANN,
        subresource: str = "",
        dry_run: bool = False,
    ) -> AdmissionRequest:
        meta = (obj or old or {})["metadata"]
        return AdmissionRequest(
            operation,
            gvr,
            "Kind",
            meta.get("namespace", ""),
            meta.get("name", ""),
            subresource,
            who,
            obj,
            old,
            dry_run,
        )

    def create(self, gvr: GVR, obj: Object, **more: Any) -> Object:
        """Admit and store."""
        request = self.request("CREATE", gvr, obj, **more)
        self.chain.admit(request)
        if not request.dry_run and not request.subresource:
            self.registry.put(gvr, obj)
        return obj

    def create_pod(self, name: str = "web", **spec: Any) -> Object:
        return self.create(PODS, pod(name, **spec))


def pod(name: str = "web", namespace: str = "default", **spec: Any) -> Object:
    return named(name, namespace, spec={"containers": [{"name": "c", "image": "nginx"}], **spec})


@pytest.fixture
def world() -> World:
    return World()
