"""exec and attach over SPDY: one SPDY stream each for stdin, stdout, stderr, error and resize.

Plays k8s.io/kubelet's remotecommand/httpstream.go, protocols v1 to v4.channel.k8s.io.
"""

from __future__ import annotations

import asyncio

from cluster.api.errors import BadRequest
from cluster.httpserver import Request
from cluster.kubelet.streaming.channels import ERROR, RESIZE, STDERR, STDIN, STDOUT
from cluster.kubelet.streaming.spdy import SpdyConnection, SpdyStream

PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
OPEN_SECONDS = 30.0
_BY_NAME = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}


class SpdyChannels:
    """Channels of one exec or attach over SPDY."""

    def __init__(self, expected: set[int]) -> None:
        self._expected = expected
        self._streams: dict[int, SpdyStream] = {}
        self._received: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(64)
        self._complete = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connection: SpdyConnection

    def opened(self, stream: SpdyStream) -> None:
        """A stream came in (the connection calls this)."""
        channel = _BY_NAME.get(stream.headers.get("streamtype", "").lower())
        if channel is None:
            return
        self._streams[channel] = stream
        if channel in (STDIN, RESIZE):
            self._spawn(self._pump(channel, stream))
        if self._expected <= set(self._streams) and not self._complete.done():
            self._complete.set_result(None)

    async def start(self, connection: SpdyConnection) -> None:
        """Run the connection; returns once all streams are open. Raises TimeoutError."""
        self.connection = connection
        self._spawn(self._run())
        async with asyncio.timeout(OPEN_SECONDS):
            await self._complete

    async def receive(self) -> tuple[int, bytes] | None:
        return await self._received.get()

    async def send(self, channel: int, data: bytes) -> None:
        stream = self._streams.get(channel)
        if stream is not None:
            await stream.write(data)

    async def finish(self) -> None:
        for stream in self._streams.values():
            try:
                await stream.close()
            except ConnectionResetError:
                break
        # The client closes once it has read the error stream; it gets a moment to.
        await asyncio.wait(self._tasks, timeout=0.2)
        self.connection.close()
        for task in self._tasks:
            task.cancel()

    async def _run(self) -> None:
        await self.connection.run()
        if not self._complete.done():
            self._complete.set_exception(ConnectionResetError("the client is gone"))
        await self._received.put(None)

    async def _pump(self, channel: int, stream: SpdyStream) -> None:
        while data := await stream.read():
            await self._received.put((channel, data))
        if channel == STDIN:
            await self._received.put((channel, b""))

    def _spawn(self, work: object) -> None:
        assert asyncio.iscoroutine(work)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def open_spdy(request: Request) -> SpdyChannels:
    """Answer the upgrade. Raises BadRequest."""
    if "spdy/3.1" not in request.headers.get("upgrade", "").lower():
        raise BadRequest("you must upgrade to SPDY/3.1 or a WebSocket")
    offered = [
        p.strip()
        for line in request.repeated.get("x-stream-protocol-version")
        or [request.headers.get("x-stream-protocol-version", "")]
        for p in line.split(",")
        if p.strip()
    ]
    chosen = next((p for p in PROTOCOLS if p in offered), "")
    if offered and not chosen:
        raise BadRequest(f"unable to negotiate protocol: client supports {offered}")
    expected = {ERROR}
    tty = _flag(request, "tty")
    if _flag(request, "input") or _flag(request, "stdin"):
        expected.add(STDIN)
    if _flag(request, "output") or _flag(request, "stdout"):
        expected.add(STDOUT)
    if (_flag(request, "error") or _flag(request, "stderr")) and not tty:
        expected.add(STDERR)
    if tty and chosen in PROTOCOLS[:2]:
        expected.add(RESIZE)
    channels = SpdyChannels(expected)
    stream = request.upgrade()
    lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: SPDY/3.1"]
    if chosen:
        lines.append(f"X-Stream-Protocol-Version: {chosen}")
    stream.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    await channels.start(SpdyConnection(stream, channels.opened))
    return channels


def _flag(request: Request, name: str) -> bool:
    return request.parameter(name) in ("true", "1")
