"""managedFields and server-side apply, after the tables of structured-merge-diff's own tests."""

from __future__ import annotations

import functools
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.apply import (
    BEFORE_FIRST_APPLY,
    LAST_APPLIED,
    MAX_UPDATE_MANAGERS,
    apply,
    manager_name,
    track,
)
from cluster.api.errors import BadRequest, Conflict
from cluster.api.fieldsets import (
    FieldSet,
    difference,
    intersection,
    path_text,
    paths,
    union,
    without_below,
)
from cluster.api.meta import Object
from cluster.api.schema import Schemas

DEPLOYMENT = "io.k8s.api.apps.v1.Deployment"
POD = "io.k8s.api.core.v1.Pod"
CONFIG_MAP = "io.k8s.api.core.v1.ConfigMap"
T0, T1, T2 = 1e9, 1e9 + 10, 1e9 + 20


@functools.cache
def schemas() -> Schemas:
    return Schemas()


def copy(obj: Object) -> Object:
    copied: Object = orjson.loads(orjson.dumps(obj))
    return copied


def deployment(**spec: Any) -> Object:
    containers = [{"name": "nginx", "image": "nginx:1", "resources": {}}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": containers},
            },
            **spec,
        },
    }


def created(obj: Object, manager: str = "kubectl-create") -> Object:
    obj = copy(obj)
    obj["metadata"]["uid"] = "u"
    track(schemas(), DEPLOYMENT, None, obj, manager=manager, now=T0)
    return obj


def applied(
    live: Object | None,
    config: Object,
    manager: str = "me",
    *,
    force: bool = False,
    now: float = T1,
) -> Object:
    name = DEPLOYMENT if config["kind"] == "Deployment" else CONFIG_MAP
    return apply(schemas(), name, live, copy(config), manager=manager, force=force, now=now)


def entry(obj: Object, manager: str) -> Object:
    (found,) = (e for e in obj["metadata"]["managedFields"] if e["manager"] == manager)
    return dict(found)


def fields(obj: Object, manager: str) -> list[str]:
    return [path_text(p) for p in paths(entry(obj, manager)["fieldsV1"])]


def config(**spec: Any) -> Object:
    meta = {"name": "web", "namespace": "default"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def test_a_creator_owns_what_it_set() -> None:
    """As a real API server answers to `kubectl create`: structs that Go embeds carry no dot."""
    found = entry(created(deployment()), "kubectl-create")
    assert found == {
        "manager": "kubectl-create",
        "operation": "Update",
        "apiVersion": "apps/v1",
        "time": "2001-09-09T01:46:40Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:selector": {},
                "f:template": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {
                        "f:containers": {
                            'k:{"name":"nginx"}': {
                                ".": {}, "f:name": {}, "f:image": {}, "f:resources": {},
                            }
                        }
                    },
                },
            },
        },
    }  # fmt: skip


def test_an_updater_takes_over_what_it_changed_and_no_more() -> None:
    old = created(deployment())
    new = copy(old)
    new["spec"]["replicas"] = 5
    new["metadata"]["annotations"] = {"a": "b"}
    track(schemas(), DEPLOYMENT, old, new, manager="scaler", now=T1)
    assert set(fields(new, "scaler")) == {
        ".spec.replicas", ".metadata.annotations", ".metadata.annotations.a",
    }  # fmt: skip
    assert ".spec.replicas" not in fields(new, "kubectl-create")
    assert entry(new, "kubectl-create")["time"] == "2001-09-09T01:46:40Z"


def test_removed_fields_belong_to_nobody() -> None:
    old = created(deployment())
    new = copy(old)
    del new["metadata"]["labels"]["app"]
    track(schemas(), DEPLOYMENT, old, new, manager="cleaner", now=T1)
    assert ".metadata.labels.app" not in fields(new, "kubectl-create")
    assert [e["manager"] for e in new["metadata"]["managedFields"]] == ["kubectl-create"]


def test_an_update_that_changes_nothing_leaves_the_entries_alone() -> None:
    old = created(deployment())
    new = copy(old)
    track(schemas(), DEPLOYMENT, old, new, manager="kubectl-create", now=T2)
    assert new == old


