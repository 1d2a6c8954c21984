"""What `catalog verify` sends."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from workers.verify.actors import Actor


def story(run: str, seed: int = 1) -> list[dict[str, Any]]:
    """Return what three actors of a run send."""
    actors = [Actor(run, number, 8, ["GOLD"], seed) for number in range(3)]
    return [delivery.body | {"id": delivery.sent.message_id} for one in actors for delivery in islice(one.story(), 300)]


def ids(value: object, name: str = "") -> Iterator[str]:
    """Find every id in a body."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from ids(one, key)
    elif name in {"id", "customer_id", "order_id", "email"}:
        yield str(value)


def test_each_run_brings_its_own_ids() -> None:
    """The same seed sends the same mix, and nothing that an earlier run named: README's line is true each time."""
    first, second = story("a1"), story("b2")
    assert [one["kind"] for one in first] == [one["kind"] for one in second]
    assert len({*ids({"all": {str(n): one for n, one in enumerate(first)}})}) > 300
    assert not {*ids(dict(enumerate(first)))} & {*ids(dict(enumerate(second)))}
    assert [one["kind"] for one in first] != [one["kind"] for one in story("a1", seed=2)]
