"""Jobs and CronJobs (pkg/controller/job, pkg/controller/cronjob, pkg/controller/ttlafterfinished).

`plan` decides what a Job needs, `pods` makes its pods, `schedule` knows when a CronJob is due.
`policies` reads podFailurePolicy, successPolicy and backoffLimitPerIndex. A Job that names another
controller in managedBy is left to that one.
"""

from cluster.controllers.job.controller import JobController
from cluster.controllers.job.cronjob import CronJobController
from cluster.controllers.job.ttl import TtlAfterFinishedController

__all__ = ["CronJobController", "JobController", "TtlAfterFinishedController"]
