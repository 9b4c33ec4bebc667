"""The fabric: one network namespace per cluster and host that holds every link, route and rule of
the cluster.

Removing that namespace removes them all, even after SIGKILL; the machine's own firewall and routes
are never touched. Several processes of a host may share a fabric: each opens it under an `owner`
name of its own and has a ledger of its own.

All methods block and may be called from any thread; an event loop calls
`fabric.submit(fabric.add_pods, pods)` and awaits the future. The work itself happens in one thread
(see namespaces.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from netlab import hostlink, links, pods
from netlab.hostports import HostPorts
from netlab.ipam import Ipam
from netlab.ledger import Ledger, Record
from netlab.namespaces import (
    NamespaceThread,
    is_mount_point,
    is_namespace,
    mount_private_tmpfs,
)
from netlab.netd import spare_subnet, write_conflist, write_plugin
from netlab.netlink import NetlinkSocket
from netlab.nft import NftSocket
from netlab.peers import plan_peers, stale_routes
from netlab.values import (
    Attachment,
    FabricConfig,
    HostPort,
    ListenerError,
    NetlabError,
    Peer,
    PodLink,
)

P = ParamSpec("P")
T = TypeVar("T")
_CHUNK = 64
_MAX_CLOSING = 512
"""Namespaces that may wait for the kernel to free them before the next ones are made: it frees
serially."""
_CLOSING_SECONDS = 10.0
_ENOENT, _EEXIST, _ESRCH, _ENODEV, _EADDRNOTAVAIL = 2, 17, 3, 19, 99
_GONE = frozenset((_ENOENT, _ESRCH, _ENODEV, _EADDRNOTAVAIL))


@dataclass(frozen=True, slots=True)
class FabricStatistics:
    """`closing`: namespaces given back to the kernel that it has not freed yet (as far as
    looked)."""

    attached: int
    closing: int
    ledger_lines: int


class Fabric:
    """An open fabric. Make one with `Fabric.ensure`."""

    def __init__(self, config: FabricConfig, owner: str, thread: NamespaceThread) -> None:
        self.config = config
        self.owner = owner
        self._thread = thread
        self._ledger = Ledger(_ledger_path(config.state_dir, owner))
        self._fd = os.open(config.fabric_path, os.O_RDONLY | os.O_CLOEXEC)
        self._closed = False
        self._ipam = Ipam()
        self._attached: dict[str, Attachment] = {}
        self._closing: dict[int, float] = {}
        self._peers: dict[str, Peer] | None = None
        self._ipv6 = Path("/proc/sys/net/ipv6").exists()
        with thread.inside(self._fd):
            self._route = NetlinkSocket()
            self._nft = NftSocket()
            self._node_addresses = set(_addresses(self._route))
        self._host_ports = HostPorts(self._nft, config)

    @classmethod
    def ensure(cls, config: FabricConfig, owner: str = "main") -> Fabric:
        """Make the fabric, or find it, or complete it after a crash. Idempotent; safe beside other
        processes.

        Raises NetlabError without the rights to, OSError if the kernel refuses.
        """
        if os.geteuid() != 0:
            raise NetlabError("real pod networks need root; without it use --network none")
        thread = NamespaceThread(f"netlab-{owner}")
        try:
            return thread.run(cls._ensure, config, owner, thread)
        except BaseException:
            thread.stop()
            raise

    @classmethod
    def _ensure(cls, config: FabricConfig, owner: str, thread: NamespaceThread) -> Fabric:
        config.namespaces.mkdir(parents=True, exist_ok=True)
        with _locked(config.state_dir):
            fabric_ledger = Ledger(_ledger_path(config.state_dir, "fabric"))
            if config.uplink not in fabric_ledger.state.links:
                fabric_ledger.append([{"op": "link", "name": config.uplink}])
            fabric_ledger.close()
            if not is_mount_point(config.namespaces):
                mount_private_tmpfs(str(config.namespaces))
            write_plugin(config.state_dir / "bin")
            write_conflist(config, spare_subnet(config.pod_cidr), config.state_dir / "net.d")
            fresh = hostlink.ensure_namespace(thread, config.fabric_path)
            hostlink.ensure_uplink(thread, config, fresh=fresh)
            fabric = cls(config, owner, thread)
            fabric._host_ports.ensure()
            fabric._recover()
            return fabric

    def close(self) -> None:
        """Let go of the fabric; what is attached stays and works on. Idempotent."""
        if not self._closed:
            self._closed = True
            self._thread.run(self._close)
            self._thread.stop()

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a method in the fabric's thread; for event loops."""
        return self._thread.submit(function, *args, **kwargs)

    # Pods

    def add_pods(self, wanted: Sequence[PodLink]) -> list[Attachment | NetlabError]:
        """CNI ADD for many. Idempotent by id. What could not be done has an error in its place."""
        return self._thread.run(self._add_pods, wanted)

    def delete_pods(self, ids: Iterable[str]) -> None:
        """CNI DEL for many. Idempotent. Traffic stops at once; the kernel frees the rest in its own
        time."""
        self._thread.run(self._delete_pods, list(ids))

    def attachments(self) -> Mapping[str, Attachment]:
        """What this owner has attached."""
        return dict(self._attached)

    def statistics(self) -> FabricStatistics:
        return FabricStatistics(len(self._attached), len(self._closing), self._ledger.state.lines)

    # Hosts

    def set_node_addresses(self, addresses: Iterable[str]) -> None:
        """Exactly these addresses answer on this host (as /32 of the fabric's loopback)."""
        self._thread.run(self._set_node_addresses, set(addresses))

    @property
    def node_addresses(self) -> frozenset[str]:
        return frozenset(self._node_addresses)

    def set_peers(self, peers: Iterable[Peer]) -> None:
        """Exactly these other hosts belong to the cluster. Hosts may join and leave while pods
        run."""
        self._thread.run(self._set_peers, {p.host_address: p for p in peers})

    # Sockets

    def socket_in(
        self, netns_path: str, kind: socket.SocketKind, address: str, port: int
    ) -> socket.socket:
        """A bound, non-blocking socket in a pod's namespace, or in the fabric's if `netns_path` is
        ''. Listening if it is a stream. Raises OSError (address in use), ListenerError (no such
        namespace)."""
        return self._thread.run(self._socket_in, netns_path, kind, address, port)

    def call_in(
        self, netns_path: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a short function inside a namespace ('' is the fabric), in the fabric's thread."""

        def inside() -> T:
            with self._thread.inside(netns_path or self._fd):
                return function(*args, **kwargs)

        return self._thread.run(inside)

    # The end

    def destroy(self, wait_seconds: float = 30.0) -> None:
        """Remove all of the cluster from this host, other owners' pods too, and wait for the
        kernel."""
        self.close()
        from netlab.sweep import sweep

        sweep(self.config.state_dir, wait_seconds)

    # In the thread

    def _close(self) -> None:
        self._route.close()
        self._nft.close()
        self._ledger.close()
        os.close(self._fd)

    def _add_pods(self, wanted: Sequence[PodLink]) -> list[Attachment | NetlabError]:
        results: list[Attachment | NetlabError] = []
        for start in range(0, len(wanted), _CHUNK):
            self._wait_closing(_MAX_CLOSING)
            results += self._add_chunk(wanted[start : start + _CHUNK])
        return results

    def _add_chunk(self, wanted: Sequence[PodLink]) -> list[Attachment | NetlabError]:
        outcome: dict[str, Attachment | NetlabError] = {}
        new: list[tuple[PodLink, pods.Wire]] = []
        records: list[Record] = []
        for link in {link.id: link for link in wanted}.values():
            held = self._attached.get(link.id)
            if held is not None:
                outcome[link.id] = held
                continue
            try:
                ip = self._ipam.allocate(link.cidr, link.id, link.ip)
            except (NetlabError, ValueError, OSError) as error:
                outcome[link.id] = _as_netlab_error(error)
                continue
            path = link.netns or str(self.config.namespaces / _file_name(link.id))
            new.append((link, pods.Wire(ip, path, bool(link.netns))))
            records.append(_add_record(link, ip))
        self._ledger.append(records)
        made = self._make_ends(new, outcome)
        self._connect(made, outcome)
        return [outcome[link.id] for link in wanted]

    def _make_ends(
        self,
        new: list[tuple[PodLink, pods.Wire]],
        outcome: dict[str, Attachment | NetlabError],
    ) -> list[tuple[PodLink, pods.Wire, float]]:
        made: list[tuple[PodLink, pods.Wire, float]] = []
        with self._thread.home():
            for link, wire in new:
                started = time.perf_counter()
                if wire.index in self._closing:
                    self._wait_closed(wire.index)
                try:
                    self._make_end(link, wire)
                except OSError as error:
                    outcome[link.id] = self._undo(link, wire, error)
                    continue
                made.append((link, wire, time.perf_counter() - started))
        return made

    def _make_end(self, link: PodLink, wire: pods.Wire) -> None:
        if wire.borrowed:
            with self._thread.inside(wire.netns_path):
                pods.make_borrowed_end(wire, link.ifname, self._fd, self.config.mtu)
        else:
            pods.make_pod_end(wire, self._fd, self.config.mtu, ipv6=self._ipv6)

    def _remove_end(self, wire: pods.Wire) -> None:
        """Idempotent. A borrowed namespace stays, so its link is deleted by hand."""
        if wire.borrowed:
            self._route.send_all([links.delete_link(wire.index)], _GONE)
        else:
            pods.remove_pod_end(wire.netns_path)

    def _connect(
        self,
        made: list[tuple[PodLink, pods.Wire, float]],
        outcome: dict[str, Attachment | NetlabError],
    ) -> None:
        """The fabric's side of a chunk: routes, neighbours, host ports; then the pods count as
        attached."""
        if not made:
            return
        started = time.perf_counter()
        messages = [m for _, wire, _ in made for m in pods.fabric_messages(wire)]
        failed = {e.sequence // 3: e for e in self._route.try_all(messages)}
        self._host_ports.add([(wire.ip, p) for link, wire, _ in made for p in link.host_ports])
        share = (time.perf_counter() - started) / len(made)
        complete = []
        for i, (link, wire, seconds) in enumerate(made):
            if i in failed:
                outcome[link.id] = self._undo(link, wire, failed[i])
                continue
            attachment = Attachment(
                link.id,
                link.node,
                link.cidr,
                wire.ip,
                wire.netns_path,
                wire.interface,
                tuple(link.host_ports),
                seconds + share,
                wire.borrowed,
            )
            self._attached[link.id] = outcome[link.id] = attachment
            complete.append(link.id)
        self._ledger.append([{"op": "up", "ids": complete}])

    def _undo(self, link: PodLink, wire: pods.Wire, error: OSError) -> NetlabError:
        """Take back a half-made pod. An address that somebody unknown has is never tried again."""
        if not (wire.borrowed and error.errno == _EEXIST):
            self._remove_end(wire)
        self._ipam.release(link.id)
        if error.errno == _EEXIST:
            self._ipam.block(link.cidr, wire.ip)
        else:
            self._closing[wire.index] = time.monotonic()
        self._ledger.append([{"op": "del", "ids": [link.id]}])
        return _as_netlab_error(error)

    def _delete_pods(self, ids: list[str]) -> None:
        known = [a for i in ids if (a := self._attached.pop(i, None)) is not None]
        for start in range(0, len(known), _CHUNK):
            chunk = known[start : start + _CHUNK]
            wires = [pods.Wire(a.ip, a.netns_path, a.borrowed) for a in chunk]
            self._host_ports.remove([(a.ip, p) for a in chunk for p in a.host_ports])
            self._route.send_all([pods.unroute_message(w) for w in wires], _GONE)
            now = time.monotonic()
            for attachment, wire in zip(chunk, wires, strict=True):
                self._remove_end(wire)
                self._ipam.release(attachment.id)
                self._closing[wire.index] = now
            self._ledger.append([{"op": "del", "ids": [a.id for a in chunk]}])
        if len(self._closing) > 4 * _MAX_CLOSING:
            self._wait_closing(_MAX_CLOSING)

    def _wait_closing(self, limit: int) -> None:
        """Wait until the kernel has freed all but `limit` namespaces. A link that stays on is
        deleted by hand."""
        while len(self._closing) > limit:
            self._wait_closed(next(iter(self._closing)))

    def _wait_closed(self, index: int) -> None:
        """Until the link of a deleted pod is gone."""
        deadline = self._closing[index] + _CLOSING_SECONDS
        while _link_exists(self._route, index):
            if time.monotonic() > deadline:
                self._route.send_all([links.delete_link(index)], _GONE)
            time.sleep(0.002)
        del self._closing[index]

    def _set_node_addresses(self, wanted: set[str]) -> None:
        present = set(_addresses(self._route))
        added, removed = wanted - present, present - wanted
        loopback = 1
        messages = [links.address(loopback, ip) for ip in sorted(added, key=socket.inet_aton)]
        messages += [links.address(loopback, ip, delete=True) for ip in removed]
        self._route.send_all(messages, _GONE)
        self._node_addresses = set(wanted)

    def _set_peers(self, wanted: dict[str, Peer]) -> None:
        plan = plan_peers(self.config, self._peers or {}, wanted)
        if plan.device and not _link_exists(self._route, hostlink.VXLAN):
            hostlink.make_vxlan(self.config, self._fd)
        removals = list(plan.removals)
        if self._peers is None:
            removals += stale_routes(self._route, wanted)
        self._route.send_all(removals, _GONE)
        self._route.send_all(plan.additions)
        self._peers = wanted

    def _socket_in(
        self, netns_path: str, kind: socket.SocketKind, address: str, port: int
    ) -> socket.socket:
        try:
            place = self._thread.inside(netns_path or self._fd)
            with place:
                made = socket.socket(socket.AF_INET, kind)
        except FileNotFoundError as error:
            raise ListenerError(f"no network namespace at {netns_path}") from error
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setblocking(False)
            made.bind((address, port))
            if kind == socket.SOCK_STREAM:
                made.listen(1024)
        except BaseException:
            made.close()
            raise
        return made

    def _recover(self) -> None:
        """Take up what the ledger says: complete pods are adopted, half-made ones are removed."""
        state = self._ledger.state
        for cidr, ip in state.cursors.items():
            self._ipam.resume(cidr, ip)
        dead = []
        for record in list(state.pods.values()):
            attachment = self._attachment(record)
            index = pods.Wire(attachment.ip, attachment.netns_path).index
            if (
                record.get("up")
                and is_namespace(attachment.netns_path)
                and (not attachment.borrowed or _link_exists(self._route, index))
            ):
                self._attached[attachment.id] = attachment
                self._ipam.hold(attachment.cidr, attachment.id, attachment.ip)
            else:
                dead.append(attachment)
        for attachment in dead:
            if not attachment.borrowed:
                pods.remove_pod_end(attachment.netns_path)
            index = pods.Wire(attachment.ip, attachment.netns_path).index
            self._route.send_all([links.delete_link(index)], _GONE)
            self._host_ports.remove([(attachment.ip, p) for p in attachment.host_ports])
        if dead:
            self._ledger.append([{"op": "del", "ids": [a.id for a in dead]}])

    def _attachment(self, record: Record) -> Attachment:
        borrowed = record.get("netns", "")
        path = borrowed or str(self.config.namespaces / _file_name(record["id"]))
        wire = pods.Wire(record["ip"], path)
        ports = tuple(HostPort(*p) for p in record.get("ports", ()))
        return Attachment(
            record["id"],
            record["node"],
            record["cidr"],
            wire.ip,
            path,
            wire.interface,
            ports,
            borrowed=bool(borrowed),
        )


def _ledger_path(state_dir: Path, owner: str) -> Path:
    return state_dir / "ledger" / f"{owner}.jsonl"


def _file_name(pod: str) -> str:
    assert "/" not in pod and pod not in ("", ".", "..", "fabric"), pod
    return pod


def _add_record(link: PodLink, ip: str) -> Record:
    record: Record = {"op": "add", "id": link.id, "node": link.node, "cidr": link.cidr, "ip": ip}
    if link.host_ports:
        record["ports"] = [
            (p.host_port, p.container_port, p.protocol, p.address) for p in link.host_ports
        ]
    if link.netns:
        record["netns"] = link.netns
    return record


def _as_netlab_error(error: Exception) -> NetlabError:
    if isinstance(error, NetlabError):
        return error
    wrapped = NetlabError(f"the kernel refused a pod's link: {error}")
    wrapped.__cause__ = error
    return wrapped


@contextlib.contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    """One process at a time changes the fabric itself."""
    with (state_dir / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _link_exists(netlink: NetlinkSocket, index: int) -> bool:
    try:
        return any(True for _ in netlink.dump(links.GETLINK, links.info(index), flags=0))
    except OSError:
        return False


def _addresses(netlink: NetlinkSocket) -> Iterator[str]:
    """The /32 addresses of the loopback."""
    from netlab.netlink import attributes

    for payload in netlink.dump(links.GETADDR, links.info(0, family=socket.AF_INET)):
        if payload[1] == 32 and int.from_bytes(payload[4:8], "little") == 1:
            found = dict(attributes(payload, 8))
            yield socket.inet_ntoa(found[2])
