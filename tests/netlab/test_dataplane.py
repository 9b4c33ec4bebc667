"""Virtual servers in nftables, with real connections."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from netlab import Attachment, Fabric
from netlab.dataplane import Dataplane, VirtualServer, _arrange
from tests.netlab.hosts import Machine, ask

pytestmark = pytest.mark.root
VIP = "10.78.0.1"


@pytest.fixture
def dataplane(fabric: Fabric) -> Iterator[Dataplane]:
    made = Dataplane(fabric)
    made.replace({})
    yield made
    made.close()


def server(*pods: Attachment, **more: object) -> VirtualServer:
    endpoints = tuple((p.ip, 80) for p in pods)
    return VirtualServer(VIP, "TCP", 80, endpoints, **more)  # type: ignore[arg-type]


def who(
    fabric: Fabric, pod: Attachment, address: str = VIP, port: int = 80, n: int = 24
) -> set[str]:
    return {fabric.call_in(pod.netns_path, ask, (address, port)).split()[0] for _ in range(n)}


def test_a_cluster_address_spreads_over_its_endpoints(
    machine: Machine, fabric: Fabric, pods: list[Attachment], dataplane: Dataplane
) -> None:
    dataplane.apply({"a": server(*pods[1:3])})
    assert who(fabric, pods[0]) == {"p1", "p2"}
    assert machine.run(ask, (VIP, 80)).split()[0] in {"p1", "p2"}
    assert fabric.call_in("", ask, (VIP, 80)).split()[0] in {"p1", "p2"}


def test_the_client_keeps_its_address_through_a_cluster_address(
    fabric: Fabric, pods: list[Attachment], dataplane: Dataplane
) -> None:
    dataplane.apply({"a": server(pods[1])})
    assert fabric.call_in(pods[0].netns_path, ask, (VIP, 80)) == f"p1 {pods[0].ip}"


def test_a_change_is_seen_by_the_next_connection(
    fabric: Fabric, pods: list[Attachment], dataplane: Dataplane
) -> None:
    dataplane.apply({"a": server(*pods[1:4])})
    dataplane.apply({"a": server(pods[2])})
    assert who(fabric, pods[0]) == {"p2"}
    dataplane.apply({"a": server(pods[3], pods[1])})
    assert who(fabric, pods[0]) == {"p1", "p3"}


def test_no_endpoints_is_an_immediate_refusal(
    machine: Machine, fabric: Fabric, pods: list[Attachment], dataplane: Dataplane
) -> None:
    dataplane.apply({"a": server(node_port=30080)})
    for address in ((VIP, 80), ("172.29.1.1", 30080)):
        assert fabric.call_in(pods[0].netns_path, ask, address) == "refused"
        assert machine.run(ask, address) == "refused"
    assert fabric.call_in(pods[0].netns_path, _send_datagram, VIP) == "refused"


def _send_datagram(address: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(3)
        made.connect((address, 53))
        made.send(b"x")
        try:
            return made.recv(10).decode()
        except ConnectionRefusedError:
            return "refused"


def test_a_udp_flow_leaves_an_endpoint_that_goes(
    fabric: Fabric, pods: list[Attachment], dataplane: Dataplane
) -> None:
    """A client that keeps its port would otherwise talk to the dead endpoint for ever."""

    def virtual(*to: Attachment) -> VirtualServer:
        return VirtualServer(VIP, "UDP", 53, tuple((p.ip, 53) for p in to))

    def opened(pod: Attachment, address: str, port: int) -> socket.socket:
        return fabric.socket_in(pod.netns_path, socket.SOCK_DGRAM, address, port)

    with (
        opened(pods[1], "0.0.0.0", 53) as one,
        opened(pods[2], "0.0.0.0", 53) as two,
        opened(pods[0], "0.0.0.0", 5353) as client,
    ):
        for each in (one, two, client):
            each.settimeout(3)
        dataplane.apply({"dns": virtual(pods[1])})
        client.sendto(b"first", (VIP, 53))
        assert one.recv(10) == b"first"
        dataplane.apply({"dns": virtual(pods[2])})
        client.sendto(b"second", (VIP, 53))
        assert two.recv(10) == b"second"


def test_a_port_no_service_has_is_refused(
    fabric: Fabric, pods: list[Attachment], dataplane: Dataplane
) -> None:
    dataplane.apply({"a": server(pods[1])})
    assert fabric.call_in(pods[0].netns_path, ask, (VIP, 81)) == "refused"
    dataplane.apply({"a": None})
    assert fabric.call_in(pods[0].netns_path, ask, (VIP, 80)) == "refused"


def test_a_node_port_answers_on_every_node(
    machine: Machine, fabric: Fabric, pods: list[Attachment], dataplane: Dataplane
) -> None:
    dataplane.apply({"a": server(*pods[1:3], node_port=30080)})
    assert who(fabric, pods[0], "172.29.1.1", 30080) == {"p1", "p2"}
    assert machine.run(ask, ("172.29.1.2", 30080)).split()[0] in {"p1", "p2"}


def test_local_traffic_policy_keeps_the_client_and_stays_on_the_node(
    machine: Machine, pods: list[Attachment], dataplane: Dataplane
) -> None:
    local = {"172.29.1.1": ((pods[1].ip, 80),), "172.29.1.2": ()}
    dataplane.apply({"a": server(*pods, node_port=30080, local_endpoints=local)})
    assert machine.run(ask, ("172.29.1.1", 30080)) == "p1 172.29.0.1"
    assert machine.run(ask, ("172.29.1.2", 30080)) == "refused"


def test_a_pod_reaches_itself_through_its_service(
    fabric: Fabric, pods: list[Attachment], dataplane: Dataplane
) -> None:
    dataplane.apply({"a": server(pods[0], node_port=30080)})
    assert who(fabric, pods[0], n=3) == {"p0"}
    assert who(fabric, pods[0], "172.29.1.1", 30080, n=3) == {"p0"}


def test_affinity_sticks_until_the_endpoint_goes(
    fabric: Fabric, pods: list[Attachment], dataplane: Dataplane
) -> None:
    dataplane.apply({"a": server(*pods[1:4], affinity_seconds=60)})
    first = who(fabric, pods[0])
    assert len(first) == 1
    left = [p for p in pods[1:4] if p.id not in first]
    dataplane.apply({"a": server(*left, affinity_seconds=60)})
    second = who(fabric, pods[0])
    assert len(second) == 1 and second != first


def test_external_addresses_lead_to_the_service(
    fabric: Fabric, pods: list[Attachment], dataplane: Dataplane
) -> None:
    dataplane.apply({"a": server(pods[1], external=("192.0.2.5",))})
    assert who(fabric, pods[0], "192.0.2.5", n=3) == {"p1"}


def test_a_new_process_takes_over_what_the_old_one_left(
    fabric: Fabric, pods: list[Attachment], dataplane: Dataplane
) -> None:
    dataplane.apply({"old": server(pods[1])})
    again = Dataplane(fabric)
    try:
        again.replace({"new": server(pods[2])})
        assert who(fabric, pods[0]) == {"p2"}
    finally:
        again.close()


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed")
def test_nft_lists_the_rules(fabric: Fabric, dataplane: Dataplane) -> None:
    dataplane.apply({"a": VirtualServer(VIP, "TCP", 80, (("10.77.0.2", 80),), 30080, (), 60)})
    path = f"--net={fabric.config.fabric_path}"
    listed = subprocess.run(
        ["nsenter", path, "nft", "list", "ruleset"], capture_output=True, text=True, check=True
    ).stdout
    assert "10.78.0.1 . tcp . 80 : 0x00000001" in listed, listed
    assert "tcp . 30080 : 0x80000001" in listed, listed


def test_endpoints_that_stay_keep_their_places() -> None:
    a, b, c, d = (("10.0.0.1", 1), ("10.0.0.2", 1), ("10.0.0.3", 1), ("10.0.0.4", 1))
    assert _arrange([a, b, c], (a, c, d)) == [a, d, c]
    assert _arrange([a, b, c], (c,)) == [c]
    assert _arrange([], (b, a)) == [b, a]
