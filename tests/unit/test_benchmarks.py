"""The command lines of the benchmarks."""

import pytest

from tests.benchmarks import backfill


def test_all_parts_of_the_backfill_benchmark() -> None:
    """Named or not, the parts that are measured are those that there are."""
    assert backfill.asked_for([]).parts == list(backfill.PARTS)
    assert backfill.asked_for(["eta", "--rows", "7"]).parts == ["eta"]


def test_a_part_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong name ends with one line that names those that there are."""
    with pytest.raises(SystemExit):
        backfill.asked_for(["rates"])
    assert "'rates' is none of rate, memory, eta, live" in capsys.readouterr().err
