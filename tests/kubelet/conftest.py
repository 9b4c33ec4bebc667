"""Each test gets a cluster of its own: an API server and kubelets in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.kubelet.harness import Stage, stage

Scenario = Callable[[Stage], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scenario], None]:
    """Run a scenario against a fresh stage; nothing may be left behind."""

    def run(scenario: Scenario) -> None:
        async def whole() -> None:
            async with stage(tmp_path) as held:
                await scenario(held)
            # What the API server still answers to a client that is gone may end.
            left = asyncio.all_tasks() - {asyncio.current_task()}
            if left:
                _, left = await asyncio.wait(left, timeout=2)
            assert not left, left

        asyncio.run(whole())

    return run
