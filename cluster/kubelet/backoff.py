"""Exponential back-off by key: 10 s doubled to 300 s, forgotten after twice the maximum.

Plays k8s.io/client-go/util/flowcontrol.Backoff as the kubelet uses it for crashes and pulls.
"""

from __future__ import annotations


class Backoff:
    """Delays by key; times are monotonic or wall seconds, as the caller likes."""

    __slots__ = ("_entries", "_initial", "_maximum")

    def __init__(self, initial_seconds: float, maximum_seconds: float) -> None:
        self._initial = initial_seconds
        self._maximum = maximum_seconds
        self._entries: dict[str, tuple[float, float]] = {}

    def get(self, key: str) -> float:
        """The delay in force, 0 if there is none."""
        entry = self._entries.get(key)
        return entry[0] if entry else 0.0

    def waits_until(self, key: str, since: float, now: float) -> float:
        """When the key may be tried again if the last try was at `since`; 0.0: now."""
        entry = self._entries.get(key)
        if entry is None or self._expired(since, entry[1]):
            return 0.0
        until = since + entry[0]
        return until if now < until else 0.0

    def next(self, key: str, now: float) -> None:
        """Count one more try."""
        entry = self._entries.get(key)
        if entry is None or self._expired(now, entry[1]):
            self._entries[key] = (self._initial, now)
        else:
            self._entries[key] = (min(entry[0] * 2, self._maximum), now)

    def reset(self, key: str) -> None:
        self._entries.pop(key, None)

    def _expired(self, now: float, last: float) -> bool:
        return now - last > self._maximum * 2
