"""Who is blocked: by what name, at which step, and what an operator may type."""

import asyncio
from types import SimpleNamespace
from typing import Any, Self

import pytest
from typer.testing import CliRunner

from persistence import blocks
from persistence.blocks import NONE, BlockReader, Blocks, read_blocks
from workers.admission.rate import Verdict
from workers.cli import app
from workers.operator_error import OperatorError
from workers.pipeline.delivery import Delivery
from workers.pipeline.refusal import Refusal

BOTH = read_blocks('{"caller ada" : true, "caller https://id bob" : true, "kind create_product" : true}')


@pytest.mark.parametrize(
    ("caller", "kind", "is_stopped"),
    [
        ("\nada", "get_product", True),
        ("https://id\nada", "get_product", True),
        ("\nadam", "get_product", False),
        ("https://id\nbob", "get_product", True),
        ("https://other\nbob", "get_product", False),
        ("\nbob", "get_product", False),
        ("\neve", "create_product", True),
        ("\nhttps://id bob", "get_product", True),
        ("ada\neve", "get_product", False),
    ],
)
def test_a_block_is_by_subject_or_by_issuer_and_subject(caller: str, kind: str, is_stopped: bool) -> None:
    """As operators name callers elsewhere; a kind is stopped whoever asks."""
    assert BOTH.stops(caller, kind) is is_stopped


def test_nothing_blocked_costs_nothing() -> None:
    """No block is no text, and false: no message is looked at."""
    assert read_blocks(None) is NONE
    assert not NONE
    assert bool(Blocks(kinds=frozenset({"x"})))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["block", "kind", "create_prodct", "--reason", "x"], "there is no kind"),
        (["block", "caller", "ü", "--reason", "x"], "a caller is SUB"),
        (["block", "caller", " ada", "--reason", "x"], "a caller is SUB"),
        (["block", "caller", "", "--reason", "x"], "a caller is SUB"),
        (["unblock", "caller", "a\tb", "--reason", "x"], "a caller is SUB"),
        (["block", "caller", "ada", "--reason", " "], "--reason"),
        (["block", "caller", "ada", "--reason", "a\nb"], "--reason"),
        (["unblock", "kind", "create_product", "--reason", "x" * 501], "--reason"),
    ],
)
def test_what_makes_no_sense_is_a_wrong_argument(arguments: list[str], words: str) -> None:
    """Each is one line, before a server is asked."""
    refused = CliRunner().invoke(app, arguments).exception
    assert isinstance(refused, OperatorError)
    assert (refused.usage, words in str(refused)) == (True, True)


def test_a_block_needs_a_reason() -> None:
    """It is for the record."""
    assert CliRunner().invoke(app, ["block", "caller", "ada"]).exit_code == 2


class Database:
    """Answers a reading as it is told to, and counts them."""

    def __init__(self) -> None:
        self.answer: Any = None
        self.asked = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give nothing back."""

    async def fetchval(self, _: str) -> Any:  # noqa: ANN401
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer == "silence":
            await asyncio.Event().wait()
        return self.answer


async def test_a_reading_is_at_most_a_second_old_and_the_last_one_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a second it is not asked again, however many ask; an outage or silence changes nothing; a defect tells."""
    database, now = Database(), [100.0]
    monkeypatch.setattr(blocks, "connected", lambda _: database)
    monkeypatch.setattr(blocks, "READ_S", 0.01)
    reader = BlockReader(None, lambda: now[0])  # type: ignore[arg-type]
    database.answer = '{"caller ada": true}'
    first = await asyncio.gather(*(reader() for _ in range(5)))
    assert {one.callers for one in first} == {frozenset({"ada"})}
    assert database.asked == 1
    for answer in (ConnectionResetError("away"), "silence", OSError("away")):
        now[0] += 1.1
        database.answer = answer
        assert (await reader()).callers == {"ada"}
    now[0] += 1.1
    database.answer = None
    assert await reader() is NONE
    assert database.asked == 5
    now[0] += 1.1
    database.answer = KeyError("a defect")
    with pytest.raises(KeyError):
        await reader()


class Charged:
    """A rate limit that lets all pass, and remembers whom it charged."""

    def __init__(self) -> None:
        self.callers: list[str] = []

    async def admit(self, charges: Any) -> Any:  # noqa: ANN401
        self.callers += [one.caller for one in charges]
        return [Verdict(allowed=True, retry_after_ms=0, limit=0, window_s=60) for _ in charges]


def asks(caller: str, *, replay: object = None, is_recalled: bool = False) -> Any:  # noqa: ANN401
    """Make a request of a caller who is known."""
    record = SimpleNamespace(topic="t", partition=0, offset=0, timestamp=0)
    delivery = Delivery(record, replay=replay)  # type: ignore[arg-type]
    delivery.is_recalled = is_recalled
    request = SimpleNamespace(is_large=False, payload_json=b"{}")
    return SimpleNamespace(delivery=delivery, identity=SimpleNamespace(caller=caller), request=request)


async def test_who_is_blocked_is_not_charged_and_what_comes_back_is_not_blocked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the rate step, before the rate; a dead letter that is brought back passes, and so does what was parked."""
    kind = SimpleNamespace(name="get_product", read=lambda *_: None)
    monkeypatch.setattr(Refusal, "_serve", lambda _, one: (one, kind, None))
    monkeypatch.setattr(Refusal, "_admit", lambda _, one, *__: one)
    rate = Charged()
    refusal = Refusal({}, rate, lambda: 0.0, lambda: "i", refuse_sunset_versions=False)  # type: ignore[arg-type]
    blocked, free, back, recalled = (
        asks("\nada"), asks("\nbob"), asks("\nada", replay=object()), asks("\nada", is_recalled=True)
    )  # fmt: skip
    assert await refusal.refuse([blocked, free, back, recalled], blocks=BOTH) == [free, back, recalled]
    assert rate.callers == ["\nbob", "\nada"]
    error = blocked.delivery.end.error
    assert (error.error_code, error.status_code) == ("RATE_LIMITED", 429)
    assert error.details == {"retry_after_ms": 60_000, "blocked": True}
