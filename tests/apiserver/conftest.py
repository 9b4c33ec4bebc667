"""One API server a module; every test works in a namespace of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from tests.apiserver.api import Api, running

Scenario = Callable[[Api], Coroutine[Any, Any, None]]
Run = Callable[[Scenario], None]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a scenario against the module's server."""
    loop = uvloop.new_event_loop()
    context = running(tmp_path_factory.mktemp("apiserver"))
    api = loop.run_until_complete(context.__aenter__())

    def scenario(steps: Scenario) -> None:
        loop.run_until_complete(asyncio.wait_for(steps(api), 60))

    try:
        yield scenario
    finally:
        loop.run_until_complete(context.__aexit__(None, None, None))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
