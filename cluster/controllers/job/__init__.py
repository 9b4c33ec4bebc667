"""Jobs and CronJobs (pkg/controller/job, pkg/controller/cronjob, pkg/controller/ttlafterfinished).

`plan` decides what a Job needs, `pods` makes its pods, `schedule` knows when a CronJob is due. Not
yet: podFailurePolicy, successPolicy, backoffLimitPerIndex (refused by nobody, ignored here),
managedBy is honoured.
"""

from cluster.controllers.job.controller import JobController
from cluster.controllers.job.cronjob import CronJobController
from cluster.controllers.job.ttl import TtlAfterFinishedController

__all__ = ["CronJobController", "JobController", "TtlAfterFinishedController"]
