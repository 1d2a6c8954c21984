"""Backfills under fire, as `make smoke` (short) and `make chaos` (long) run them."""

import os
from pathlib import Path

import pytest

from tests.chaos.backfill_chaos import LONG, SHORT, chaos
from tests.servers import Servers


@pytest.mark.chaos
async def test_no_fault_makes_a_backfill_miss_or_repeat_a_row(stack: Servers, tmp_path: Path) -> None:
    """Killed, stopped and scaled workers and a killed Postgres: every row once, no stale value, verify clean."""
    plan = LONG if os.environ.get("SUITE_SIZE") == "long" else SHORT
    account = await chaos(stack, plan, tmp_path, print)
    assert account.deviations == []
    assert account.faults.total() >= plan.faults
    assert account.taken_over > 0
