"""What a controller has asked for and not yet seen come back through its watch.

Plays ControllerExpectations of pkg/controller/controller_utils.go: a controller does not count pods
again before the creations and deletions it ordered are in its cache, or five minutes have passed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cluster.api.meta import Clock

TIMEOUT_SECONDS = 300.0


@dataclass(slots=True)
class _Expectation:
    creations: int
    deletions: set[str] = field(default_factory=set)
    since: float = 0.0


class Expectations:
    """Per controller key: creations by number, deletions by pod UID."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_key: dict[str, _Expectation] = {}

    def expect_creations(self, key: str, count: int) -> None:
        self._by_key[key] = _Expectation(count, since=self._clock.monotonic())

    def expect_deletions(self, key: str, uids: Iterable[str]) -> None:
        self._by_key[key] = _Expectation(0, set(uids), self._clock.monotonic())

    def creation_observed(self, key: str, count: int = 1) -> None:
        found = self._by_key.get(key)
        if found is not None:
            found.creations -= count

    def deletion_observed(self, key: str, uid: str) -> None:
        found = self._by_key.get(key)
        if found is not None:
            found.deletions.discard(uid)

    def pending_deletions(self, key: str) -> frozenset[str]:
        """UIDs that were ordered to go and have not been seen to."""
        found = self._by_key.get(key)
        if found is None or self._clock.monotonic() - found.since > TIMEOUT_SECONDS:
            return frozenset()
        return frozenset(found.deletions)

    def satisfied(self, key: str) -> bool:
        """True when nothing is outstanding, when it is too long ago, or when nothing was ever
        expected."""
        found = self._by_key.get(key)
        if found is None:
            return True
        if found.creations <= 0 and not found.deletions:
            return True
        return self._clock.monotonic() - found.since > TIMEOUT_SECONDS

    def forget(self, key: str) -> None:
        self._by_key.pop(key, None)
