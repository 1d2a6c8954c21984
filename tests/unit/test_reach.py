"""What of a topic that is gone was never read, as far as a worker saw it."""

from workers.kafka.reach import KEPT_S, Reach

HERE, THERE = ("t", 0), ("t", 1)


class Clock:
    """A clock that stands until it is moved."""

    at = 100.0

    def __call__(self) -> float:
        return self.at


def test_what_was_seen_and_not_handed_out_is_unread() -> None:
    """Each partition counts from what was handed out to the greatest end seen; a new, shorter log changes nothing."""
    reach = Reach(Clock())
    reach.handed({HERE: (0, 5)})
    reach.goes_to(HERE, 5, 9)
    reach.goes_to(THERE, 2, 2)
    reach.goes_to(HERE, 0, 3)
    assert list(reach.unread()) == [(HERE, 5, 9)]
    assert list(reach.unread()) == []


def test_a_partition_never_handed_out_counts_from_where_it_stood() -> None:
    """What another worker had read before is not lost again."""
    reach = Reach(Clock())
    reach.goes_to(HERE, 40, 50)
    assert list(reach.unread()) == [(HERE, 40, 50)]


def test_what_is_not_known_counts_for_nothing() -> None:
    """A partition whose position or end nobody knows yet is left out."""
    reach = Reach(Clock())
    reach.goes_to(HERE, None, 50)
    reach.goes_to(THERE, 3, None)
    assert list(reach.unread()) == []


def test_what_was_taken_away_long_ago_is_somebody_elses() -> None:
    """A deletion takes partitions away just before it is noticed; a rebalance of long ago is another matter."""
    for waited_s, unread in ((KEPT_S - 1, [(HERE, 5, 9)]), (KEPT_S + 1, [])):
        clock = Clock()
        reach = Reach(clock)
        reach.handed({HERE: (0, 5)})
        reach.goes_to(HERE, 5, 9)
        reach.taken_away()
        clock.at += waited_s
        assert list(reach.unread()) == unread


def test_what_came_back_is_ours() -> None:
    """A partition that is handed out again is not somebody else's."""
    clock = Clock()
    reach = Reach(clock)
    reach.goes_to(HERE, 5, 9)
    reach.taken_away()
    clock.at += KEPT_S * 2
    reach.handed({HERE: (5, 6)})
    assert list(reach.unread()) == [(HERE, 6, 9)]
