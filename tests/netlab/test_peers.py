"""Several hosts: VXLAN between two machines, made and unmade while pods run."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab import Attachment, Fabric, Peer, PodLink
from netlab.dataplane import Dataplane, VirtualServer
from netlab.peers import plan_peers
from tests.netlab.hosts import Machine, ask, join, serving

pytestmark = pytest.mark.root


@pytest.fixture
def machines() -> Iterator[list[Machine]]:
    path = Path(tempfile.mkdtemp(prefix="kubestage-test-", dir="/run"))
    made = [Machine(path / str(i), f"172.29.0.{i}", f"192.0.2.{i}") for i in (1, 2)]
    join(made[0], made[1])
    yield made
    for machine in made:
        machine.sweep()
        machine.stop()
    shutil.rmtree(path)


def peer(i: int) -> Peer:
    return Peer(f"192.0.2.{i}", f"172.29.0.{i}", (f"10.77.{i}.0/24",), (f"172.29.1.{i}",))


def open_with_pod(machine: Machine, i: int) -> tuple[Fabric, Attachment]:
    fabric = machine.fabric()
    fabric.set_node_addresses([f"172.29.1.{i}"])
    pod = fabric.add_pods([PodLink(f"p{i}", f"n{i}", f"10.77.{i}.0/24")])[0]
    assert isinstance(pod, Attachment), pod
    return fabric, pod


def test_pods_services_nodes_and_hosts_answer_across_machines(machines: list[Machine]) -> None:
    (one, a), (two, b) = (open_with_pod(m, i) for i, m in enumerate(machines, 1))
    plane = Dataplane(one)
    try:
        one.set_peers([peer(2)])
        two.set_peers([peer(1)])
        listener = two.socket_in(b.netns_path, socket.SOCK_STREAM, "0.0.0.0", 80)
        api = machines[1].run(socket.create_server, ("172.29.0.2", 6443))
        plane.replace({"s": VirtualServer("10.78.0.1", "TCP", 80, ((b.ip, 80),), 30080)})
        with serving(listener, "b"), serving(api, "api"):
            assert one.call_in(a.netns_path, ask, (b.ip, 80)) == f"b {a.ip}"
            assert one.call_in(a.netns_path, ask, ("10.78.0.1", 80)) == f"b {a.ip}"
            assert machines[0].run(ask, (b.ip, 80)) == "b 172.29.0.1"
            assert machines[0].run(ask, ("10.78.0.1", 80)).startswith("b ")
            assert one.call_in(a.netns_path, ask, ("172.29.1.1", 30080)).startswith("b ")
            assert one.call_in(a.netns_path, ask, ("172.29.0.2", 6443)) == f"api {a.ip}"
            assert machines[0].run(ask, ("172.29.0.2", 6443)) == "api 172.29.0.1"
            one.set_peers([])
            assert one.call_in(a.netns_path, ask, (b.ip, 80)) == "unreachable"
            one.set_peers([peer(2)])
            assert one.call_in(a.netns_path, ask, (b.ip, 80)) == f"b {a.ip}"
    finally:
        plane.close()
        one.close()
        two.close()


def test_the_tunnel_leaves_no_link_in_the_hosts_namespace(machines: list[Machine]) -> None:
    fabric = machines[0].fabric()
    try:
        fabric.set_peers([peer(2)])
        names = {n for _, n in machines[0].run(socket.if_nameindex)}
        assert names == {"lo", "wire", machines[0].config.uplink}
    finally:
        fabric.close()


def test_a_new_process_forgets_hosts_that_left_meanwhile(machines: list[Machine]) -> None:
    first = machines[0].fabric()
    first.set_peers([peer(2), peer(3)])
    first.close()
    second = machines[0].fabric()
    try:
        second.set_peers([peer(2)])
        pod = second.add_pods([PodLink("p", "n", "10.77.1.0/24")])[0]
        assert isinstance(pod, Attachment)
        assert second.call_in(pod.netns_path, ask, ("10.77.3.2", 80)) == "unreachable"
    finally:
        second.close()


def test_only_what_changed_is_sent(tmp_path: Path) -> None:
    machine_config = Machine.__new__(Machine)
    del machine_config
    from netlab import FabricConfig

    config = FabricConfig(
        "c", tmp_path, "10.77.0.0/16", "10.78.0.0/16", "172.29.0.0/16", "172.29.0.1"
    )
    old = {"h": peer(2)}
    assert plan_peers(config, old, old).additions == []
    more = Peer(old["h"].underlay_ip, old["h"].host_address, ("10.77.2.0/24", "10.77.9.0/24"))
    plan = plan_peers(config, old, {"h": more})
    assert (len(plan.additions), len(plan.removals)) == (1, 1)
