"""Tables for the smaller decisions: owners, taints, zones, silence, ranges, schedules, slices."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cluster.api.meta import CONFIGMAPS, Object, rfc3339
from cluster.controllers.endpointslice.endpoint import Endpoint, target_port
from cluster.controllers.endpointslice.slices import SliceSet
from cluster.controllers.garbagecollector.graph import (
    Delete,
    DropOwners,
    Finish,
    Graph,
    Keep,
    ReleaseDependents,
    Unblock,
    Verify,
)
from cluster.controllers.job.pods import format_indexes, parse_indexes
from cluster.controllers.job.schedule import parse_schedule
from cluster.controllers.node.health import Heartbeat, plan_silence
from cluster.controllers.node.ipam import CidrSet, NoRangeLeft, mask_size
from cluster.controllers.node.tainteviction import plan_stay, tolerates
from cluster.controllers.node.taints import plan_no_execute, plan_no_schedule
from cluster.controllers.node.zones import (
    FULL,
    NORMAL,
    PARTIAL,
    Bucket,
    Rates,
    zone_rates,
    zone_state,
)

NOW = 1_000_000.0


# Garbage


def obj(
    name: str, *owners: str, namespace: str = "ns", blocks: bool = False, **meta: object
) -> Object:
    refs = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": o, "uid": o, "blockOwnerDeletion": blocks}
        for o in owners
    ]
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": name,
            "ownerReferences": refs,
            **meta,
        }
    }


def graph_of(*objects: Object) -> Graph:
    graph = Graph()
    for each in objects:
        graph.handle(CONFIGMAPS, each, None)
    return graph


def test_a_dependent_goes_when_its_last_owner_went() -> None:
    graph = graph_of(obj("a"), obj("b"), obj("c", "a", "b"))
    assert graph.decide("c") == Keep()
    assert graph.handle(CONFIGMAPS, None, obj("a")) == ["c"]
    assert graph.decide("c") == DropOwners(("a",))
    graph.handle(CONFIGMAPS, None, obj("b"))
    assert graph.decide("c") == Delete("Background")


def test_an_owner_that_nobody_has_seen_must_be_asked_for() -> None:
    graph = Graph()
    assert graph.handle(CONFIGMAPS, obj("c", "ghost"), None) == ["c"]
    verdict = graph.decide("c")
    assert isinstance(verdict, Verify) and verdict.owners[0].uid == "ghost"
    assert graph.mark_absent("ghost") == ["c"]
    assert graph.decide("c") == Delete("Background")


def test_an_owner_that_comes_later_than_its_dependent_keeps_it() -> None:
    graph = graph_of(obj("c", "late"))
    assert "c" in graph.handle(CONFIGMAPS, obj("late"), None)
    assert graph.decide("c") == Keep()


def test_an_owner_in_another_namespace_does_not_count() -> None:
    graph = graph_of(obj("a", namespace="other"), obj("c", "a"))
    assert graph.decide("c") == Delete("Background")


def test_foreground_waits_for_blocking_dependents_and_deletes_them() -> None:
    deleting = {"deletionTimestamp": "x", "finalizers": ["foregroundDeletion"]}
    graph = graph_of(obj("a"), obj("b", "a", blocks=True), obj("leaf", "b"))
    work = graph.handle(CONFIGMAPS, obj("a", **deleting), obj("a"))
    assert set(work) == {"a", "b"}
    assert graph.decide("a") == Keep()
    assert graph.decide("b") == Delete("Foreground"), "it has dependents of its own"
    assert "a" in graph.handle(CONFIGMAPS, None, obj("b", "a", blocks=True))
    assert graph.decide("a") == Finish()


def test_a_circle_of_foreground_deletions_is_broken() -> None:
    deleting = {"deletionTimestamp": "x", "finalizers": ["foregroundDeletion"]}
    graph = graph_of(obj("a", "b", blocks=True, **deleting), obj("b", "a", blocks=True))
    assert graph.decide("b") == Unblock()


def test_orphaning_lets_dependents_go_first() -> None:
    graph = graph_of(obj("a"), obj("b", "a"))
    work = graph.handle(
        CONFIGMAPS, obj("a", deletionTimestamp="x", finalizers=["orphan"]), obj("a")
    )
    assert work == ["a"] and graph.decide("a") == ReleaseDependents(("b",))


def test_an_object_replaced_under_its_name_is_another_object() -> None:
    graph = graph_of(obj("a"), obj("c", "a"))
    again = {"metadata": {"name": "a", "namespace": "ns", "uid": "a2"}}
    assert "c" in graph.handle(CONFIGMAPS, again, obj("a"))
    assert graph.decide("c") == Delete("Background")


# Nodes


def node(ready: str = "True", taints: list[Object] | None = None, **spec: object) -> Object:
    return {
        "metadata": {"name": "n", "creationTimestamp": rfc3339(NOW)},
        "spec": {**({"taints": taints} if taints else {}), **spec},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (node(), None),
        (node(taints=[NOT_READY]), []),
        (node("False", [NOT_READY]), None),
        (node("Unknown", [NOT_READY]), ["unreachable"]),
        (node(unschedulable=True), ["unschedulable"]),
        (node(taints=[{"key": "mine", "effect": "NoSchedule"}]), None),
    ],
)
def test_no_schedule_taints_follow_conditions_and_leave_others_alone(given, want) -> None:
    found = plan_no_schedule(given, NOW)
    assert (None if found is None else [t["key"].rpartition("/")[2] for t in found]) == want


def test_no_execute_taints_swap_and_go() -> None:
    tainted = node("Unknown", [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}])
    found = plan_no_execute(tainted, "node.kubernetes.io/unreachable", NOW)
    assert found == [
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": rfc3339(NOW)}
    ]
    assert plan_no_execute(tainted, "", NOW) == [] and plan_no_execute(node(), "", NOW) is None


def test_silence_is_judged_by_our_own_clock_and_told_in_upstreams_words() -> None:
    heart = Heartbeat(0.0)
    assert not heart.is_silent(59, 40, 60) and heart.is_silent(61, 40, 60), (
        "it may still be starting"
    )
    heart.handle_status(node(), 10.0)
    heart.handle_lease({"spec": {"renewTime": "t1"}}, 20.0)
    heart.handle_lease({"spec": {"renewTime": "t1"}}, 50.0)
    assert not heart.is_silent(60, 40, 60) and heart.is_silent(60.1, 40, 60)
    conditions = plan_silence(node(), NOW) or []
    by_type = {c["type"]: c for c in conditions}
    assert by_type["Ready"]["message"] == "Kubelet stopped posting node status."
    assert by_type["DiskPressure"]["reason"] == "NodeStatusNeverUpdated"
    assert plan_silence({**node(), "status": {"conditions": conditions}}, NOW) is None


@pytest.mark.parametrize(
    ("ready", "sick", "want"),
    [(10, 0, NORMAL), (0, 4, FULL), (2, 3, PARTIAL), (3, 2, NORMAL), (9, 3, NORMAL)],
)
def test_a_zone_is_judged_by_its_share_of_sick_nodes(ready, sick, want) -> None:
    assert zone_state(ready, sick, Rates()) == want


def test_rates_stop_when_all_is_dark_and_slow_down_in_large_sick_zones() -> None:
    assert zone_rates({"a": (0, 5), "b": (0, 9)}, Rates()) == {"a": 0.0, "b": 0.0}
    assert zone_rates({"a": (0, 5), "b": (9, 0)}, Rates()) == {"a": 0.1, "b": 0.1}
    assert zone_rates({"a": (20, 40), "b": (9, 0)}, Rates())["a"] == 0.01
    assert zone_rates({"a": (2, 4), "b": (9, 0)}, Rates())["a"] == 0.0


def test_a_bucket_lets_one_through_and_then_one_every_ten_seconds() -> None:
    bucket = Bucket({"a": None, "b": None})
    assert bucket.take(0.0) == "a" and bucket.take(5.0) is None and bucket.take(10.0) == "b"


@pytest.mark.parametrize(
    ("toleration", "want"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, True),
        ({"key": "k", "operator": "Exists", "effect": "NoSchedule"}, False),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "operator": "Equal", "value": "w"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations(toleration, want) -> None:
    assert tolerates(toleration, {"key": "k", "value": "v", "effect": "NoExecute"}) is want


def test_a_pod_stays_as_long_as_its_shortest_toleration() -> None:
    taints = [{"key": "a", "effect": "NoExecute"}, {"key": "b", "effect": "NoExecute"}]

    def spec(*seconds: int | None) -> Object:
        pairs = zip("ab", seconds, strict=False)
        return {
            "spec": {
                "tolerations": [
                    {
                        "key": k,
                        "operator": "Exists",
                        **({} if s is None else {"tolerationSeconds": s}),
                    }
                    for k, s in pairs
                ]
            }
        }

    assert plan_stay(spec(300, 30), taints) == 30.0
    assert plan_stay(spec(None, None), taints) is None
    assert plan_stay(spec(300), taints) == 0.0
    assert plan_stay(spec(None, -5), taints) == 0.0


def test_ranges_are_handed_out_once_and_the_one_released_last_comes_last() -> None:
    ranges = CidrSet("10.0.0.0/22", 24)
    ranges.occupy("10.0.1.0/24")
    assert [ranges.allocate() for _ in range(3)] == ["10.0.0.0/24", "10.0.2.0/24", "10.0.3.0/24"]
    with pytest.raises(NoRangeLeft):
        ranges.allocate()
    ranges.release("10.0.2.0/24")
    assert ranges.allocate() == "10.0.2.0/24"
    ranges.occupy("192.168.0.0/24")


@pytest.mark.parametrize(
    ("cidr", "nodes", "wanted", "mask"),
    [
        ("10.244.0.0/16", 20, 0, 24),
        ("10.244.0.0/16", 1000, 0, 26),
        ("10.0.0.0/8", 5000, 0, 24),
        ("10.244.0.0/16", 9, 25, 25),
    ],
)
def test_a_nodes_range_is_as_large_as_the_number_of_nodes_allows(cidr, nodes, wanted, mask) -> None:
    assert mask_size(cidr, nodes, wanted) == mask


# Jobs


@pytest.mark.parametrize(
    ("text", "after", "want"),
    [
        ("*/15 * * * *", "2026-01-01 10:07", "2026-01-01 10:15"),
        ("0 0 * * *", "2026-01-31 00:00", "2026-02-01 00:00"),
        ("30 9 * * mon-fri", "2026-01-02 10:00", "2026-01-05 09:30"),
        ("0 0 1,15 * 3", "2026-01-02 00:00", "2026-01-07 00:00"),
        ("0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00"),
        ("@hourly", "2026-12-31 23:59", "2027-01-01 00:00"),
        ("5-59/20 * * * *", "2026-01-01 10:26", "2026-01-01 10:45"),
        ("0 12 * * 7", "2026-01-01 00:00", "2026-01-04 12:00"),
    ],
)
def test_schedules(text, after, want) -> None:
    def stamp(when: str) -> float:
        return datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp()

    assert parse_schedule(text).next_after(stamp(after)) == stamp(want)


def test_schedules_know_time_zones_and_refuse_nonsense() -> None:
    winter = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    due = parse_schedule("0 8 * * *", "Europe/Berlin").next_after(winter)
    assert due is not None and datetime.fromtimestamp(due, UTC).hour == 7
    for bad in ("* * * *", "61 * * * *", "a b c d e", "*/0 * * * *"):
        with pytest.raises(ValueError, match=r"."):
            parse_schedule(bad)
    with pytest.raises(ValueError, match="unknown time zone"):
        parse_schedule("* * * * *", "Mars/Olympus")


@pytest.mark.parametrize(
    ("numbers", "text"), [([0, 1, 2, 5], "0-2,5"), ([1, 2, 7], "1,2,7"), ([], ""), ([3], "3")]
)
def test_index_lists(numbers, text) -> None:
    assert format_indexes(numbers) == text and parse_indexes(text) == set(numbers)


# Slices


def endpoint(ip: str, ready: bool = True, port: int = 80) -> Endpoint:
    return Endpoint((("", port, "TCP", ""),), {"addresses": [ip], "conditions": {"ready": ready}})


def settle(slices: SliceSet) -> int:
    """Write what is planned; how many writes."""
    changes = slices.plan()
    for i, piece in enumerate(changes.create):
        piece.observed = {"metadata": {"name": f"s{id(piece)}{i}"}}
    for piece in (*changes.create, *changes.update):
        piece.dirty = False
    return len(changes.create) + len(changes.update) + len(changes.delete)


def test_one_pods_change_touches_one_slice_however_many_there_are() -> None:
    slices = SliceSet(100)
    slices.apply([(f"ns/p{i}", endpoint(f"10.0.{i // 250}.{i % 250}")) for i in range(1000)])
    assert settle(slices) == 10
    slices.apply([("ns/p500", endpoint("10.0.2.0", ready=False))])
    assert settle(slices) == 1
    slices.apply([("ns/p500", endpoint("10.0.2.0", ready=False))])
    assert settle(slices) == 0
    slices.apply([("ns/p1", None), ("ns/new", endpoint("10.9.9.9"))])
    assert settle(slices) == 1, "the place that became free is used"


def test_slices_that_run_empty_go_and_one_stays() -> None:
    slices = SliceSet(2)
    slices.apply([(f"ns/p{i}", endpoint(f"10.0.0.{i}")) for i in range(4)])
    settle(slices)
    slices.apply([(f"ns/p{i}", None) for i in range(4)])
    changes = slices.plan()
    assert len(changes.delete) == 1 and len(changes.update) == 1 and changes.update[0].ports == ()


def test_target_ports_by_number_by_name_and_missing() -> None:
    pod = {
        "spec": {
            "containers": [
                {
                    "ports": [
                        {"name": "web", "containerPort": 81, "protocol": "TCP"},
                        {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                    ]
                }
            ]
        }
    }
    assert target_port({"port": 80}, pod) == 80
    assert target_port({"port": 80, "targetPort": 8080}, pod) == 8080
    assert target_port({"port": 80, "targetPort": "web"}, pod) == 81
    assert target_port({"port": 80, "targetPort": "dns"}, pod) == 0
    assert target_port({"port": 53, "targetPort": "dns", "protocol": "UDP"}, pod) == 53