def test_a_client_that_drops_managed_fields_does_not_lose_them() -> None:
    old = created(deployment())
    new = copy(old)
    del new["metadata"]["managedFields"]
    track(schemas(), DEPLOYMENT, old, new, manager="old-client", now=T2)
    assert new == old
    reset = copy(old)
    reset["metadata"]["managedFields"] = [{}]
    track(schemas(), DEPLOYMENT, old, reset, manager="resetter", now=T2)
    assert "managedFields" not in reset["metadata"]


def test_objects_without_entries_stay_without() -> None:
    old, new = deployment(), deployment(replicas=9)
    track(schemas(), DEPLOYMENT, old, new, manager="any", now=T1)
    assert "managedFields" not in new["metadata"]


def test_status_is_owned_through_its_subresource_only() -> None:
    old = created({**deployment(), "status": {"replicas": 1}})
    assert not [f for f in fields(old, "kubectl-create") if f.startswith(".status")]
    new = copy(old)
    new["status"] = {"replicas": 2, "conditions": [{"type": "Available", "status": "True"}]}
    track(schemas(), DEPLOYMENT, old, new, manager="kcm", subresource="status", now=T1)
    mine = entry(new, "kcm")
    assert mine["subresource"] == "status"
    assert mine["fieldsV1"]["f:status"]["f:conditions"] == {
        ".": {}, 'k:{"type":"Available"}': {".": {}, "f:status": {}, "f:type": {}},
    }  # fmt: skip


def test_one_manager_may_have_an_entry_for_each_subresource() -> None:
    old = created(deployment(), "kcm")
    new = copy(old)
    new["status"] = {"replicas": 2}
    track(schemas(), DEPLOYMENT, old, new, manager="kcm", subresource="status", now=T1)
    found = [e.get("subresource", "") for e in new["metadata"]["managedFields"]]
    assert found == ["", "status"]


def test_too_many_updaters_are_folded_into_ancient_changes() -> None:
    obj = created(deployment())
    for i in range(MAX_UPDATE_MANAGERS + 3):
        new = copy(obj)
        new["metadata"]["labels"][f"l{i}"] = "x"
        track(schemas(), DEPLOYMENT, obj, new, manager=f"m{i:02}", now=T1 + i)
        obj = new
    managers = [e["manager"] for e in obj["metadata"]["managedFields"]]
    assert len(managers) == MAX_UPDATE_MANAGERS
    assert managers[0] == "ancient-changes"
    assert managers[-1] == "m12"
    everything = {f for m in managers for f in fields(obj, m)}
    assert {f".metadata.labels.l{i}" for i in range(13)} <= everything


def test_applying_something_new_creates_it_owned_by_the_applier() -> None:
    result = applied(None, deployment())
    mine = entry(result, "me")
    assert mine["operation"] == "Apply"
    assert mine["fieldsV1"]["f:metadata"] == {"f:labels": {"f:app": {}}}
    assert ".spec.selector" in fields(result, "me")
    assert result["spec"] == deployment()["spec"]


def test_a_conflict_names_manager_and_field() -> None:
    with pytest.raises(Conflict) as error:
        applied(created(deployment(), "kubectl"), config(replicas=5))
    assert error.value.message == (
        'Apply failed with 1 conflict: conflict with "kubectl" using apps/v1: .spec.replicas'
    )
    assert error.value.details == {
        "causes": [
            {
                "reason": "FieldManagerConflict",
                "message": 'conflict with "kubectl" using apps/v1',
                "field": ".spec.replicas",
            }
        ]
    }


def test_several_conflicts_are_listed_by_manager() -> None:
    live = created(deployment(), "kubectl")
    scaled = copy(live)
    scaled["spec"]["replicas"] = 4
    track(schemas(), DEPLOYMENT, live, scaled, manager="hpa", subresource="scale", now=T1)
    template = {"spec": {"containers": [{"name": "nginx", "image": "nginx:2"}]}}
    with pytest.raises(Conflict) as error:
        applied(scaled, config(replicas=5, template=template))
    assert error.value.message == (
        "Apply failed with 2 conflicts: "
        'conflicts with "hpa" with subresource "scale" using apps/v1:\n'
        "- .spec.replicas\n"
        'conflicts with "kubectl" using apps/v1:\n'
        '- .spec.template.spec.containers[name="nginx"].image'
    )


