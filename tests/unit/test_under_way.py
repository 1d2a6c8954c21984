"""What may be acknowledged while answers come in any order, and how much a partition may have under way."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.kafka.under_way import KEPT_FOR_EACH, RESUMED_AT, UnderWay
from workers.ports import Position


@dataclass(frozen=True)
class Handed:
    """A record, as far as it counts here."""

    partition: int
    offset: int
    value: bytes | None = b""
    topic: str = "t"
    timestamp: int = 0
    timestamp_type: int = 1
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()

    @property
    def position(self) -> Position:
        return self.topic, self.partition


@st.composite
def traffic(draw: st.DrawFn) -> list[tuple[str, list[Handed]]]:
    """Batches of up to three partitions, with gaps as transactions leave them; between them, answers in any order."""
    offsets = [0, 0, 0]
    under_way: list[Handed] = []
    steps: list[tuple[str, list[Handed]]] = []
    for _ in range(draw(st.integers(1, 12))):
        if draw(st.booleans()) and under_way:
            chosen = draw(st.lists(st.sampled_from(under_way), min_size=1, unique=True))
            under_way = [one for one in under_way if one not in chosen]
            steps.append(("answered", chosen))
            continue
        batch = []
        for partition in draw(st.lists(st.integers(0, 2), min_size=1, max_size=8)):
            batch.append(Handed(partition, offsets[partition]))
            offsets[partition] += draw(st.integers(1, 3))
        under_way += batch
        steps.append(("taken", batch))
    return steps


@given(traffic())
def test_an_offset_is_acked_when_all_before_it_are_answered(steps: list[tuple[str, list[Handed]]]) -> None:
    """After each step, what is acked is one past the last record before the first unanswered, by the definition."""
    under_way, taken, answered, acked = UnderWay(), list[Handed](), set[Handed](), dict[Position, int]()
    for what, records in steps:
        if what == "taken":
            under_way.take(records)
            taken += records
        else:
            acked |= under_way.answered(records)
            answered.update(records)
        open_now = [one for one in taken if one not in answered]
        for position in {one.position for one in taken}:
            own = [one for one in taken if one.position == position]
            first = next((at for at, one in enumerate(own) if one not in answered), len(own))
            assert acked.get(position) == (own[first - 1].offset + 1 if first else None)
            assert under_way.first(position) == (own[first].offset if first < len(own) else None)
        assert len(under_way) == len(open_now)
        assert under_way.unanswered(taken) == open_now


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(1, 400)), max_size=40), st.integers(1, 12))
def test_the_bound_holds_and_leaves_room_for_each(takes: list[tuple[int, int]], partitions: int) -> None:
    """However partitions take what they may, at most 1,000 are under way, and whoever has none may have one."""
    under_way = UnderWay()
    positions = [("t", number) for number in range(partitions)]
    offsets = dict.fromkeys(positions, 0)
    for number, wanted in takes:
        position = positions[number % partitions]
        count = min(wanted, under_way.rooms(positions, ())[position])
        under_way.take([Handed(position[1], offsets[position] + at) for at in range(count)])
        offsets[position] += count
        assert len(under_way) <= 1000
        rooms = under_way.rooms(positions, ())
        assert all(rooms[one] >= KEPT_FOR_EACH for one in positions if not offsets[one])


def test_one_partition_may_have_all_of_it() -> None:
    """Where a worker has one partition, it pauses at 1,000 and not before, and goes on when a tenth is answered."""
    under_way, one = UnderWay(), ("t", 0)
    records = [Handed(0, offset) for offset in range(1000)]
    under_way.take(records[:999])
    assert under_way.rooms([one], ()) == {one: 1}
    under_way.take(records[999:])
    assert under_way.rooms([one], ()) == {one: 0}
    under_way.answered(records[1 : 1000 // RESUMED_AT])
    assert under_way.rooms([one], [one]) == {one: 0}
    under_way.answered(records[-1:])
    assert under_way.rooms([one], [one]) == {one: 1000 // RESUMED_AT}


@pytest.mark.parametrize("partitions", [1, 4])
def test_bytes_are_bounded(partitions: int) -> None:
    """Beyond 32 MiB of values each partition may have one record, until some of them are answered."""
    under_way = UnderWay()
    positions = [("t", number) for number in range(partitions)]
    records = [Handed(0, offset, b"x" * 262_144) for offset in range(128)]
    under_way.take(records[:127])
    assert under_way.rooms(positions, ())["t", 0] > 100
    under_way.take(records[127:])
    assert under_way.rooms(positions, ()) == {one: int(one != ("t", 0)) for one in positions}
    under_way.answered(records[5:6])
    assert under_way.rooms(positions, ())["t", 0] > 100


def test_what_was_forgotten_counts_no_more() -> None:
    """An answer that comes after the partitions were taken away acks nothing."""
    under_way = UnderWay()
    under_way.take([Handed(0, 0)])
    under_way.forget()
    assert under_way.answered([Handed(0, 0)]) == {}
    assert len(under_way) == 0
    assert under_way.unanswered([Handed(0, 0)]) == []


def test_what_is_read_again_counts_once() -> None:
    """A partition that begins anew hands out records that are still under way: they count once, and are acked anew."""
    under_way = UnderWay()
    records = [Handed(0, offset, b"x") for offset in range(3)]
    under_way.take(records)
    under_way.answered(records[1:2])
    under_way.take(records[:2])
    assert len(under_way) == 2
    assert under_way.answered(records) == {("t", 0): 2}
    assert (len(under_way), under_way.first(("t", 0)), under_way.rooms([("t", 0)], ())) == (0, None, {("t", 0): 1000})
