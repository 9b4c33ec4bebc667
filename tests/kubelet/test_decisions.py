"""Decisions of a kubelet by table: next steps, phases, patches, words."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.api.meta import Object
from cluster.kubelet import messages
from cluster.kubelet.backoff import Backoff
from cluster.kubelet.config import KubeletConfig
from cluster.kubelet.environment import expand, service_environment
from cluster.kubelet.hosts import hosts_file, resolv_conf
from cluster.kubelet.podstate import PodState, go_duration, new_state, plan_actions
from cluster.kubelet.podstatus import pod_phase, pod_status
from cluster.kubelet.probes import Tally
from cluster.kubelet.qos import pod_requests, qos_class
from cluster.kubelet.statuspatch import strategic_patch
from cluster.runtime.model import Container, ContainerConfig

NOW = 1_800_000_000.0


def make(policy: str = "Always", inits: tuple[Object, ...] = (), count: int = 1) -> PodState:
    spec: Object = {
        "restartPolicy": policy,
        "containers": [{"name": f"c{i}", "image": "nginx"} for i in range(count)],
    }
    if inits:
        spec["initContainers"] = [dict(i) for i in inits]
    meta = {"name": "web", "namespace": "default", "uid": "u", "generation": 1}
    state = new_state({"metadata": meta, "spec": spec, "status": {}})
    state.start_time = NOW
    return state


def put(state: PodState, name: str, how: str) -> None:
    """`run`, `ok` (ended with 0), `fail` (ended with 1)."""
    view = state.view(name)
    config = ContainerConfig(name, "nginx")
    container = Container("i" + name, "s", config, "ref", "id", NOW, "running", NOW)
    view.current = container
    view.started = view.ready = how == "run"
    if how != "run":
        container.state, container.finished_at = "exited", NOW
        container.exit_code = 0 if how == "ok" else 1
        container.reason = "Completed" if how == "ok" else "Error"


INIT, SIDE = {"name": "i", "image": "b"}, {"name": "s", "image": "b", "restartPolicy": "Always"}


@pytest.mark.parametrize(
    ("policy", "inits", "containers", "start", "finished", "phase"),
    [
        ("Always", (), {}, ["c0"], False, "Pending"),
        ("Always", (), {"c0": "run"}, [], False, "Running"),
        ("Always", (), {"c0": "ok"}, ["c0"], False, "Running"),
        ("OnFailure", (), {"c0": "ok"}, [], True, "Succeeded"),
        ("OnFailure", (), {"c0": "fail"}, ["c0"], False, "Running"),
        ("Never", (), {"c0": "ok"}, [], True, "Succeeded"),
        ("Never", (), {"c0": "fail"}, [], True, "Failed"),
        ("Always", (INIT,), {}, ["i"], False, "Pending"),
        ("Always", (INIT,), {"i": "run"}, [], False, "Pending"),
        ("Always", (INIT,), {"i": "ok"}, ["c0"], False, "Pending"),
        ("Always", (INIT,), {"i": "fail"}, ["i"], False, "Pending"),
        ("Never", (INIT,), {"i": "fail"}, [], True, "Failed"),
        ("Always", (SIDE,), {}, ["s"], False, "Pending"),
        ("Always", (SIDE,), {"s": "run"}, ["c0"], False, "Pending"),
        ("Never", (SIDE,), {"s": "run", "c0": "ok"}, [], True, "Succeeded"),
        ("Always", (SIDE,), {"s": "fail", "c0": "run"}, ["s"], False, "Running"),
    ],
)
def test_next_steps(
    policy: str,
    inits: tuple[Object, ...],
    containers: dict[str, str],
    start: list[str],
    finished: bool,
    phase: str,
) -> None:
    state = make(policy, inits)
    for name, how in containers.items():
        put(state, name, how)
    actions = plan_actions(state, Backoff(10, 300), NOW)
    assert [v.name for v in actions.start] == start
    assert actions.finished is finished
    assert pod_phase(state) == phase


def test_a_second_crash_waits() -> None:
    state, backoff = make(), Backoff(10, 300)
    put(state, "c0", "fail")
    backoff.next("u/c0", NOW)
    actions = plan_actions(state, backoff, NOW + 1)
    assert actions.start == [] and actions.look_again_at == NOW + 10
    assert state.view("c0").crash_loop == (
        "back-off 10s restarting failed container=c0 pod=web_default(u)"
    )
    assert [v.name for v in plan_actions(state, backoff, NOW + 10).start] == ["c0"]


def test_backoff_doubles_to_its_limit_and_is_forgotten() -> None:
    backoff = Backoff(10, 300)
    delays = []
    for step in range(7):
        backoff.next("k", NOW + step)
        delays.append(backoff.get("k"))
    assert delays == [10, 20, 40, 80, 160, 300, 300]
    backoff.next("k", NOW + 1000)
    assert backoff.get("k") == 10


@pytest.mark.parametrize(
    ("minor", "has", "lacks"),
    [
        (37, ["resources", "user"], []),
        (30, [], ["resources", "user", "allocatedResources"]),
    ],
)
def test_status_fields_follow_the_version(minor: int, has: list[str], lacks: list[str]) -> None:
    state = make()
    put(state, "c0", "run")
    status = pod_status(state, "10.0.0.1", minor, NOW)
    [container] = status["containerStatuses"]
    assert all(field in container for field in has)
    assert not any(field in container for field in lacks)
    assert ("observedGeneration" in status) is (minor >= 34)
    assert [c["type"] for c in status["conditions"]] == [
        "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled",
    ]  # fmt: skip


def test_readiness_gates_and_foreign_conditions_are_kept() -> None:
    state = make()
    put(state, "c0", "run")
    state.pod["spec"]["readinessGates"] = [{"conditionType": "acme/ok"}, {"conditionType": "x/y"}]
    state.pod["status"]["conditions"] = [{"type": "acme/ok", "status": "False"}]
    conditions = {c["type"]: c for c in pod_status(state, "h", 37, NOW)["conditions"]}
    assert conditions["acme/ok"]["status"] == "False"
    assert conditions["Ready"]["reason"] == "ReadinessGatesNotReady"
    assert conditions["Ready"]["message"] == (
        'the status of pod readiness gate "acme/ok" is not "True", but False, '
        'corresponding condition of pod readiness gate "x/y" does not exist.'
    )


def test_a_patch_names_only_what_changed() -> None:
    old = {"phase": "Pending", "conditions": [{"type": "A", "status": "False", "reason": "r"}],
           "podIPs": [{"ip": "1"}], "reason": "gone"}  # fmt: skip
    new = {"phase": "Running", "conditions": [{"type": "A", "status": "True"}],
           "podIPs": [{"ip": "1"}]}  # fmt: skip
    assert strategic_patch("u", old, new) == {
        "metadata": {"uid": "u"},
        "status": {
            "phase": "Running",
            "reason": None,
            "$setElementOrder/conditions": [{"type": "A"}],
            "conditions": [{"type": "A", "status": "True", "reason": None}],
        },
    }
    assert strategic_patch("u", new, new) is None


def test_thresholds_count_results_in_a_row() -> None:
    tally = Tally(success_threshold=2, failure_threshold=3)
    changes = [tally.handle_result(ok) for ok in (True, True, False, False, True, False)]
    assert changes == [False, True, False, False, False, False]
    assert [tally.handle_result(False) for _ in range(2)] == [False, True]
    assert tally.value is False


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "250ms"), (1.5, "1.5s"), (10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s")],
)
def test_durations_look_like_gos(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        ([{}], "BestEffort"),
        ([{"requests": {"cpu": "1"}}], "Burstable"),
        ([{"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}],
         "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}], "Burstable"),
        ([{"requests": {"cpu": "500m"}, "limits": {"cpu": "0.5", "memory": "1Mi"}}], "Guaranteed"),
    ],
)  # fmt: skip
def test_quality_of_service(resources: list[Object], wanted: str) -> None:
    containers = [{"name": str(i), "resources": r} for i, r in enumerate(resources)]
    assert qos_class({"spec": {"containers": containers}}) == wanted


def test_requests_count_sidecars_and_the_peak_of_init_containers() -> None:
    def container(cpu: str, **more: Any) -> Object:
        return {"name": "x", "resources": {"requests": {"cpu": cpu}}, **more}

    spec = {
        "initContainers": [container("1", restartPolicy="Always"), container("3")],
        "containers": [container("500m")],
        "overhead": {"cpu": "250m"},
    }
    assert pod_requests({"spec": spec}) == {"cpu": 4250}


def test_words_follow_the_version() -> None:
    assert messages.created("c", 37) == "Container created"
    assert messages.created("c", 34) == "Created container: c"
    assert messages.created("c", 31) == "Created container c"
    assert messages.started("c", 34) == "Started container c"
    assert messages.present("i", 35).endswith("on machine and can be accessed by the pod")


def test_services_become_variables() -> None:
    service = {
        "metadata": {"name": "my-db", "namespace": "ns"},
        "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "sql", "port": 5432}]},
    }
    env = service_environment([service], "ns", True)
    assert env["MY_DB_SERVICE_HOST"] == "10.96.0.7"
    assert env["MY_DB_SERVICE_PORT_SQL"] == "5432"
    assert env["MY_DB_PORT_5432_TCP_ADDR"] == "10.96.0.7"
    assert service_environment([service], "other", True) == {}
    assert service_environment([service], "ns", False) == {}


def test_variables_are_expanded_once() -> None:
    env = {"A": "1", "B": "$(A)"}
    assert expand("$(A) $(B) $(NO) $$(A) $A", env) == "1 $(A) $(NO) $(A) $A"


def test_name_resolution_files() -> None:
    pod = {
        "metadata": {"name": "web-0", "namespace": "ns"},
        "spec": {"hostname": "web-0", "subdomain": "web",
                 "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}],
                 "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}},
    }  # fmt: skip
    text = hosts_file(pod, "10.0.0.9", "cluster.local")
    assert "10.0.0.9\tweb-0.web.ns.svc.cluster.local\tweb-0\n" in text
    assert text.endswith("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n")
    assert resolv_conf(pod, KubeletConfig()) == (
        "search ns.svc.cluster.local svc.cluster.local cluster.local\n"
        "nameserver 10.96.0.10\noptions ndots:2\n"
    )