def test_a_conflict_with_an_applier_names_no_version() -> None:
    live = applied(None, deployment(), "one")
    with pytest.raises(Conflict, match=r'conflict with "one": \.spec\.replicas'):
        applied(live, config(replicas=5), "two")


def test_applying_the_same_value_shares_the_field() -> None:
    live = applied(None, deployment(), "one")
    both = applied(live, config(replicas=3), "two")
    assert ".spec.replicas" in fields(both, "one")
    assert ".spec.replicas" in fields(both, "two")


def test_force_takes_the_field_away() -> None:
    live = created(deployment(), "kubectl")
    result = applied(live, config(replicas=5), force=True)
    assert result["spec"]["replicas"] == 5
    assert fields(result, "me") == [".spec.replicas"]
    assert ".spec.replicas" not in fields(result, "kubectl")


def test_what_is_no_longer_applied_is_removed() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    container = {"name": "nginx", "env": env}
    live = created(deployment(), "kubectl")
    first = applied(live, config(template={"spec": {"containers": [container]}}))
    second_config = config(template={"spec": {"containers": [{"name": "nginx", "env": [env[1]]}]}})
    second = applied(first, second_config, now=T2)
    found = second["spec"]["template"]["spec"]["containers"][0]
    assert found == {**deployment()["spec"]["template"]["spec"]["containers"][0], "env": [env[1]]}
    nothing = {k: v for k, v in config().items() if k != "spec"}
    third = applied(second, nothing, now=T2)
    assert third["spec"] == live["spec"]
    assert "me" not in [e["manager"] for e in third["metadata"]["managedFields"]]


def test_what_another_manager_owns_too_is_kept() -> None:
    live = applied(None, deployment(), "one")
    both = applied(live, config(replicas=3), "two")
    result = applied(both, config(selector=deployment()["spec"]["selector"]), "two", now=T2)
    assert result["spec"]["replicas"] == 3
    assert ".spec.replicas" not in fields(result, "two")


def test_metadata_survives_an_apply_that_owns_none_of_it() -> None:
    meta = {"name": "web", "namespace": "default", "labels": {"x": "y"}}
    labelled = {**config(replicas=3), "metadata": meta}
    first = applied(created(deployment(), "kubectl"), labelled)
    assert first["metadata"]["labels"] == {"app": "web", "x": "y"}
    second = applied(first, config(replicas=3), now=T2)
    assert second["metadata"]["labels"] == {"app": "web"}
    assert second["metadata"]["uid"] == "u"
    assert second["metadata"]["name"] == "web"


def test_an_apply_that_changes_nothing_keeps_the_time() -> None:
    live = applied(None, deployment())
    assert applied(live, deployment(), now=T2) == live


def test_objects_from_before_tracking_belong_to_before_first_apply() -> None:
    live = deployment()
    with pytest.raises(Conflict, match=f'conflict with "{BEFORE_FIRST_APPLY}" using apps/v1'):
        applied(live, config(replicas=5))
    result = applied(live, config(replicas=5), force=True)
    managers = [e["manager"] for e in result["metadata"]["managedFields"]]
    assert managers == ["me", BEFORE_FIRST_APPLY]


def test_an_applied_configuration_may_not_carry_managed_fields() -> None:
    sent = created(deployment())
    with pytest.raises(BadRequest, match=r"metadata\.managedFields must be nil"):
        applied(None, sent)


def test_kubectl_takes_over_what_client_side_apply_left() -> None:
    left = config(replicas=3)
    text = orjson.dumps(left).decode()
    live = deployment()
    live["metadata"]["annotations"] = {LAST_APPLIED: text}
    live = created(live, "kubectl-client-side-apply")
    with pytest.raises(Conflict):
        applied(live, config(replicas=5), "argocd")
    result = applied(live, config(replicas=5), "kubectl")
    assert result["spec"]["replicas"] == 5
    renewed = orjson.loads(result["metadata"]["annotations"][LAST_APPLIED])
    assert renewed["spec"] == {"replicas": 5}
    live["spec"]["replicas"] = 4
    with pytest.raises(Conflict, match="kubectl-client-side-apply"):
        applied(live, config(replicas=5), "kubectl")


