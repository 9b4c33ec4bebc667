"""The WebSocket side: v5/v4.channel.k8s.io, framing by the websockets library without its I/O.

Plays k8s.io/apimachinery/pkg/util/httpstream/wsstream: the first byte of each message is the
channel; in v5 the message 255,N closes stream N.
"""

from __future__ import annotations

import base64
import hashlib
from collections import deque

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from cluster.api.errors import BadRequest
from cluster.httpserver import RawStream, Request

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CLOSE_CHANNEL = 255
MESSAGE_BYTES = 32 << 20


def offered_protocols(request: Request) -> list[str]:
    """Sec-WebSocket-Protocol, in the client's order."""
    listed = request.repeated.get("sec-websocket-protocol") or [
        request.headers.get("sec-websocket-protocol", "")
    ]
    return [p.strip() for line in listed for p in line.split(",") if p.strip()]


def is_websocket(request: Request) -> bool:
    return request.headers.get("upgrade", "").lower() == "websocket"


class WebSocket:
    """One upgraded connection: whole binary or text messages."""

    def __init__(self, stream: RawStream, protocol: str) -> None:
        self.protocol = protocol
        self._stream = stream
        self._framing = Protocol(Side.SERVER, state=State.OPEN, max_size=MESSAGE_BYTES)
        self._messages: deque[bytes] = deque()
        self._partial = b""
        self._ended = False

    @classmethod
    def accept(cls, request: Request, supported: tuple[str, ...]) -> WebSocket:
        """Answer the handshake with the first protocol both know. Raises BadRequest."""
        key = request.headers.get("sec-websocket-key", "")
        offered = offered_protocols(request)
        chosen = next((p for p in offered if p in supported), "")
        if not key or (offered and not chosen):
            raise BadRequest(f"none of the protocols {offered} is supported: {list(supported)}")
        accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
        stream = request.upgrade()
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept}",
        ]
        if chosen:
            lines.append(f"Sec-WebSocket-Protocol: {chosen}")
        stream.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        return cls(stream, chosen)

    async def receive(self) -> bytes | None:
        """The next message; None at the end."""
        while not self._messages:
            if self._ended:
                return None
            data = await self._stream.read()
            if data:
                self._framing.receive_data(data)
            else:
                self._framing.receive_eof()
                self._ended = True
            for event in self._framing.events_received():
                assert isinstance(event, Frame)
                if event.opcode is Opcode.CLOSE:
                    self._ended = True
                elif event.opcode in (Opcode.BINARY, Opcode.TEXT, Opcode.CONT):
                    self._partial += bytes(event.data)
                    if event.fin:
                        self._messages.append(self._partial)
                        self._partial = b""
            self._flush()
        return self._messages.popleft()

    async def send(self, message: bytes) -> None:
        """One binary message. Raises ConnectionResetError."""
        if self._stream.closed or self._framing.state is not State.OPEN:
            raise ConnectionResetError("the client is gone")
        self.send_nowait(message)
        await self._stream.drain()

    def send_nowait(self, message: bytes) -> None:
        """One binary message; dropped when the client is gone."""
        if not self._stream.closed and self._framing.state is State.OPEN:
            self._framing.send_binary(message)
            self._flush()

    async def drain(self) -> None:
        """Wait for a slow client. Raises ConnectionResetError."""
        await self._stream.drain()

    def close_nowait(self) -> None:
        if self._framing.state is State.OPEN:
            self._framing.send_close(1000)
            self._flush()
        self._stream.close()

    def _flush(self) -> None:
        for data in self._framing.data_to_send():
            if data:
                self._stream.write(data)


class WebSocketChannels:
    """Channels of one exec or attach over a WebSocket."""

    PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io")

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def receive(self) -> tuple[int, bytes] | None:
        while True:
            message = await self._socket.receive()
            if message is None:
                return None
            if not message:
                continue
            if message[0] == CLOSE_CHANNEL and self._socket.protocol.startswith("v5"):
                return (message[1], b"") if len(message) > 1 else None
            if len(message) > 1:
                return message[0], message[1:]

    async def send(self, channel: int, data: bytes) -> None:
        await self._socket.send(bytes((channel,)) + data)

    async def finish(self) -> None:
        self._socket.close_nowait()
