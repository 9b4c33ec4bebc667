"""JSON patch and merge patch."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.errors import BadRequest, Invalid, RequestEntityTooLarge
from cluster.api.patch import go_text, json_patch, merge_patch, undecodable

Ops = list[dict[str, Any]]


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/a/-", "value": 3}], {"a": [1, 2, 3], "b": {"c": 1}}),
        ([{"op": "add", "path": "/a/0", "value": 0}], {"a": [0, 1, 2], "b": {"c": 1}}),
        ([{"op": "remove", "path": "/a/-1"}], {"a": [1], "b": {"c": 1}}),
        ([{"op": "replace", "path": "/b/c", "value": {}}], {"a": [1, 2], "b": {"c": {}}}),
        ([{"op": "move", "from": "/b/c", "path": "/x~1y"}], {"a": [1, 2], "b": {}, "x/y": 1}),
        ([{"op": "copy", "from": "/a", "path": "/b/a"}], {"a": [1, 2], "b": {"c": 1, "a": [1, 2]}}),
        ([{"op": "test", "path": "/b", "value": {"c": 1}}], {"a": [1, 2], "b": {"c": 1}}),
        ([{"op": "test", "path": "/gone", "value": None}], {"a": [1, 2], "b": {"c": 1}}),
        ([], {"a": [1, 2], "b": {"c": 1}}),
    ],
)
def test_a_json_patch_does_what_it_says(operations: Ops, result: Any) -> None:
    before = {"a": [1, 2], "b": {"c": 1}}
    assert json_patch(before, operations) == result
    assert before == {"a": [1, 2], "b": {"c": 1}}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/gone"},
        {"op": "replace", "path": "/gone", "value": 1},
        {"op": "add", "path": "/a/5", "value": 1},
        {"op": "add", "path": "/gone/deeper", "value": 1},
        {"op": "test", "path": "/b/c", "value": True},
        {"op": "test", "path": "/b/c", "value": 2},
        {"op": "replace", "path": "/a/x", "value": 1},
        {"op": "frobnicate", "path": "/a"},
        {"path": "/a"},
        {"op": "add", "path": "a", "value": 1},
        {"op": "replace", "path": "", "value": []},
        "nonsense",
    ],
)
def test_a_json_patch_that_does_not_apply_is_answered_422(operation: Any) -> None:
    with pytest.raises(Invalid) as error:
        json_patch({"a": [1, 2], "b": {"c": 1}}, [operation])
    assert error.value.message == ("the server rejected our request due to an error in our request")


def test_a_json_patch_must_be_a_list_of_bounded_length() -> None:
    with pytest.raises(BadRequest):
        json_patch({}, {"op": "add"})
    with pytest.raises(RequestEntityTooLarge, match="is 10000, got 10001"):
        json_patch({}, [{"op": "test", "path": "/x", "value": None}] * 10_001)


def test_a_patched_object_that_does_not_decode_is_answered_in_upstreams_words() -> None:
    patch = {"spec": {"replicaz": 2, "replicas": None, "paused": True, "l": ["a", 1]}}
    error = undecodable(go_text(patch), 'strict decoding error: unknown field "spec.replicaz"')
    assert error.code == 422
    assert error.message == (
        ' "" is invalid: patch: Invalid value: '
        '"map[spec:map[l:[a 1] paused:true replicas:<nil> replicaz:2]]": '
        'strict decoding error: unknown field "spec.replicaz"'
    )


def test_a_merge_patch_deletes_with_null_and_replaces_lists() -> None:
    before = {"a": {"b": 1, "c": 2}, "l": [1, 2]}
    patch = {"a": {"b": None, "d": {"e": None, "f": 1}}, "l": [3]}
    assert merge_patch(before, patch) == {"a": {"c": 2, "d": {"f": 1}}, "l": [3]}
    assert before == {"a": {"b": 1, "c": 2}, "l": [1, 2]}


def test_a_merge_patch_must_be_an_object() -> None:
    with pytest.raises(BadRequest, match="cannot unmarshal array"):
        merge_patch({}, [])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "x", "y"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "/", "~"]), inner, max_size=3)
    ),
    max_leaves=12,
)
_OBJECTS = st.dictionaries(st.sampled_from(["a", "b", "c"]), _JSON, max_size=3)


@given(_OBJECTS, _OBJECTS)
def test_a_merge_patch_twice_is_a_merge_patch_once(obj: Any, patch: Any) -> None:
    once = merge_patch(obj, patch)
    assert merge_patch(once, patch) == once


@given(_OBJECTS)
def test_an_empty_patch_changes_nothing(obj: Any) -> None:
    assert merge_patch(obj, {}) == obj
    assert json_patch(obj, []) == obj


@given(_OBJECTS, _OBJECTS)
def test_adding_every_field_by_json_patch_reaches_the_goal(obj: Any, goal: Any) -> None:
    def escaped(key: str) -> str:
        return key.replace("~", "~0").replace("/", "~1")

    steps = [{"op": "remove", "path": "/" + escaped(k)} for k in obj]
    steps += [{"op": "add", "path": "/" + escaped(k), "value": v} for k, v in goal.items()]
    assert json_patch(obj, steps) == goal


@given(_OBJECTS, st.lists(st.fixed_dictionaries({
    "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]),
    "path": st.sampled_from(["", "/a", "/a/0", "/a/-", "/b/a", "/c/-1", "/~1", "x"]),
    "from": st.sampled_from(["/a", "/b/a", "/a/0", ""]),
    "value": _JSON,
}), max_size=4))  # fmt: skip
def test_any_json_patch_applies_or_is_refused(obj: Any, operations: Ops) -> None:
    try:
        assert isinstance(json_patch(obj, operations), dict)
    except Invalid:
        pass
