"""The fabric namespace and the one link that joins it to the host.

The host's own namespace gets one veth end, routes to the cluster's ranges through it, and nothing
else: no sysctl, no rule, no bridge. All forwarding happens inside the fabric.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from netlab import links
from netlab.namespaces import NamespaceThread, bind_mount, is_namespace, unshare_net
from netlab.netlink import NetlinkSocket, attributes
from netlab.values import GATEWAY, FabricConfig, NetlabError

_EEXIST, _ENODEV = 17, 19
_LO, UPLINK, VXLAN = 1, 2, 3
_SYSCTLS = (
    ("net/ipv6/conf/all/disable_ipv6", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv4/ip_local_port_range", "32768 60999"),
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/netfilter/nf_conntrack_tcp_be_liberal", "1"),
)


def host_mac(host_address: str) -> bytes:
    return b"\x02\x4b" + socket.inet_aton(host_address)


def fabric_mac(host_address: str) -> bytes:
    return b"\x06\x4b" + socket.inet_aton(host_address)


def vxlan_mac(host_address: str) -> bytes:
    """Known to every host without asking: it follows from the host's address."""
    return b"\x0e\x4b" + socket.inet_aton(host_address)


def ensure_namespace(thread: NamespaceThread, path: Path) -> bool:
    """Make the fabric namespace if it is not there. True if it was made."""
    if is_namespace(path):
        return False
    path.touch()
    with thread.home():
        unshare_net()
        _write_sysctls()
        netlink = NetlinkSocket()
        try:
            netlink.send_all([links.link_up(_LO)])
        finally:
            netlink.close()
        bind_mount("/proc/thread-self/ns/net", str(path))
    return True


def ensure_uplink(thread: NamespaceThread, config: FabricConfig, *, fresh: bool) -> None:
    """Create the uplink or complete a half-made one. Runs in the host's namespace and in the
    fabric. Idempotent."""
    fabric_fd = os.open(config.fabric_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _refuse_taken_ranges(config)
        index = _ensure_pair(config, fabric_fd, fresh=fresh)
        netlink = NetlinkSocket()
        try:
            netlink.send_all(_host_messages(config, index))
        finally:
            netlink.close()
        with thread.inside(fabric_fd):
            netlink = NetlinkSocket()
            try:
                netlink.send_all(_fabric_messages(config))
            finally:
                netlink.close()
    finally:
        os.close(fabric_fd)


def _refuse_taken_ranges(config: FabricConfig) -> None:
    """Another cluster's routes, or the machine's own, must not be taken over."""
    wanted = {config.pod_cidr, config.service_cidr, config.node_cidr}
    netlink = NetlinkSocket()
    try:
        for payload in netlink.dump(links.GETROUTE, struct.pack("=B11x", socket.AF_INET)):
            found = dict(attributes(payload, 12))
            if 1 not in found or 4 not in found:
                continue
            cidr = f"{socket.inet_ntoa(found[1])}/{payload[1]}"
            if cidr not in wanted:
                continue
            device = _name_of(struct.unpack("=I", found[4])[0])
            if device not in ("", config.uplink):
                raise NetlabError(
                    f"{cidr} is routed to {device} already:"
                    f" choose other ranges for cluster {config.cluster}"
                )
    finally:
        netlink.close()


def _name_of(index: int) -> str:
    """'' if the link has gone meanwhile."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


def _write_sysctls() -> None:
    for name, value in _SYSCTLS:
        try:
            (Path("/proc/sys") / name).write_text(value)
        except OSError:  # this kernel lacks it (no IPv6, conntrack not loaded): nothing to turn off
            continue


def _ensure_pair(config: FabricConfig, fabric_fd: int, *, fresh: bool) -> int:
    """The host end's index. To a fresh fabric an old link of this name leads nowhere: it is
    replaced."""
    pair = links.veth(
        name=config.uplink,
        index=0,
        mac=host_mac(config.host_address),
        peer_name="uplink",
        peer_index=UPLINK,
        peer_mac=fabric_mac(config.host_address),
        peer_namespace_fd=fabric_fd,
        mtu=config.mtu,
        up=False,
    )
    netlink = NetlinkSocket()
    try:
        if fresh:
            netlink.send_all([links.delete_link(name=config.uplink)], frozenset((_ENODEV,)))
        netlink.send_all([pair], frozenset((_EEXIST,)))
        index = socket.if_nametoindex(config.uplink)
        netlink.try_all([links.no_ipv6_addresses(index)])
        return index
    finally:
        netlink.close()


def _host_messages(config: FabricConfig, index: int) -> list[bytes]:
    ranges = (config.pod_cidr, config.service_cidr, config.node_cidr)
    return [
        links.link_up(index),
        links.address(index, config.host_address),
        links.neighbour(index, GATEWAY, fabric_mac(config.host_address)),
        *(links.route(c, index, via=GATEWAY, source=config.host_address) for c in ranges),
    ]


def _fabric_messages(config: FabricConfig) -> list[bytes]:
    return [
        links.link_up(UPLINK),
        links.route(f"{config.host_address}/32", UPLINK),
        links.neighbour(UPLINK, config.host_address, host_mac(config.host_address)),
        links.route("", UPLINK, via=config.host_address),
        links.unreachable(config.pod_cidr),
        links.unreachable(config.node_cidr),
    ]


def make_vxlan(config: FabricConfig, fabric_fd: int) -> None:
    """The tunnel device in the fabric. It is made from the host's namespace: so its UDP socket is
    there, where the other hosts can be reached, and nothing else of it."""
    netlink = NetlinkSocket()
    try:
        netlink.send_all(
            [
                links.vxlan(
                    name="vxlan",
                    index=VXLAN,
                    mac=vxlan_mac(config.host_address),
                    vni=config.vni,
                    local=config.underlay_ip,
                    port=config.vxlan_port,
                    mtu=config.mtu,
                    namespace_fd=fabric_fd,
                )
            ],
            frozenset((_EEXIST,)),
        )
    finally:
        netlink.close()
