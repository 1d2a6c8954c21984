"""The command lines of the benchmarks."""

from tests.benchmarks import backfill


def test_all_parts_of_the_backfill_benchmark() -> None:
    """Named or not, the parts that are measured are those that there are."""
    assert backfill.asked_for([]).parts == list(backfill.PARTS)
    assert backfill.asked_for(["eta", "--rows", "7"]).parts == ["eta"]
