"""The only way a component talks to the API: requests, batches, informers, work queues, events,
leader election.

Plays k8s.io/client-go. Start here: `ClientConfig.from_kubeconfig(path).connect()` gives a `Client`;
`InformerFactory(client).informer(PODS)` a current copy of a resource; `run_workers(WorkQueue(...),
reconcile, 10)` a controller. Nothing in this room knows who its user is.
"""

from cluster.client.batch import BATCH_PATH, Batcher
from cluster.client.config import ClientConfig, ConfigError
from cluster.client.events import EventRecorder
from cluster.client.flow import FlowReporter
from cluster.client.informer import Change, Informer, InformerFactory
from cluster.client.leaderelection import LeaderElector, LeadershipLost
from cluster.client.rest import Client, ObjectList, WatchEvent
from cluster.client.retry import RetryPolicy
from cluster.client.transport import Answer, HttpTransport, Transport, Unreachable
from cluster.client.workqueue import ShutDown, WorkQueue, reconcile_one, run_workers

__all__ = [
    "BATCH_PATH",
    "Answer",
    "Batcher",
    "Change",
    "Client",
    "ClientConfig",
    "ConfigError",
    "EventRecorder",
    "FlowReporter",
    "HttpTransport",
    "Informer",
    "InformerFactory",
    "LeaderElector",
    "LeadershipLost",
    "ObjectList",
    "RetryPolicy",
    "ShutDown",
    "Transport",
    "Unreachable",
    "WatchEvent",
    "WorkQueue",
    "reconcile_one",
    "run_workers",
]
