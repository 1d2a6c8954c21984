"""What of a topic that is gone was never read, as far as a worker saw it."""

from workers.kafka.reach import Reach

HERE, THERE = ("t", 0), ("t", 1)


def test_what_was_seen_and_not_handed_out_is_unread() -> None:
    """Each partition counts from what was handed out to the greatest end seen."""
    reach = Reach()
    reach.handed({HERE: (0, 5)})
    reach.goes_to(HERE, 5, 9)
    reach.goes_to(THERE, 2, 2)
    reach.confirm()
    assert list(reach.unread()) == [(HERE, 5, 9)]
    assert list(reach.unread()) == []


def test_a_partition_never_handed_out_counts_from_where_it_stood() -> None:
    """What another worker had read before is not lost again."""
    reach = Reach()
    reach.goes_to(HERE, 40, 50)
    reach.confirm()
    assert list(reach.unread()) == [(HERE, 40, 50)]


def test_what_is_not_known_counts_for_nothing() -> None:
    """A partition whose position or end nobody knows yet is left out."""
    reach = Reach()
    reach.goes_to(HERE, None, 50)
    reach.goes_to(THERE, 3, None)
    reach.confirm()
    assert list(reach.unread()) == []


def test_an_end_that_was_not_confirmed_may_be_of_the_new_topic() -> None:
    """Between a topic's end and the moment in which it is noticed, offsets are of the one that has its name by then."""
    reach = Reach()
    reach.handed({HERE: (0, 5)})
    reach.goes_to(HERE, 5, 6)
    reach.confirm()
    reach.goes_to(HERE, 5, 400)
    reach.goes_to(THERE, 0, 30)
    assert list(reach.unread()) == [(HERE, 5, 6)]
    reach.confirm()
    assert list(reach.unread()) == []


def test_what_was_taken_away_from_a_living_topic_is_somebody_elses() -> None:
    """A topic's end takes partitions away before it is noticed; a rebalance of a topic that lives hands them over."""
    for lives, unread in ((False, [(HERE, 5, 9)]), (True, [])):
        reach = Reach()
        reach.handed({HERE: (0, 5)})
        reach.goes_to(HERE, 5, 9)
        reach.confirm()
        reach.taken_away()
        if lives:
            reach.confirm()
        assert list(reach.unread()) == unread


def test_what_came_back_is_ours_from_where_others_left_it() -> None:
    """A partition that was somebody else's meanwhile counts from where it stands now."""
    reach = Reach()
    reach.goes_to(HERE, 5, 9)
    reach.confirm()
    reach.taken_away()
    reach.goes_to(HERE, 7, 12)
    reach.confirm()
    assert list(reach.unread()) == [(HERE, 7, 12)]
    reach.goes_to(HERE, 5, 9)
    reach.confirm()
    reach.taken_away()
    reach.handed({HERE: (5, 6)})
    assert list(reach.unread()) == [(HERE, 6, 9)]


def test_what_was_truncated_is_not_lost_once_more() -> None:
    """What went from a living topic was told then; a partition counts from where it was taken up again."""
    reach = Reach()
    reach.handed({HERE: (0, 5)})
    reach.goes_to(HERE, 5, 9)
    reach.confirm()
    reach.goes_to(HERE, 9, 10)
    reach.confirm()
    assert list(reach.unread()) == [(HERE, 9, 10)]
