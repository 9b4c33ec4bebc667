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
            # Other rooms look after their own: here it is asked whether ours let go of all.
            await asyncio.sleep(0)
            left = [t for t in asyncio.all_tasks() if _ours(t)]
            assert not left, left

        asyncio.run(whole())

    return run


def _ours(task: asyncio.Task[object]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and any(
        room in code.co_filename for room in ("cluster/kubelet", "cluster/runtime")
    )
