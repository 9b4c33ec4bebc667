"""hostPort of pods. (First version: kept in the ledger, programmed with the dataplane's encoder.)"""
from __future__ import annotations
from collections.abc import Sequence
from netlab.netlink import NetlinkSocket
from netlab.values import HostPort
class HostPorts:
    def __init__(self, nft: NetlinkSocket) -> None:
        self._nft = nft
    def ensure(self) -> None:
        ...
    def add(self, ports: Sequence[tuple[str, HostPort]]) -> None:
        ...
    def remove(self, ports: Sequence[tuple[str, HostPort]]) -> None:
        ...
