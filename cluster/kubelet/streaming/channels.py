"""What a session needs of its protocol: named streams over one connection."""

from __future__ import annotations

from typing import Protocol

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)


class Channels(Protocol):
    """An exec or attach connection."""

    async def receive(self) -> tuple[int, bytes] | None:
        """The next piece of STDIN or RESIZE; b'' closes that stream; None: the client is gone."""

    async def send(self, channel: int, data: bytes) -> None:
        """Write to STDOUT, STDERR or ERROR. Raises ConnectionResetError."""

    async def finish(self) -> None:
        """Close all streams and the connection in the protocol's way."""
