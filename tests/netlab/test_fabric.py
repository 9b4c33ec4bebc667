"""Pods on a fabric: reachability, idempotence, addresses, recovery, sweep."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from netlab import (
    AddressesExhausted,
    Attachment,
    Fabric,
    FabricConfig,
    HostPort,
    ListenerError,
    NetlabError,
    PodLink,
    sweep,
)
from netlab.namespaces import is_namespace
from netlab.netlink import NetlinkSocket
from netlab.pods import Wire
from tests.netlab.hosts import Machine, ask, serving

pytestmark = pytest.mark.root


def link(name: str, cidr: str = "10.77.0.0/24", **more: object) -> PodLink:
    return PodLink(name, "n", cidr, **more)  # type: ignore[arg-type]


def added(fabric: Fabric, *links: PodLink) -> list[Attachment]:
    found = fabric.add_pods(links)
    assert all(isinstance(a, Attachment) for a in found), found
    return [a for a in found if isinstance(a, Attachment)]


def test_pods_reach_each_other_with_their_own_addresses(
    fabric: Fabric, pods: list[Attachment]
) -> None:
    for a in pods:
        for b in pods:
            assert fabric.call_in(a.netns_path, ask, (b.ip, 80)) == f"{b.id} {a.ip}"


def test_the_host_and_pods_reach_each_other(
    machine: Machine, fabric: Fabric, pods: list[Attachment]
) -> None:
    assert machine.run(ask, (pods[0].ip, 80)) == "p0 172.29.0.1"
    with serving(machine.run(socket.create_server, ("172.29.0.1", 6443)), "api"):
        assert fabric.call_in(pods[0].netns_path, ask, ("172.29.0.1", 6443)) == f"api {pods[0].ip}"


def test_node_addresses_answer_in_the_fabric(
    machine: Machine, fabric: Fabric, pods: list[Attachment]
) -> None:
    listener = fabric.socket_in("", socket.SOCK_STREAM, "172.29.1.2", 10250)
    with serving(listener, "kubelet"):
        assert machine.run(ask, ("172.29.1.2", 10250)) == "kubelet 172.29.0.1"
        assert machine.run(ask, ("172.29.1.1", 10250)) == "refused"
        fabric.set_node_addresses(["172.29.1.1"])
        assert machine.run(ask, ("172.29.1.2", 10250)) == "unreachable"


def test_an_address_nobody_has_is_unreachable_at_once(
    fabric: Fabric, pods: list[Attachment]
) -> None:
    assert fabric.call_in(pods[0].netns_path, ask, ("10.77.9.9", 80)) == "unreachable"


def test_add_twice_is_the_same_attachment(fabric: Fabric) -> None:
    assert added(fabric, link("a")) == added(fabric, link("a"))


def test_a_pod_asked_for_by_a_certain_address_gets_it(fabric: Fabric) -> None:
    assert added(fabric, link("a", ip="10.77.0.77"))[0].ip == "10.77.0.77"
    other = fabric.add_pods([link("b", ip="10.77.0.77")])[0]
    assert "in use" in str(other)


def test_delete_is_idempotent_and_frees_the_namespace(fabric: Fabric) -> None:
    pod = added(fabric, link("a"))[0]
    fabric.delete_pods(["a", "never-was"])
    fabric.delete_pods(["a"])
    assert not Path(pod.netns_path).exists()
    assert fabric.attachments() == {}
    with pytest.raises(ListenerError):
        fabric.socket_in(pod.netns_path, socket.SOCK_STREAM, "0.0.0.0", 80)


def test_a_released_address_rests_for_a_round(fabric: Fabric) -> None:
    first = added(fabric, link("a"))[0].ip
    fabric.delete_pods(["a"])
    assert added(fabric, link("b"))[0].ip != first


def test_an_exhausted_range_fails_that_pod_only(fabric: Fabric) -> None:
    small = "10.77.9.0/29"
    found = fabric.add_pods([link(f"p{i}", small) for i in range(7)] + [link("other")])
    assert [isinstance(f, AddressesExhausted) for f in found] == [False] * 5 + [True] * 2 + [False]
    fabric.delete_pods(["p0"])
    assert isinstance(fabric.add_pods([link("p6", small)])[0], Attachment)


def test_a_host_port_leads_to_its_pod_until_it_goes(
    machine: Machine, fabric: Fabric, pods: list[Attachment]
) -> None:
    ports = [HostPort(8080, 80, "TCP", "172.29.1.1")]
    pod = added(fabric, link("web", host_ports=ports))[0]
    with serving(fabric.socket_in(pod.netns_path, socket.SOCK_STREAM, "0.0.0.0", 80), "web"):
        assert machine.run(ask, ("172.29.1.1", 8080)) == "web 172.29.0.1"
        assert fabric.call_in(pod.netns_path, ask, ("172.29.1.1", 8080)).startswith("web ")
        assert machine.run(ask, ("172.29.1.2", 8080)) == "refused"
        fabric.delete_pods(["web"])
        assert machine.run(ask, ("172.29.1.1", 8080)) == "refused"


def test_a_second_process_finds_what_the_first_attached(
    machine: Machine, fabric: Fabric, pods: list[Attachment]
) -> None:
    fabric.close()
    again = machine.fabric()
    try:
        assert {a.id: a.ip for a in again.attachments().values()} == {a.id: a.ip for a in pods}
        assert machine.run(ask, (pods[1].ip, 80)) == "p1 172.29.0.1"
        assert added(again, link("new"))[0].ip not in {p.ip for p in pods}
    finally:
        again.close()


@pytest.mark.parametrize("last_call", range(1, 9))
def test_killed_between_any_two_calls_it_converges(machine: Machine, last_call: int) -> None:
    """A process is killed at its n-th netlink batch while it adds five pods to three that run."""
    first = machine.fabric()
    before = added(first, *(link(f"old{i}") for i in range(3)))
    first.close()
    pid = machine.run(_fork_and_die, machine, last_call)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or last_call > 6
    second = machine.fabric()
    try:
        found = second.attachments()
        for pod in before[1:]:
            assert found[pod.id].ip == pod.ip
        files = {p.name for p in machine.config.namespaces.iterdir()} - {"fabric"}
        assert files == set(found), "a namespace is there that nobody knows of, or the reverse"
        assert all(is_namespace(a.netns_path) for a in found.values())
        fresh = added(second, *(link(f"fresh{i}") for i in range(5)))
        everyone = [*found.values(), *fresh]
        assert len({a.ip for a in everyone}) == len(everyone)
        indexes = second.call_in("", _interfaces)
        assert indexes >= {a.interface for a in everyone}
    finally:
        second.close()


def _interfaces() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def _fork_and_die(machine: Machine, last_call: int) -> int:
    """Forks in the machine's thread: the child has no other, and lives in the machine's
    namespace."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        _add_and_die(machine, last_call)
    return pid


