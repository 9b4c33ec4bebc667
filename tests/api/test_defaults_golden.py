"""Defaults by example: each golden file holds what a user sends and what is stored for it."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import yaml

from tests.api.manifests import default, stored, update

CASES = sorted((Path(__file__).parent / "golden" / "defaulting").glob("*.yaml"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_new_object_is_stored_as_the_golden_file_says(path: Path) -> None:
    given, expected = yaml.safe_load_all(path.read_text())
    made = stored(given)
    for key in ("resourceVersion", "creationTimestamp"):
        del made["metadata"][key]
    assert made == expected


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_defaults_applied_twice_change_nothing(path: Path) -> None:
    _, expected = yaml.safe_load_all(path.read_text())
    _, again = yaml.safe_load_all(path.read_text())
    assert default(again) == expected


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_an_update_without_a_change_is_accepted_and_counts_nothing(path: Path) -> None:
    given, _ = yaml.safe_load_all(path.read_text())
    old = stored(given)
    new = orjson.loads(orjson.dumps(old))
    for subresource in ("", "status"):
        assert update(new, old, subresource) == []
        assert new == old
