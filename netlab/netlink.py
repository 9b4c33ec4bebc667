"""Netlink, hand-encoded: bytes in, acknowledgements out.

A library that models each message as an object costs about 0.8 ms a call; a pod needs eight
messages. Here a message is `struct` bytes, many go out with one `sendmsg`, and only the last one of
a batch asks for an acknowledgement: the kernel answers the others only when they fail. Wire format:
RFC 3549, linux/netlink.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, EXCLUSIVE, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
NLMSG_ERROR, NLMSG_DONE = 2, 3
NESTED = 0x8000
ROUTE, NETFILTER = 0, 12
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
MAX_BATCH_BYTES = 150_000
"""A batch beyond this is cut: the kernel copies it into one buffer that the send limit must
allow."""
ANSWER_SECONDS = 60
"""The kernel answers at once; without an answer for so long something is badly wrong."""


class NetlinkError(OSError):
    """The kernel refused a message. `errno` says why, `sequence` which one of the batch."""

    def __init__(self, code: int, text: str, sequence: int) -> None:
        super().__init__(code, f"{os.strerror(code)}{': ' + text if text else ''}")
        self.text = text
        self.sequence = sequence


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute (nlattr), padded to four bytes."""
    size = len(payload) + 4
    return _ATTRIBUTE.pack(size, kind) + payload + b"\0" * (-size % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    payload = b"".join(attributes)
    return _ATTRIBUTE.pack(len(payload) + 4, kind | NESTED) + payload


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    return struct.pack("=HHB3x", 5, kind, value)


def u16(kind: int, value: int) -> bytes:
    return struct.pack("=HHH2x", 6, kind, value)


def u32(kind: int, value: int) -> bytes:
    return struct.pack("=HHI", 8, kind, value)


def be16(kind: int, value: int) -> bytes:
    return struct.pack("=HH", 6, kind) + struct.pack(">H2x", value)


def be32(kind: int, value: int) -> bytes:
    return struct.pack("=HH", 8, kind) + struct.pack(">I", value)


def be64(kind: int, value: int) -> bytes:
    return struct.pack("=HH", 12, kind) + struct.pack(">Q", value)


def message(kind: int, flags: int, *parts: bytes) -> bytes:
    """One request; its sequence number is filled in when it is sent."""
    body = b"".join(parts)
    return _HEADER.pack(16 + len(body), kind, flags | REQUEST, 0, 0) + body


def attributes(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes in `data` from `offset` on, without the nested flag."""
    end = len(data)
    while offset + 4 <= end:
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + size]
        offset += (size + 3) & ~3


class NetlinkSocket:
    """One netlink socket; it belongs to the network namespace of the thread that opened it. Not
    thread-safe."""

    def __init__(self, protocol: int = ROUTE) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        self._sequence = 0
        try:
            self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
            limit = struct.pack("=qq", ANSWER_SECONDS, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def enlarge(self, size: int = 8 << 20) -> None:
        """Room for large transactions (SO_SNDBUFFORCE, SO_RCVBUFFORCE: needs CAP_NET_ADMIN)."""
        self._socket.setsockopt(socket.SOL_SOCKET, 32, size)
        self._socket.setsockopt(socket.SOL_SOCKET, 33, size)

    def send_all(self, messages: Sequence[bytes], ignore: frozenset[int] = frozenset()) -> None:
        """Send route messages in as few calls as possible and wait for the last one's
        acknowledgement.

        Every message is tried; the first error whose errno is not in `ignore` is raised at the end.
        """
        errors = [e for e in self.try_all(messages) if e.errno not in ignore]
        if errors:
            raise errors[0]

    def try_all(self, messages: Sequence[bytes]) -> list[NetlinkError]:
        """As `send_all`, but returns the errors; `sequence` of each is the message's index."""
        errors: list[NetlinkError] = []
        start = 0
        while start < len(messages):
            size, end = 0, start
            while end < len(messages) and (
                end == start or size + len(messages[end]) < MAX_BATCH_BYTES
            ):
                size += len(messages[end])
                end += 1
            errors += self._send_chunk(messages[start:end], start)
            start = end
        return errors

    def _send_chunk(self, chunk: Sequence[bytes], offset: int) -> list[NetlinkError]:
        first = self._sequence + 1
        self._sequence += len(chunk)
        out: list[bytes] = []
        last = len(chunk) - 1
        for i, m in enumerate(chunk):
            flags = m[6:8] if i != last else bytes((m[6] | ACK, m[7]))
            out += (m[:6], flags, struct.pack("=I", first + i), m[12:])
        self._socket.send(b"".join(out))
        return [
            NetlinkError(e.errno or 0, e.text, e.sequence - first + offset)
            for e in self.read_acks(first, self._sequence)
        ]

    def transact(self, data: bytes, first_sequence: int, last_sequence: int) -> list[NetlinkError]:
        """Send bytes that were encoded with sequence numbers, and wait for `last_sequence`'s
        answer."""
        self._socket.send(data)
        return list(self.read_acks(first_sequence, last_sequence))

    def read_acks(self, first_sequence: int, last_sequence: int) -> Iterable[NetlinkError]:
        """Errors from the answer to `first_sequence` up to and with the one to `last_sequence`.
        What an interrupted request before left in the queue is passed over."""
        while True:
            data = self._socket.recv(1 << 18)
            offset, finished = 0, False
            while offset + 16 <= len(data):
                size, kind, _flags, sequence, _ = _HEADER.unpack_from(data, offset)
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", data, offset + 16)[0]
                    if code and first_sequence <= sequence <= last_sequence:
                        yield NetlinkError(code, _reason(data, offset, size), sequence)
                    finished = finished or sequence == last_sequence
                offset += max(16, (size + 3) & ~3)
            if finished:
                return

    def dump(self, kind: int, *parts: bytes, flags: int = DUMP) -> Iterator[bytes]:
        """The payloads of the answers to a dump request."""
        self._sequence += 1
        body = b"".join(parts)
        head = _HEADER.pack(16 + len(body), kind, flags | REQUEST, self._sequence, 0)
        self._socket.send(head + body)
        while True:
            data = self._socket.recv(1 << 20)
            offset = 0
            while offset + 16 <= len(data):
                size, answer, _flags, sequence, _ = _HEADER.unpack_from(data, offset)
                if sequence == self._sequence:
                    if answer == NLMSG_DONE:
                        return
                    if answer == NLMSG_ERROR:
                        code = -struct.unpack_from("=i", data, offset + 16)[0]
                        if code:
                            raise NetlinkError(code, _reason(data, offset, size), sequence)
                        return
                    yield data[offset + 16 : offset + size]
                    if not flags & DUMP:
                        return
                offset += max(16, (size + 3) & ~3)


def _reason(data: bytes, offset: int, size: int) -> str:
    """The kernel's own words, if it gave some (NLMSGERR_ATTR_MSG; the request is not echoed:
    CAP_ACK)."""
    for kind, value in attributes(data[offset : offset + size], 36):
        if kind == 1:
            return value.rstrip(b"\0").decode(errors="replace")
    return ""
