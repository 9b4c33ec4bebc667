"""Short names out of templates: pod-template-hash, controller-revision-hash.

Unlike Kubernetes: FNV-1a over sorted JSON instead of over Go's memory dump. Same shape, other
values.
"""

from __future__ import annotations

_SAFE = "bcdfghjklmnpqrstvwxz2456789"


def fnv1a(data: bytes, collision_count: int = 0) -> int:
    """32 bits; a collision count above 0 gives another value."""
    if collision_count:
        data += str(collision_count).encode()
    digest = 0x811C9DC5
    for byte in data:
        digest = ((digest ^ byte) * 0x01000193) & 0xFFFFFFFF
    return digest


def safe_encode(number: int) -> str:
    """Ten letters at most, none that could spell a word (rand.SafeEncodeString)."""
    return "".join(_SAFE[ord(c) % len(_SAFE)] for c in str(number))
