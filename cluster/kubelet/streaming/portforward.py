"""Port-forward: pairs of SPDY streams, each joined to a port of the pod.

Plays k8s.io/kubelet's portforward/httpstream.go and websocket.go. kubectl tunnels SPDY through a
WebSocket (SPDY/3.1+portforward.k8s.io); older clients speak SPDY bare. Connections go to the pod's
own address; where the pod network is emulated the workload is joined in memory.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from cluster.api.errors import BadRequest
from cluster.httpserver import RawStream, Request, Response
from cluster.kubelet.streaming.spdy import ByteStream, SpdyConnection, SpdyStream
from cluster.kubelet.streaming.websocket import WebSocket, is_websocket
from cluster.runtime.servers import PortServer

if TYPE_CHECKING:
    from cluster.kubelet.worker import PodWorker

TUNNEL = "SPDY/3.1+portforward.k8s.io"
PROTOCOL = "portforward.k8s.io"
CONNECT_SECONDS = 10.0


class Tunnel:
    """A WebSocket's messages as a stream of bytes."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def read(self, limit: int = 65536) -> bytes:
        while True:
            message = await self._websocket.receive()
            if message is None:
                return b""
            if message:
                return message

    def write(self, data: bytes) -> None:
        self._websocket.send_nowait(data)

    async def drain(self) -> None:
        await self._websocket.drain()

    def close(self) -> None:
        self._websocket.close_nowait()


class PortForward:
    """One client's forwarded connections."""

    def __init__(self, worker: PodWorker) -> None:
        self._worker = worker
        self._pairs: dict[str, dict[str, SpdyStream]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.connection: SpdyConnection

    def opened(self, stream: SpdyStream) -> None:
        """An error or data stream came in; a pair shares its requestid."""
        key = stream.headers.get("requestid") or stream.headers.get("port", "")
        pair = self._pairs.setdefault(key, {})
        pair[stream.headers.get("streamtype", "").lower()] = stream
        if "data" in pair and "error" in pair:
            del self._pairs[key]
            task = asyncio.get_running_loop().create_task(self._forward(**pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def run(self, stream: ByteStream) -> None:
        self.connection = SpdyConnection(stream, self.opened)
        try:
            await self.connection.run()
        finally:
            for task in self._tasks:
                task.cancel()

    async def _forward(self, data: SpdyStream, error: SpdyStream) -> None:
        port = data.headers.get("port", "")
        try:
            reader, writer = await self._connect(int(port))
        except (OSError, ValueError, TimeoutError) as problem:
            state = self._worker.state
            text = (
                f"an error occurred forwarding {port} -> {port}: error forwarding port {port} to "
                f"pod {state.name}_{state.namespace}, uid : failed to connect to localhost:{port} "
                f"inside namespace: {problem}"
            )
            await error.write(text.encode())
            await asyncio.gather(error.close(), data.close(), return_exceptions=True)
            return
        tasks = [
            asyncio.ensure_future(_to_pod(data, writer)),
            asyncio.ensure_future(_to_client(reader, data)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.ALL_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            writer.close()
            await asyncio.gather(error.close(), data.close(), return_exceptions=True)
            self.connection.forget(data)
            self.connection.forget(error)

    async def _connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sandbox = self._worker.state.sandbox
        if sandbox is None or not sandbox.ready:
            raise ConnectionRefusedError("the pod is not running")
        if sandbox.network.netns_path or sandbox.config.host_network:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await asyncio.open_connection(sandbox.ip, port)
        runtime = self._worker.node.context.runtime
        endpoint = runtime.local_endpoint(sandbox.id, port)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        ports: PortServer = runtime.ports
        await ports.join(theirs, endpoint)
        return await asyncio.open_connection(sock=ours)


async def serve(worker: PodWorker, request: Request) -> Response | None:
    """Answer the upgrade and forward until the client goes. Raises BadRequest."""
    forward = PortForward(worker)
    if is_websocket(request):
        websocket = WebSocket.accept(request, (TUNNEL,))
        await forward.run(Tunnel(websocket))
        return None
    if "spdy/3.1" not in request.headers.get("upgrade", "").lower():
        raise BadRequest("you must upgrade to SPDY/3.1 or a WebSocket")
    stream: RawStream = request.upgrade()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Connection: Upgrade",
        "Upgrade: SPDY/3.1",
        f"X-Stream-Protocol-Version: {PROTOCOL}",
    ]
    stream.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    await forward.run(stream)
    return None


async def _to_pod(data: SpdyStream, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await data.read():
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        return


async def _to_client(reader: asyncio.StreamReader, data: SpdyStream) -> None:
    try:
        while piece := await reader.read(32768):
            await data.write(piece)
        await data.close()
    except OSError:
        return