def _add_and_die(machine: Machine, last_call: int) -> None:
    left = [last_call]

    def send(self: NetlinkSocket, *args: object) -> list[OSError]:
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *args)  # type: ignore[arg-type]

    try:
        fabric = Fabric.ensure(machine.config)
        original = NetlinkSocket._send_chunk
        NetlinkSocket._send_chunk = send  # type: ignore[method-assign, assignment]
        fabric.add_pods([link(f"half{i}") for i in range(5)])
        fabric.delete_pods(["old0"])
    finally:
        os._exit(1)


def test_sweep_leaves_neither_link_nor_mount_nor_file(machine: Machine) -> None:
    fabric = machine.fabric()
    added(fabric, *(link(f"p{i}") for i in range(20)))
    assert machine.config.uplink in {n for _, n in machine.run(socket.if_nameindex)}
    fabric.close()
    machine.sweep()
    assert {n for _, n in machine.run(socket.if_nameindex)} == {"lo"}
    assert str(machine.config.state_dir) not in Path("/proc/self/mountinfo").read_text()
    assert not machine.config.state_dir.exists()
    machine.sweep()


def test_two_owners_share_a_fabric(machine: Machine, fabric: Fabric) -> None:
    other = machine.fabric("kubelet-1")
    try:
        a = added(fabric, link("a", "10.77.1.0/24"))[0]
        b = added(other, link("b", "10.77.2.0/24"))[0]
        assert set(fabric.attachments()) == {"a"}
        listener = other.socket_in(b.netns_path, socket.SOCK_STREAM, "0.0.0.0", 80)
        with serving(listener, "b"):
            assert fabric.call_in(a.netns_path, ask, (b.ip, 80)) == f"b {a.ip}"
    finally:
        other.close()


def test_two_clusters_do_not_take_each_others_ranges(
    machine: Machine, fabric: Fabric, pods: list[Attachment]
) -> None:
    def second(pod_cidr: str, service_cidr: str, node_cidr: str, address: str) -> FabricConfig:
        directory = machine.config.state_dir.parent / "second"
        return FabricConfig("two", directory, pod_cidr, service_cidr, node_cidr, address)

    same = second("10.77.0.0/16", "10.79.0.0/16", "172.28.0.0/16", "172.28.0.1")
    with pytest.raises(NetlabError, match=r"is routed to ks-test-.* already"):
        machine.run(Fabric.ensure, same)
    machine.run(sweep, same.state_dir)
    other = machine.run(
        Fabric.ensure, second("10.80.0.0/16", "10.79.0.0/16", "172.28.0.0/16", "172.28.0.1")
    )
    try:
        pod = added(other, link("p0", "10.80.0.0/24"))[0]
        assert other.call_in(pod.netns_path, ask, (pods[1].ip, 80)) != f"p1 {pod.ip}"
        assert machine.run(ask, (pods[0].ip, 80)) == "p0 172.29.0.1"
    finally:
        other.close()
        machine.run(sweep, other.config.state_dir)


def test_names_tell_the_address() -> None:
    wire = Wire("10.244.3.7", "/run/x")
    assert (wire.interface, wire.mac.hex(":")) == ("pod0af40307", "0a:4b:0a:f4:03:07")
