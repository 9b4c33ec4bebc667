"""Machines for tests: each is a network namespace of its own, so no test meets a running
cluster."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from netlab import Fabric, FabricConfig, links
from netlab.namespaces import NamespaceThread, unshare_net
from netlab.netlink import NetlinkSocket

T = TypeVar("T")


class Machine:
    """A host: a thread that lives in an empty network namespace. Threads it starts live there
    too."""

    def __init__(self, state_dir: Path, address: str = "172.29.0.1", underlay: str = "") -> None:
        self.thread = NamespaceThread("machine")
        self.thread.run(unshare_net)
        self.thread.run(_loopback_up)
        self.config = FabricConfig(
            "test", state_dir, "10.77.0.0/16", "10.78.0.0/16", "172.29.0.0/16", address, underlay
        )

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """In the machine's own namespace."""
        return self.thread.run(function, *args)

    def fabric(self, owner: str = "main") -> Fabric:
        return self.run(Fabric.ensure, self.config, owner)

    def sweep(self) -> None:
        from netlab import sweep

        self.run(sweep, self.config.state_dir)

    def stop(self) -> None:
        self.thread.stop()


def _loopback_up() -> None:
    netlink = NetlinkSocket()
    netlink.send_all([links.link_up(1)])
    netlink.close()


def join(one: Machine, other: Machine) -> None:
    """A cable between two machines, with their underlay addresses."""
    fd = other.run(os.open, "/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        pair = links.veth(
            name="wire", index=0, mac=b"\2\0\0\0\0\1", peer_name="wire", peer_index=0,
            peer_mac=b"\2\0\0\0\0\2", peer_namespace_fd=fd, mtu=1500,
        )  # fmt: skip
        one.run(_send, [pair])
    finally:
        os.close(fd)
    for machine in (one, other):
        machine.run(_address_wire, machine.config.underlay_ip)


def _send(messages: list[bytes]) -> None:
    netlink = NetlinkSocket()
    try:
        netlink.send_all(messages)
    finally:
        netlink.close()


def _address_wire(ip: str) -> None:
    index = socket.if_nametoindex("wire")
    _send([links.link_up(index), links.address(index, ip, prefix=24)])


@contextlib.contextmanager
def serving(listener: socket.socket, name: str) -> Iterator[None]:
    """Answer every connection with `name` and the client's address."""
    listener.setblocking(True)

    def work() -> None:
        while True:
            try:
                connection, client = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(f"{name} {client[0]}".encode())

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def ask(address: tuple[str, int]) -> str:
    """What the server there says; 'refused' or 'unreachable' where there is none."""
    try:
        with socket.create_connection(address, timeout=3) as connection:
            return connection.recv(200).decode()
    except ConnectionRefusedError:
        return "refused"
    except OSError as error:
        return "unreachable" if error.errno == 113 else repr(error)
