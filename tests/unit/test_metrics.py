"""Amounts that are observed together count as those that are observed one by one."""

from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, Metric

from workers.telemetry.metrics import LATENCY_BUCKETS, BatchHistogram

AMOUNTS = st.sampled_from(LATENCY_BUCKETS) | st.floats(0, 1000) | st.integers(0, 400)


def observed(histogram: Histogram) -> list[tuple[str, dict[str, str], float]]:
    """Read what a histogram tells, but for when it was made."""
    (metric,) = histogram.collect()
    assert isinstance(metric, Metric)
    return [(one.name, one.labels, round(one.value, 6)) for one in metric.samples if not one.name.endswith("_created")]


@given(st.lists(st.lists(AMOUNTS, max_size=20), max_size=3))
@example([[], [1.0, 1.0, 300, 300.001]])
def test_many_at_once(batches: list[list[float]]) -> None:
    """In the same buckets, bounds included, with the same sum."""
    one_by_one = Histogram("x", "x", buckets=LATENCY_BUCKETS, registry=CollectorRegistry())
    together = BatchHistogram("x", "x", ("kind",), buckets=LATENCY_BUCKETS, registry=CollectorRegistry())
    for batch in batches:
        together.labels("k").observe_all(batch)
        for amount in batch:
            one_by_one.observe(amount)
    expected = [(name, {**labels, "kind": "k"}, value) for name, labels, value in observed(one_by_one)]
    assert not batches or observed(together) == expected
