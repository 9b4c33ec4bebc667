"""kube-scheduler: finds a node for each pod that has none.

Plays pkg/scheduler. `Scheduler` is the whole of it; what it decides by are the plugins under
`plugins/`, configured by `SchedulerConfig` (KubeSchedulerConfiguration). Leaves out extenders,
dynamic resource allocation and gang scheduling: pods that need them wait and are told so.
"""

from cluster.scheduler.config import ConfigurationError, ProfileConfig, SchedulerConfig
from cluster.scheduler.scheduler import Scheduler

__all__ = ["ConfigurationError", "ProfileConfig", "Scheduler", "SchedulerConfig"]
