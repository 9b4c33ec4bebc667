"""What is worth sending again, and when. Plays k8s.io/client-go/rest/with_retry.go."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.api.errors import ServiceUnavailable, StatusError, TooManyRequests


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `attempts` in all, waiting `base_seconds` * 2**n up to `cap_seconds`, half of it by
    chance."""

    attempts: int = 12
    base_seconds: float = 0.05
    cap_seconds: float = 1.0
    chance: Callable[[], float] = field(default=random.Random(0).random)

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the `attempt`-th try (1 is the first) failed."""
        full = min(self.cap_seconds, self.base_seconds * 2.0 ** (attempt - 1))
        return full * (0.5 + 0.5 * self.chance())


def idempotent(method: str) -> bool:
    """Whether a request that may or may not have been carried out can be repeated. An update that
    was carried out answers Conflict and a delete NotFound: both tell the caller to look again."""
    return method != "POST"


def retry_after(error: StatusError, path: str) -> float | None:
    """Seconds the server wants us to wait, or None: this error is final."""
    if isinstance(error, TooManyRequests):
        # An eviction's 429 is the disruption budget's verdict, not overload.
        return None if path.partition("?")[0].endswith("/eviction") else error.retry_after_seconds
    if isinstance(error, ServiceUnavailable):
        return 0.0
    return None
