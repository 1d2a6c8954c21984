"""How several processes share the tests: one by one, and those that take longest first.

Two kinds stay together by file: unit tests, which are too short to be worth a message each, and those that share
servers of their module's, which each process would have to start.
"""

import functools
import re
from typing import Any, Final

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

from tests.forked import ROOT

QUICK: Final = ("tests/unit/", "tests/contracts/")
"""What needs no server. It fills what is left at the end, when no long test may begin any more."""
_SHARES_SERVERS: Final = re.compile(r"""scope=["'](module|package|class)["']""")


@functools.cache
def shares_servers(file: str) -> bool:
    """Tell whether tests of a file have a fixture together."""
    return _SHARES_SERVERS.search((ROOT / file).read_text(encoding="utf-8")) is not None


def unit_of(test: str) -> str:
    """Name what a process is given at once, by the id of one of its tests."""
    file = test.partition("::")[0]
    return file if file.startswith(QUICK) or shares_servers(file) else test


def turn_of(test: str) -> int:
    """Say in which turn a test comes: whole files that start servers, then the tests that need servers, then others."""
    file = test.partition("::")[0]
    if file.startswith(QUICK):
        return 2
    return 0 if shares_servers(file) else 1


class OneByOne(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Gives a process something new whenever it has hardly any left, in the order of the collection."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:  # noqa: ANN401 - as xdist has it
        config.option.loadscopereorder = False  # it would begin with the file that has most tests: all of them short
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