def test_atomic_lists_and_selectors_are_owned_whole() -> None:
    live = created(deployment(), "kubectl")
    result = applied(live, config(selector={"matchLabels": {"app": "web", "x": "y"}}), force=True)
    assert result["spec"]["selector"] == {"matchLabels": {"app": "web", "x": "y"}}
    assert fields(result, "me") == [".spec.selector"]


def test_ports_are_keyed_by_number_and_protocol_even_if_the_protocol_is_left_out() -> None:
    def with_port(**port: Any) -> Object:
        return config(template={"spec": {"containers": [{"name": "nginx", "ports": [port]}]}})

    live = applied(None, with_port(containerPort=80, protocol="TCP"), "one")
    result = applied(live, with_port(containerPort=80, name="web"), "two")
    ports = result["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert ports == [{"containerPort": 80, "protocol": "TCP", "name": "web"}]
    key = '.spec.template.spec.containers[name="nginx"].ports[containerPort=80,protocol="TCP"]'
    assert key in fields(result, "two")


def test_lists_that_are_sets_merge() -> None:
    def finalized(*names: str) -> Object:
        meta = {"name": "web", "namespace": "default", "finalizers": list(names)}
        return {**config(replicas=1), "metadata": meta}

    live = applied(None, finalized("a/one"), "one")
    both = applied(live, finalized("b/two"), "two")
    assert set(both["metadata"]["finalizers"]) == {"a/one", "b/two"}
    assert '.metadata.finalizers[="b/two"]' in fields(both, "two")
    less = applied(both, config(replicas=1), "two", now=T2)
    assert less["metadata"]["finalizers"] == ["a/one"]


def test_a_manager_is_named_after_its_user_agent() -> None:
    assert manager_name("", "kubectl/v1.37.0 (linux/amd64) kubernetes/abc") == "kubectl"
    assert manager_name("mine", "kubectl/v1") == "mine"


_LABELS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["1", "2"]), max_size=4)


def _map(data: dict[str, str]) -> Object:
    obj: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    return {**obj, "data": data} if data else obj


@given(
    st.lists(st.tuples(st.sampled_from(["one", "two", "three"]), _LABELS), min_size=1, max_size=6)
)
def test_forced_applies_leave_what_the_last_applier_said_and_nothing_unowned(
    turns: list[tuple[str, dict[str, str]]],
) -> None:
    live: Object | None = None
    for i, (manager, data) in enumerate(turns):
        live = applied(live, _map(data), manager, force=True, now=T0 + i)
        assert data.items() <= live.get("data", {}).items()
        assert applied(live, _map(data), manager, now=T2) == live
    assert live is not None
    owned: FieldSet = {}
    for found in live["metadata"].get("managedFields", ()):
        owned = union(owned, found["fieldsV1"])
    names = {path_text(p) for p in paths(owned) if len(p) == 2}
    assert names == {f".data.{key}" for key in live.get("data", {})}


_SETS: st.SearchStrategy[FieldSet] = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(
        st.sampled_from([".", "f:a", "f:b", "f:c"]), inner, max_size=3
    ).map(lambda d: {k: ({} if k == "." else v) for k, v in d.items() if k != "." or len(d) > 1}),
    max_leaves=10,
)


def members(node: FieldSet) -> set[tuple[str, ...]]:
    return set(paths({k: v for k, v in node.items() if k != "."}))


@given(_SETS, _SETS)
def test_field_sets_are_sets(a: FieldSet, b: FieldSet) -> None:
    a, b = ({k: v for k, v in s.items() if k != "."} for s in (a, b))
    before = orjson.dumps([a, b])
    assert members(union(a, b)) == members(a) | members(b)
    assert members(difference(a, b)) == members(a) - members(b)
    assert members(intersection(a, b)) == members(a) & members(b)
    covered = {p for p in members(a) if any(p[: len(q)] == q for q in members(b))}
    assert members(without_below(a, b)) == members(a) - covered
    assert orjson.dumps([a, b]) == before
