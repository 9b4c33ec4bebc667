"""Strategic merge patch: merge keys, directives, orders."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.errors import BadRequest, Invalid
from cluster.api.meta import Object
from cluster.api.schema import Schemas
from cluster.api.strategic import strategic_merge

POD = "io.k8s.api.core.v1.Pod"


@functools.cache
def schemas() -> Schemas:
    return Schemas()


def patched(obj: Object, patch: Any, name: str = POD) -> Object:
    return strategic_merge(obj, patch, schemas(), name)


def pod(*containers: Object, **spec: Any) -> Object:
    return {"metadata": {"name": "x"}, "spec": {"containers": list(containers), **spec}}


A, B = {"name": "a", "image": "1"}, {"name": "b", "image": "1"}


def test_containers_merge_by_name() -> None:
    result = patched(pod(A, B), {"spec": {"containers": [{"name": "b", "image": "2"}]}})
    assert result == pod(A, {"name": "b", "image": "2"})


def test_a_new_item_is_appended_without_its_nulls() -> None:
    result = patched(pod(A), {"spec": {"containers": [{"name": "c", "image": "3", "args": None}]}})
    assert {"name": "c", "image": "3"} in result["spec"]["containers"]


def test_null_deletes_and_atomic_lists_are_replaced() -> None:
    before = pod({**A, "args": ["x", "y"], "command": ["z"]})
    patch = {"spec": {"containers": [{"name": "a", "args": ["w"], "command": None}]}}
    assert patched(before, patch) == pod({**A, "args": ["w"]})


def test_an_item_is_deleted_by_directive() -> None:
    patch = {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}
    assert patched(pod(A, B), patch) == pod(B)


def test_a_list_is_replaced_by_directive() -> None:
    patch = {"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}}
    assert patched(pod(A, B), patch) == pod({"name": "z"})


def test_a_map_is_replaced_or_emptied_by_directive() -> None:
    before = {"metadata": {"labels": {"a": "1", "b": "2"}}}
    replaced = patched(before, {"metadata": {"labels": {"$patch": "replace", "c": "3"}}})
    assert replaced == {"metadata": {"labels": {"c": "3"}}}
    assert patched(before, {"metadata": {"labels": {"$patch": "delete"}}})["metadata"] == {
        "labels": {}
    }


def test_retain_keys_clears_what_a_union_does_not_name() -> None:
    before = pod(A, volumes=[{"name": "v", "emptyDir": {}}])
    volume = {"name": "v", "hostPath": {"path": "/"}, "$retainKeys": ["name", "hostPath"]}
    result = patched(before, {"spec": {"volumes": [volume]}})
    assert result["spec"]["volumes"] == [{"name": "v", "hostPath": {"path": "/"}}]


def test_the_deployment_strategy_retains_keys() -> None:
    name = "io.k8s.api.apps.v1.Deployment"
    before = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert patched(before, patch, name) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_primitive_lists_merge_and_give_up_items() -> None:
    before = {"metadata": {"finalizers": ["one", "two"]}}
    assert patched(before, {"metadata": {"finalizers": ["three", "two"]}})["metadata"][
        "finalizers"
    ] == ["three", "one", "two"]
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["one"]}}
    assert patched(before, patch)["metadata"]["finalizers"] == ["two"]


def test_an_order_can_be_set_without_touching_the_items() -> None:
    patch = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}
    assert patched(pod(A, B), patch) == pod(B, A)


def test_items_that_the_order_does_not_name_keep_their_place() -> None:
    server = {"name": "server", "image": "s"}
    patch = {
        "spec": {
            "$setElementOrder/containers": [{"name": "a"}, {"name": "new"}, {"name": "b"}],
            "containers": [{"name": "new", "image": "n"}],
        }
    }
    result = patched(pod(A, server, B), patch)
    names = [c["name"] for c in result["spec"]["containers"]]
    assert set(names) == {"a", "b", "new", "server"}
    assert [n for n in names if n != "server"] == ["a", "new", "b"]
    assert names.index("server") < names.index("b")


def test_ports_merge_by_their_patch_merge_key() -> None:
    port = {"containerPort": 80, "protocol": "TCP"}
    before = pod({**A, "ports": [port]})
    patch = {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "w"}]}]}}
    assert patched(before, patch) == pod({**A, "ports": [{**port, "name": "w"}]})


def test_a_list_item_without_its_merge_key_is_refused() -> None:
    with pytest.raises(Invalid):
        patched(pod(A), {"spec": {"containers": [{"image": "2"}]}})


def test_nonsense_is_refused() -> None:
    with pytest.raises(BadRequest):
        patched(pod(A), ["not", "a", "map"])
    with pytest.raises(BadRequest, match="Unknown patch type: explode"):
        patched(pod(A), {"spec": {"$patch": "explode"}})
    with pytest.raises(BadRequest, match="retainKeys"):
        patched(pod(A), {"spec": {"$retainKeys": ["a"], "nodeName": "n"}})


def test_the_arguments_stay_as_they_are() -> None:
    before, patch = pod(A, B), {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}
    patched(before, patch)
    assert before == pod(A, B)
    assert patch == {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}


def _name(item: Any) -> str:
    return str(item["name"])


_ENTRY: dict[str, st.SearchStrategy[str]] = {"name": st.sampled_from("XY"), "value": st.just("v")}
_CONTAINERS: st.SearchStrategy[list[Any]] = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("abcd")},
        optional={
            "image": st.sampled_from(["1", "2"]),
            "args": st.lists(st.sampled_from(["x", "y"]), min_size=1, max_size=2),
            "env": st.lists(
                st.fixed_dictionaries(_ENTRY),
                unique_by=_name, max_size=2,
            ),
        },
    ),
    unique_by=_name, max_size=4,
)  # fmt: skip


@given(_CONTAINERS, _CONTAINERS)
def test_a_strategic_patch_twice_is_a_strategic_patch_once(live: Any, given_items: Any) -> None:
    patch = {"spec": {"containers": given_items}}
    once = patched(pod(*live), patch)
    assert patched(once, patch) == once
    names = {c["name"] for c in once["spec"]["containers"]}
    assert names == {c["name"] for c in live} | {c["name"] for c in given_items}
