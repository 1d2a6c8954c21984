"""Which callers may be answered on which topics."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.admission.identity import Identity
from workers.admission.reply_topics import ReplyTopics


def caller(subject: str, issuer: str = "") -> Identity:
    """Make a verified caller."""
    return Identity(issuer, subject, frozenset(), 0, 0)


ALICE = caller("alice")


@pytest.mark.parametrize(
    ("pattern", "topic", "allowed"),
    [
        ("orders", "orders", True),
        ("orders", "orders2", False),
        ("orders", "my-orders", False),
        ("orders*", "orders", True),
        ("orders*", "orders.eu.1", True),
        ("orders*", "order", False),
        ("*", "", True),
        ("*", "anything.at-all_1", True),
        ("*.eu", "orders.eu", True),
        ("*.eu", "orders.eu.de", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "a1b2c", True),
        ("a*b*c", "acb", False),
        ("a*bc*c", "abc", False),
        ("a**b", "a-b", True),
        ("or?ers", "orders", False),
        ("o[r]ders", "orders", False),
        ("o.ders", "orders", False),
        ("Orders", "orders", False),
    ],
)
def test_patterns(pattern: str, topic: str, allowed: bool) -> None:
    """A pattern covers the whole name, and only "*" is special in it."""
    bound = ReplyTopics({"alice": [f"catalog.replies.{pattern}"]}, "catalog")
    assert bound.allows(ALICE, f"catalog.replies.{topic}") is allowed


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_patterns_match_as_regular_expressions_would(pattern: str, topic: str) -> None:
    """The matcher agrees with the regular expression in which "*" is ".*"."""
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), topic) is not None
    bound = ReplyTopics({"alice": [f"p.replies.{pattern}"]}, "p")
    assert bound.allows(ALICE, f"p.replies.{topic}") is expected


def test_unset_means_any_reply_topic() -> None:
    """Without patterns everybody may be answered on every reply topic of this prefix, and on no other topic."""
    unset = ReplyTopics({}, "catalog")
    assert not unset.is_restricted
    assert unset.allows(ALICE, "catalog.replies.x")
    assert not unset.allows(ALICE, "catalog.commands")
    assert not unset.allows(ALICE, "other.replies.x")


def test_once_set_only_those_named() -> None:
    """With patterns a caller is bound to its own; a caller that is not named, or has none, may be answered nowhere."""
    bound = ReplyTopics({"alice": ["catalog.replies.a", "catalog.replies.b*"], "bob": []}, "catalog")
    assert bound.is_restricted
    assert bound.allows(ALICE, "catalog.replies.a")
    assert bound.allows(ALICE, "catalog.replies.b2")
    assert not bound.allows(ALICE, "catalog.replies.c")
    assert not bound.allows(caller("bob"), "catalog.replies.a")
    assert not bound.allows(caller("carol"), "catalog.replies.a")


def test_the_full_name_comes_before_the_subject() -> None:
    """Issuer and subject together name a caller more exactly than the subject, which any issuer may give."""
    bound = ReplyTopics({"alice": ["catalog.replies.a"], "https://id\nalice": ["catalog.replies.b"]}, "catalog")
    assert bound.allows(caller("alice", "https://id"), "catalog.replies.b")
    assert not bound.allows(caller("alice", "https://id"), "catalog.replies.a")
    assert bound.allows(caller("alice", "https://other"), "catalog.replies.a")
    assert bound.allows(ALICE, "catalog.replies.a")


@pytest.mark.parametrize("pattern", ["", "*", "catalog.commands", "catalog.replies", "other.replies.x"])
def test_patterns_outside_the_reply_topics(pattern: str) -> None:
    """A pattern that could name another topic stops the start."""
    with pytest.raises(ValueError, match=r"does not start with 'catalog\.replies\.'"):
        ReplyTopics({"alice": [pattern]}, "catalog")


def test_no_pattern_takes_long() -> None:
    """Many stars against a long name that does not match cost no more than a scan of it."""
    bound = ReplyTopics({"alice": ["catalog.replies." + "*a" * 80 + "*b"]}, "catalog")
    started = time.process_time()
    assert not bound.allows(ALICE, "catalog.replies." + "a" * 180)
    assert time.process_time() - started < 1
