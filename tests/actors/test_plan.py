"""The plan of a cluster: addresses never collide, nodes are spread, ranges fit."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.addresses import host_networks, with_free_ranges
from actors.configuration import ClusterConfiguration
from actors.errors import UserError
from actors.plan import Host, node_cidr_mask, plan_cluster


def ranged(**settings: object) -> ClusterConfiguration:
    """A configuration with its ranges chosen, on a machine that has none of its own."""
    return with_free_ranges(ClusterConfiguration(**settings), [])  # type: ignore[arg-type]


def hosts(count: int, cores: int = 2) -> list[Host]:
    return [Host(f"ray{i}", f"192.0.2.{i + 1}", cores) for i in range(count)]


@given(nodes=st.integers(0, 600), host_count=st.integers(1, 9), size=st.integers(0, 300))
def test_every_node_has_one_host_one_actor_and_an_address_of_its_own(
    nodes: int, host_count: int, size: int
) -> None:
    settings = ranged(nodes=nodes, kubelets_per_actor=size)
    plan = plan_cluster(settings, hosts(host_count))
    in_actors = [n for k in plan.kubelets for n in k.nodes]
    assert sorted(n.name for n in in_actors) == sorted(f"node-{i}" for i in range(nodes))
    addresses = [n.address for n in in_actors]
    for host in plan.hosts:
        addresses += [host.address, host.dns_address]
    assert len(set(addresses)) == len(addresses)
    network = ipaddress.ip_network(settings.node_cidr)
    assert all(ipaddress.ip_address(a) in network for a in addresses)
    share = [len(h.nodes) for h in plan.hosts]
    assert max(share) - min(share) <= 1
    assert all(len(k.nodes) <= (size or 600) for k in plan.kubelets)
    for kubelet in plan.kubelets:
        assert set(kubelet.nodes) <= set(plan.hosts[kubelet.host_index].nodes)


def test_one_actor_plays_a_hundred_nodes_and_a_core_each_plays_the_rest() -> None:
    assert len(plan_cluster(ranged(nodes=100), hosts(1)).kubelets) == 1
    thousand = ranged(nodes=1000)
    assert len(plan_cluster(thousand, hosts(1, cores=2)).kubelets) == 2
    one_each = ranged(nodes=5, kubelets_per_actor=1)
    assert len(plan_cluster(one_each, hosts(1)).kubelets) == 5


@pytest.mark.parametrize(
    ("nodes", "cidr", "mask"),
    [(20, "10.244.0.0/16", 24), (200, "10.244.0.0/16", 24), (400, "10.244.0.0/16", 25),
     (5000, "10.0.0.0/8", 24)],
)  # fmt: skip
def test_a_node_range_is_as_wide_as_the_number_of_nodes_allows(
    nodes: int, cidr: str, mask: int
) -> None:
    assert node_cidr_mask(ClusterConfiguration(nodes=nodes, pod_cidr=cidr)) == mask


def test_a_cluster_range_without_room_is_refused_with_the_size_that_fits() -> None:
    settings = ranged(nodes=5000, pod_cidr="10.244.0.0/16")
    with pytest.raises(UserError, match="use a /12 or wider"):
        plan_cluster(settings, hosts(1))


def test_pods_reach_the_api_server_over_the_uplink_or_the_underlay() -> None:
    plan = plan_cluster(ranged(), hosts(2))
    assert plan.advertise_address == "172.30.0.1"
    none = plan_cluster(ranged(network="none"), hosts(2))
    assert none.advertise_address == "192.0.2.1"


def test_a_second_cluster_gets_ranges_of_its_own() -> None:
    first = ranged()
    assert (first.pod_cidr, first.service_cidr) == ("10.244.0.0/16", "10.96.0.0/16")
    taken = [
        ipaddress.IPv4Network(c) for c in (first.pod_cidr, first.service_cidr, first.node_cidr)
    ]
    second = with_free_ranges(ClusterConfiguration(name="b"), taken)
    ours = [
        ipaddress.IPv4Network(c) for c in (second.pod_cidr, second.service_cidr, second.node_cidr)
    ]
    assert not any(a.overlaps(b) for a in taken for b in ours)


def test_thousands_of_nodes_get_a_wider_range() -> None:
    assert ipaddress.IPv4Network(ranged(nodes=5000).pod_cidr).prefixlen == 9


def test_ranges_that_overlap_are_refused() -> None:
    with pytest.raises(UserError, match=r"pod-cidr 10.96.0.0/12 overlaps 10.96.0.0/16"):
        ranged(pod_cidr="10.96.0.0/12", service_cidr="10.96.0.0/16")


def test_the_hosts_routes_are_read_as_networks(tmp_path: Path) -> None:
    table = tmp_path / "route"
    table.write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0000F40A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    )
    assert host_networks(table) == [ipaddress.IPv4Network("10.244.0.0/16")]
