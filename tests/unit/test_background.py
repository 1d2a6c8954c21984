"""What a worker does beside its messages, while there are any and while there are none."""

import asyncio
from collections.abc import Sequence

import pytest

from workers.background import sleep_while_idle


@pytest.mark.parametrize(
    ("latencies", "slept"),
    [
        ([None, None, None], [1.0, 1.0, 1.0]),
        ([12.5], [1.0]),
        ([None, 0.0], [1.0, 1.0]),
        ([None, None, 7.0], [1.0, 1.0, 1.0]),
        ([0.0], [1.0]),
    ],
)
async def test_an_idle_worker_sleeps_longer(
    monkeypatch: pytest.MonkeyPatch, latencies: Sequence[float | None], slept: Sequence[float]
) -> None:
    """It is back within a second of the first message."""
    seconds: list[float] = []

    async def sleep(for_s: float) -> None:
        seconds.append(for_s)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    told = iter(latencies)
    await sleep_while_idle(lambda: next(told), 1.0, 3.0)
    assert seconds == slept
