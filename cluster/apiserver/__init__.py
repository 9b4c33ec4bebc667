"""The API server: the one door to the cluster's state.

Plays cmd/kube-apiserver and k8s.io/apiserver. A request passes `front` (authn, authz, limits), a
verb of `verbs/` or `subresources/`, `admission/` and `cluster.api.strategy`, and ends in the
store; `watchcache/` answers every read and watch from memory.
Promises: what is acknowledged is stored and seen by every later read. Leaves out, by name, what
upstream has beyond that: conversion webhooks, aggregated API servers, audit, priority levels.
"""

from cluster.apiserver.config import ApiServerConfig
from cluster.apiserver.server import ApiServer

__all__ = ["ApiServer", "ApiServerConfig"]
