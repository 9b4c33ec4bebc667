"""The shell around one Kubernetes binary in one Ray actor.

Ray runs an actor's constructor again after a crash and nothing else, so the constructor starts the
component, in a thread with an event loop of its own. A component whose main task fails ends the
process: Ray starts it anew, and it rebuilds itself from the API.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import logging.handlers
import os
import threading
import time
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest

from actors import paths
from actors.context import Context

LOG_BYTES, LOG_FILES = 16 << 20, 2
"""A log file is rotated at this size; so many old ones are kept."""
START_SECONDS = 60.0
STOP_SECONDS = 5.0
EXIT_FAILED = 70


class Component:
    """A component's life in a process. Subclasses give `start` (returns once it works), `serve`
    (runs until it fails) and `stop`. Methods without underscore answer Ray, from another thread."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._started_at = time.time()
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._log = _open_log(context)
        self._metrics_port = 0
        Gauge(
            "kubestage_actor_start_time_seconds",
            "When this actor's process began, seconds since the epoch.",
            registry=self.registry,
        ).set(self._started_at)
        paths.private_dir(context.state_dir)
        self._thread = threading.Thread(target=self._run, name=context.instance, daemon=True)
        self._thread.start()

    # ---- what a component gives

    async def start(self) -> None:
        """Bring it up; return once it does its work."""

    async def serve(self) -> None:
        """Run until cancelled. Returning or raising ends the process."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Let go of everything in an orderly way."""

    def details(self) -> dict[str, Any]:
        """More for `kubestage status -o json`."""
        return {}

    # ---- what Ray calls

    def wait_ready(self, timeout_seconds: float = START_SECONDS) -> bool:
        """Until the component has started."""
        return self._ready.wait(timeout_seconds)

    def info(self) -> dict[str, Any]:
        """Identity and state of this process."""
        return {
            "component": self.context.instance,
            "pid": os.getpid(),
            "host": self.context.host.host.underlay_ip,
            "started": self._started_at,
            "ready": self._ready.is_set(),
            "metricsPort": self._metrics_port,
            **self.details(),
        }

    def metrics(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)

    def logs(self, lines: int, offset: int = -1) -> tuple[list[str], int]:
        """The last `lines` lines, or what came since byte `offset`; and the offset after it."""
        path = self.context.log_file
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(offset if 0 <= offset <= size else max(0, size - 400 * lines))
            text = file.read().decode(errors="replace").splitlines()
        return (text[-lines:] if offset < 0 else text), size

    def shutdown(self) -> None:
        """Orderly end: stop the component, then leave. The caller kills the actor afterwards."""
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(STOP_SECONDS)

    # ---- the thread

    def _run(self) -> None:
        import uvloop

        # Objects live long and hold no cycles: looking for garbage often cost 30 % of the CPU.
        gc.set_threshold(100_000, 20, 100)
        try:
            uvloop.run(self._main())
        except BaseException:  # noqa: BLE001 - the process ends either way; this is its last word
            self._log.error("failed", extra={"fields": {"error": traceback.format_exc(limit=-8)}})
            logging.shutdown()
            os._exit(EXIT_FAILED)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._note_loop_error)
        self._stopping = asyncio.Event()
        began = time.monotonic()
        await self.start()
        self._metrics_port = await self._serve_metrics()
        gc.collect()
        gc.freeze()
        self._ready.set()
        self._log.info("ready", extra={"fields": {"seconds": round(time.monotonic() - began, 3)}})
        serving = asyncio.ensure_future(self.serve())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not self._stopping.is_set():
            serving.result()
            raise RuntimeError("the component ended by itself")
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await self.stop()
        self._log.info("stopped", extra={"fields": {}})

    async def _serve_metrics(self) -> int:
        """An HTTPS endpoint that wants a client certificate of the cluster; its port."""
        from actors.metrics_endpoint import MetricsEndpoint

        endpoint = MetricsEndpoint(self.metrics, self.context)
        return await endpoint.start()

    def _note_loop_error(self, loop: asyncio.AbstractEventLoop, what: dict[str, Any]) -> None:
        error = what.get("exception")
        text = "".join(traceback.format_exception(error)) if error else ""
        self._log.error(str(what.get("message")), extra={"fields": {"error": text}})

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """A task whose failure is the component's failure."""
        task = asyncio.ensure_future(work)
        task.set_name(name)
        task.add_done_callback(self._end_with)
        return task

    def _end_with(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or (self._stopping is not None and self._stopping.is_set()):
            return
        error = task.exception()
        text = "".join(traceback.format_exception(error)) if error else "returned"
        self._log.error(f"{task.get_name()} ended", extra={"fields": {"error": text}})
        logging.shutdown()
        os._exit(EXIT_FAILED)


class _JsonLines(logging.Formatter):
    """One JSON object a line, the same keys from every component."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._fixed = {"cluster": context.cluster, "component": context.instance}

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": round(record.created, 3),
            "level": record.levelname.lower(),
            **self._fixed,
            "logger": record.name,
            "msg": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _open_log(context: Context) -> logging.Logger:
    """The root logger of this process goes to the component's file, mode 0600."""
    path: Path = context.log_file
    paths.private_dir(path.parent)
    path.touch(mode=0o600)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES)
    handler.setFormatter(_JsonLines(context))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    return logging.getLogger("kubestage")
