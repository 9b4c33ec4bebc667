"""UIDs and times of objects."""

from __future__ import annotations

import random
import uuid

from cluster.api.meta import parse_rfc3339, rfc3339, rfc3339_micro, uid_maker


def test_uids_are_version_4_uuids_and_follow_their_seed() -> None:
    new_uid = uid_maker(random.Random(1))
    made = [new_uid() for _ in range(1000)]
    assert len(set(made)) == 1000
    for text in made:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant, str(parsed)) == (4, uuid.RFC_4122, text)
    assert uid_maker(random.Random(1))() == made[0]


def test_times_are_written_as_upstream_writes_them() -> None:
    assert rfc3339(1_767_225_600.9) == "2026-01-01T00:00:00Z"
    assert rfc3339_micro(1_767_225_600.25) == "2026-01-01T00:00:00.250000Z"
    assert parse_rfc3339("2026-01-01T00:00:00Z") == 1_767_225_600.0
