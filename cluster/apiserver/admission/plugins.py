"""Which plugins there are and in which order they run: pkg/kubeapiserver/options/plugins.go."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence

from cluster.api.meta import Clock
from cluster.apiserver.admission.accountwait import DefaultAccountWait
from cluster.apiserver.admission.chain import AdmissionChain, AsyncAdmissionPlugin
from cluster.apiserver.admission.escalation import RbacEscalation
from cluster.apiserver.admission.ingress import DefaultIngressClass
from cluster.apiserver.admission.limitranger import LimitRanger
from cluster.apiserver.admission.namespacelifecycle import NamespaceLifecycle
from cluster.apiserver.admission.noderestriction import NodeRestriction
from cluster.apiserver.admission.notemulated import NotEmulatedYet
from cluster.apiserver.admission.pods import (
    DefaultTolerationSeconds,
    Priority,
    RuntimeClass,
    TaintNodesByCondition,
)
from cluster.apiserver.admission.podsecurity import PodSecurity
from cluster.apiserver.admission.quota import ResourceQuota
from cluster.apiserver.admission.serviceaccount import ServiceAccount, new_suffix
from cluster.apiserver.admission.storage import (
    DefaultStorageClass,
    PersistentVolumeClaimResize,
    StorageObjectInUseProtection,
)
from cluster.apiserver.admission.webhooks import Webhooks
from cluster.apiserver.admission.webhooks.client import WebhookClient, cluster_ip_resolver
from cluster.apiserver.attributes import AdmissionPlugin, Registry
from cluster.apiserver.authz import Authorization

PLUGIN_ORDER = (
    "NamespaceLifecycle",
    "LimitRanger",
    "ServiceAccount",
    "NodeRestriction",
    "TaintNodesByCondition",
    "PodSecurity",
    "Priority",
    "DefaultTolerationSeconds",
    "DefaultStorageClass",
    "StorageObjectInUseProtection",
    "PersistentVolumeClaimResize",
    "RuntimeClass",
    "DefaultIngressClass",
    "RBACEscalation",
    "NotEmulated",
    "ResourceQuota",
)
"""Upstream's order. The webhooks run between RuntimeClass and ResourceQuota there; the chain calls
them in its async half."""


def build_chain(
    registry: Registry,
    authorization: Authorization,
    clock: Clock,
    rng: random.Random,
    *,
    disabled: Sequence[str] = (),
    webhooks: Sequence[AsyncAdmissionPlugin] | None = None,
) -> AdmissionChain:
    """The chain, without the plugins named in `disabled` (--disable-admission-plugins). Raises
    ValueError for a name that is none. `webhooks` None: those of the cluster's configurations."""
    unknown = set(disabled) - set(PLUGIN_ORDER)
    if unknown:
        raise ValueError(f"no such admission plugin: {', '.join(sorted(unknown))}")
    makers: dict[str, Callable[[], AdmissionPlugin]] = {
        "NamespaceLifecycle": lambda: NamespaceLifecycle(registry),
        "LimitRanger": lambda: LimitRanger(registry),
        "ServiceAccount": lambda: ServiceAccount(registry, new_suffix(rng.choice)),
        "NodeRestriction": lambda: NodeRestriction(registry),
        "TaintNodesByCondition": TaintNodesByCondition,
        "PodSecurity": lambda: PodSecurity(registry),
        "Priority": lambda: Priority(registry),
        "DefaultTolerationSeconds": DefaultTolerationSeconds,
        "DefaultStorageClass": lambda: DefaultStorageClass(registry),
        "StorageObjectInUseProtection": StorageObjectInUseProtection,
        "PersistentVolumeClaimResize": lambda: PersistentVolumeClaimResize(registry),
        "RuntimeClass": lambda: RuntimeClass(registry),
        "DefaultIngressClass": lambda: DefaultIngressClass(registry),
        "RBACEscalation": lambda: RbacEscalation(authorization),
        "NotEmulated": NotEmulatedYet,
        "ResourceQuota": lambda: ResourceQuota(registry, clock),
    }
    wanted = [name for name in PLUGIN_ORDER if name not in disabled]
    if webhooks is None:
        client = WebhookClient(cluster_ip_resolver(registry))
        uid = uuid.UUID
        webhooks = [
            DefaultAccountWait(registry),
            Webhooks(registry, client, lambda: str(uid(int=rng.getrandbits(128), version=4))),
        ]
    return AdmissionChain([makers[name]() for name in wanted], webhooks)
