"""The fabric's own rules: hostPort of pods, hairpin, and masquerading of what leaves the cluster.

Plays CNI's portmap plugin, in one table inside the fabric namespace. hostPorts are elements of one
map, so adding a pod touches no rule.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from netlab import nft
from netlab.hostlink import UPLINK
from netlab.netlink import NetlinkError
from netlab.values import FabricConfig, HostPort

TABLE = "kubestage"
MASQUERADE = 0x8000_0000
"""The mark's top bit: this connection's source must become an address of this host."""
_PORTS = "host-ports"
_EEXIST, _ENOENT = 17, 2
PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}


class HostPorts:
    """The table and its map of host ports."""

    def __init__(self, socket_: nft.NftSocket, config: FabricConfig) -> None:
        self._nft = socket_
        self._config = config

    def ensure(self) -> None:
        """Make the table if it is not there; what it holds stays."""
        try:
            for _ in self._nft.elements(TABLE, _PORTS):
                pass
            return
        except NetlinkError as error:
            if error.errno != _ENOENT:
                raise
        self._nft.commit([*_table(), *_port_rules(), *_masquerade_rules(self._config)])

    def add(self, ports: Sequence[tuple[str, HostPort]]) -> None:
        """Lead host ports to pods. A port that is taken keeps its first owner, as with CNI's
        portmap."""
        if not ports:
            return
        elements = [_element(ip, p) for ip, p in ports]
        try:
            self._nft.commit(nft.add_elements(TABLE, _PORTS, elements))
        except NetlinkError as error:
            if error.errno != _EEXIST:
                raise
            for element in elements:
                self._add_one(element)

    def _add_one(self, element: bytes) -> None:
        try:
            self._nft.commit(nft.add_elements(TABLE, _PORTS, [element]))
        except NetlinkError as error:
            if error.errno != _EEXIST:
                raise

    def remove(self, ports: Sequence[tuple[str, HostPort]]) -> None:
        """Idempotent."""
        for ip, port in ports:
            try:
                self._nft.commit(nft.delete_elements(TABLE, _PORTS, [_element(ip, port)]))
            except NetlinkError as error:
                if error.errno != _ENOENT:
                    raise


def _element(ip: str, port: HostPort) -> bytes:
    key = socket.inet_aton(port.address or "0.0.0.0")
    key += struct.pack("=B3x", PROTOCOLS[port.protocol]) + struct.pack(">H2x", port.host_port)
    data = socket.inet_aton(ip) + struct.pack(">H2x", port.container_port)
    return nft.element(key, nft.plain(data))


def _table() -> list[bytes]:
    address = (nft.IPV4, nft.PROTOCOL, nft.PORT)
    return [
        nft.add_table(TABLE),
        nft.add_map(TABLE, _PORTS, address, (nft.IPV4, nft.PORT)),
        nft.add_chain(TABLE, "ports"),
        nft.add_base_chain(TABLE, "prerouting", "nat", nft.PREROUTING, -101),
        nft.add_base_chain(TABLE, "output", "nat", nft.OUTPUT, -101),
        nft.add_base_chain(TABLE, "forward", "filter", nft.FORWARD, 0),
        nft.add_base_chain(TABLE, "postrouting", "nat", nft.POSTROUTING, 100),
    ]


def _port_rules() -> list[bytes]:
    local = (
        nft.load_address_type(nft.R0),
        nft.compare(nft.R0, struct.pack("=I", nft.LOCAL_ADDRESS)),
    )
    rest = (
        nft.load_protocol(nft.R1),
        nft.load_port(nft.R2),
        nft.lookup(_PORTS, nft.R0, nft.R0),
        nft.dnat(nft.R0, nft.R1),
    )
    jump = nft.go(nft.JUMP, "ports")
    return [
        nft.add_rule(TABLE, "prerouting", *local, jump),
        nft.add_rule(TABLE, "output", *local, jump),
        nft.add_rule(TABLE, "ports", nft.load_destination(nft.R0), *rest),
        nft.add_rule(TABLE, "ports", nft.load_value(nft.R0, b"\0\0\0\0"), *rest),
    ]


def _masquerade_rules(config: FabricConfig) -> list[bytes]:
    """Hairpin: a pod that reaches itself through a virtual address must be answered by way of
    it."""
    uplink = struct.pack("=I", UPLINK)
    redirected = (
        nft.load_ct(nft.R0, 0),
        nft.mask(nft.R0, nft.CT_NEW),
        nft.compare(nft.R0, b"\0\0\0\0", nft.NOT_EQUAL),
        nft.load_ct(nft.R0, 2),
        nft.mask(nft.R0, nft.CT_DNAT),
        nft.compare(nft.R0, b"\0\0\0\0", nft.NOT_EQUAL),
    )
    mark = (
        nft.load_mark(nft.R0),
        nft.mask(nft.R0, 0xFFFFFFFF ^ MASQUERADE, MASQUERADE),
        nft.set_mark(nft.R0),
    )
    not_in_cluster = [
        m
        for cidr in (config.pod_cidr, config.service_cidr, config.node_cidr)
        for m in (nft.load_destination(nft.R0), *nft.in_range(nft.R0, cidr, nft.NOT_EQUAL))
    ]
    return [
        nft.add_rule(
            TABLE,
            "forward",
            *redirected,
            nft.load_input(nft.R0),
            nft.compare(nft.R0, uplink, nft.NOT_EQUAL),
            nft.load_back_by_input(nft.R0),
            nft.compare(nft.R0, b"\1"),
            *mark,
        ),
        nft.add_rule(
            TABLE,
            "forward",
            *redirected,
            nft.load_input(nft.R0),
            nft.compare(nft.R0, uplink),
            nft.load_output(nft.R0),
            nft.compare(nft.R0, uplink),
            *mark,
        ),
        nft.add_rule(
            TABLE,
            "postrouting",
            nft.load_mark(nft.R0),
            nft.mask(nft.R0, MASQUERADE),
            nft.compare(nft.R0, b"\0\0\0\0", nft.NOT_EQUAL),
            nft.masquerade(),
        ),
        nft.add_rule(
            TABLE,
            "postrouting",
            nft.load_output(nft.R0),
            nft.compare(nft.R0, uplink),
            nft.load_source(nft.R0),
            *nft.in_range(nft.R0, config.pod_cidr),
            *not_in_cluster,
            nft.masquerade(),
        ),
    ]
