"""A pod network without a kernel: addresses out of each node's podCIDR, nothing behind them.

Plays CNI for `--network none` and for tests. Promises: the same address for the same sandbox, none
handed out twice while held, lowest-recently-used first. Leaves out sockets and commands: `listen`
and `run` refuse, so that the runtime answers probes in memory and exec says why it cannot run.
"""

from __future__ import annotations

import ipaddress
import socket
from collections import deque
from collections.abc import Mapping

from cluster.runtime.network import (
    ExecProcess,
    ExecSpec,
    NetworkError,
    NetworkRequest,
    NetworkResult,
)


class EmulatedPodNetwork:
    """Implements PodNetwork in memory."""

    def __init__(self) -> None:
        self._results: dict[str, NetworkResult] = {}
        self._cidr_of: dict[str, str] = {}
        self._next: dict[str, int] = {}
        self._free: dict[str, deque[str]] = {}

    async def add(self, request: NetworkRequest) -> NetworkResult:
        known = self._results.get(request.sandbox_id)
        if known is not None:
            return known
        if request.host_network:
            ip = request.node_ip
        else:
            ip = self._allocate(request.pod_cidr)
            self._cidr_of[request.sandbox_id] = request.pod_cidr
        result = NetworkResult(request.sandbox_id, ip)
        self._results[request.sandbox_id] = result
        return result

    async def delete(self, sandbox_id: str) -> None:
        result = self._results.pop(sandbox_id, None)
        cidr = self._cidr_of.pop(sandbox_id, None)
        if result is not None and cidr is not None:
            self._free.setdefault(cidr, deque()).append(result.ip)

    def restore(self, request: NetworkRequest, ip: str) -> None:
        """Take an address that a journal remembers (there is no kernel that remembers it)."""
        self._results[request.sandbox_id] = NetworkResult(request.sandbox_id, ip)
        if not request.host_network:
            self._cidr_of[request.sandbox_id] = request.pod_cidr
            base = int(ipaddress.ip_network(request.pod_cidr).network_address)
            offset = int(ipaddress.ip_address(ip)) - base
            self._next[request.pod_cidr] = max(self._next.get(request.pod_cidr, 2), offset + 1)

    def attachments(self) -> Mapping[str, NetworkResult]:
        return self._results

    def listen(self, result: NetworkResult, kind: socket.SocketKind, port: int) -> socket.socket:
        raise NetworkError("this cluster has no pod network (--network none)")

    async def run(self, spec: ExecSpec) -> ExecProcess:
        raise NetworkError(
            "commands need a real pod network: this cluster runs with --network none"
        )

    def _allocate(self, cidr: str) -> str:
        if not cidr:
            raise NetworkError("the node has no podCIDR yet")
        network = ipaddress.ip_network(cidr)
        offset = self._next.get(cidr, 2)
        if offset < network.num_addresses - 1:
            self._next[cidr] = offset + 1
            return str(network.network_address + offset)
        free = self._free.get(cidr)
        if free:
            return free.popleft()
        raise NetworkError(f"no address left in {cidr}")
