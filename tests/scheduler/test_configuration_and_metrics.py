"""KubeSchedulerConfiguration, and the names under which the scheduler can be watched."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster.api.errors import NotEmulated
from cluster.scheduler.config import DEFAULT_PLUGINS, ConfigurationError, SchedulerConfig

from .fakes import Bench, node, pod


def profile_with(**plugins: Any) -> dict[str, Any]:
    return {"kind": "KubeSchedulerConfiguration", "profiles": [{"plugins": plugins}]}


def test_without_a_word_the_profile_is_upstreams() -> None:
    (profile,) = SchedulerConfig.from_dict({}).profiles
    assert profile.scheduler_name == "default-scheduler"
    assert profile.plugins == DEFAULT_PLUGINS


def test_a_plugin_can_be_disabled_weighted_and_put_at_one_extension_point() -> None:
    config = SchedulerConfig.from_dict(
        profile_with(
            multiPoint={"disabled": [{"name": "ImageLocality"}]},
            score={
                "disabled": [{"name": "*"}],
                "enabled": [{"name": "NodeResourcesFit", "weight": 7}],
            },
        )
    )
    bench = Bench(config)
    profile = bench.scheduler.profiles["default-scheduler"]
    assert [p.name for p in profile.score] == ["NodeResourcesFit"]
    assert profile.weights["NodeResourcesFit"] == 7
    assert "ImageLocality" not in profile.plugins
    assert "TaintToleration" in {p.name for p in profile.filter}


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"kind": "Pod"}, ConfigurationError),
        (profile_with(guess={}), ConfigurationError),
        ({"profiles": [{}, {}]}, ConfigurationError),
        ({"extenders": [{"urlPrefix": "http://x"}]}, NotEmulated),
    ],
)
def test_what_cannot_be_configured_is_refused(document: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        SchedulerConfig.from_dict(document)


def test_a_plugin_that_does_not_exist_is_refused_by_name() -> None:
    config = SchedulerConfig.from_dict(profile_with(multiPoint={"enabled": [{"name": "Magic"}]}))
    with pytest.raises(ConfigurationError, match="Magic"):
        Bench(config)


def test_two_profiles_serve_two_names() -> None:
    config = SchedulerConfig.from_dict(
        {"profiles": [{}, {"schedulerName": "packer", "plugins": {"score": {}}}]}
    )

    async def go() -> dict[str, str]:
        bench = Bench(config)
        bench.nodes(node("a"))
        return await bench.schedule(pod("p"), pod("q", schedulerName="packer"))

    assert asyncio.run(go()) == {"p": "a", "q": "a"}


def test_metrics_have_upstreams_names_and_true_values() -> None:
    async def go() -> Bench:
        bench = Bench()
        bench.nodes(node("a", cpu="1"))
        await bench.schedule(
            pod("p"), pod("big", cpu="9"), pod("gated", schedulingGates=[{"name": "g"}])
        )
        return bench

    value = asyncio.run(go()).registry.get_sample_value
    profile = {"profile": "default-scheduler"}
    expected: list[tuple[str, dict[str, str], float]] = [
        ("schedule_attempts_total", {"result": "scheduled", **profile}, 1),
        ("schedule_attempts_total", {"result": "unschedulable", **profile}, 1),
        ("scheduling_attempt_duration_seconds_count", {"result": "scheduled", **profile}, 1),
        ("scheduling_algorithm_duration_seconds_count", {}, 2),
        ("pod_scheduling_sli_duration_seconds_count", {"attempts": "1"}, 1),
        ("pod_scheduling_attempts_count", {}, 1),
        ("pending_pods", {"queue": "active"}, 0),
        ("pending_pods", {"queue": "unschedulable"}, 1),
        ("pending_pods", {"queue": "gated"}, 1),
        ("queue_incoming_pods_total", {"queue": "active", "event": "PodAdd"}, 2),
        ("unschedulable_pods", {"plugin": "NodeResourcesFit", **profile}, 1),
        ("preemption_attempts_total", {}, 1),
        ("scheduler_cache_size", {"type": "nodes"}, 1),
        ("scheduler_cache_size", {"type": "assumed_pods"}, 1),
    ]
    for name, labels, amount in expected:
        assert value(f"scheduler_{name}", labels) == amount, (name, labels)
