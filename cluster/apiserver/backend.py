"""What every verb works with: the composed parts of one API server."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.api.catalogue import Catalogue, Resource
from cluster.api.meta import Clock, NewUid
from cluster.api.schema import Schemas
from cluster.apiserver.config import ApiServerConfig
from cluster.apiserver.watchcache import ResourceCache, Storage

if TYPE_CHECKING:
    from cluster.apiserver.admission.chain import AdmissionChain
    from cluster.apiserver.allocators import ServiceAllocators
    from cluster.apiserver.authn import Authentication
    from cluster.apiserver.authz import Authorization
    from cluster.apiserver.flow import FlowLog
    from cluster.apiserver.kubelets import Kubelets
    from cluster.apiserver.registry import CacheRegistry
    from cluster.apiserver.tokens import ServiceAccountTokens
    from cluster.metrics.apiserver import ApiServerMetrics


@dataclass(slots=True)
class Backend:
    """See the module. Made once by `ApiServer`; nothing in it changes after the start."""

    config: ApiServerConfig
    catalogue: Catalogue
    schemas: Schemas
    storage: Storage
    registry: CacheRegistry
    admission: AdmissionChain
    authorization: Authorization
    allocators: ServiceAllocators
    metrics: ApiServerMetrics
    clock: Clock
    rng: random.Random
    new_uid: NewUid
    flow: FlowLog
    tokens: ServiceAccountTokens | None
    authentication: Authentication
    kubelets: Kubelets

    def cache(self, resource: Resource) -> ResourceCache:
        return self.storage.cache(resource.group, resource.plural)
