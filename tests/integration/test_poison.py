"""A message that our own code cannot read costs itself: 500 and a dead letter; its neighbours are none the wiser."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest

from contracts.canonical import canonical
from contracts.kinds import Keys, Kind
from persistence.engine import Engine, PoolSettings, create_engine
from tests.direct import Direct
from workers.pipeline.delivery import Admitted

POISON: Final = "Poison"
Breaking = Callable[[pytest.MonkeyPatch, Exception], None]


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """An empty database."""
    engine = create_engine(database_url, PoolSettings(), "poison")
    yield engine
    await engine.dispose()


def in_canonical_form(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Break where the canonical form is made."""

    def broken(payload: Any) -> bytes:  # noqa: ANN401
        if payload["name"] == POISON:
            raise error
        return canonical(payload)

    monkeypatch.setattr("contracts.codec.canonical", broken)


def in_validation(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Break where a payload is validated, or brought to the newest version."""
    read = Kind.read

    def broken(kind: Kind, version: Any, payload_json: bytes) -> Any:  # noqa: ANN401
        if POISON.encode() in payload_json:
            raise error
        return read(kind, version, payload_json)

    monkeypatch.setattr(Kind, "read", broken)


def in_its_keys(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Break where a command says what it will touch."""

    def broken(delivery: Any, key: Any, identified: Any, kind: Kind, payload: Any, keys: Keys, *more: Any) -> Any:  # noqa: ANN401
        if payload.name == POISON:
            raise error
        return Admitted(delivery, key, identified, kind, payload, keys, *more)

    monkeypatch.setattr("workers.pipeline.refusal.Admitted", broken)


@pytest.mark.parametrize("error", [ValueError("secret"), KeyError("secret"), RecursionError("secret")], ids=type)
@pytest.mark.parametrize("breaking", [in_canonical_form, in_validation, in_its_keys])
async def test_it_costs_itself(
    engine: Engine, breaking: Breaking, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever between its look-up and its use case it broke."""
    breaking(monkeypatch, error)
    direct = Direct(engine)
    names = ["Ada", POISON, "Bob"]
    answers = await direct.decide(*(creation(direct, name, name) for name in names))
    assert [envelope["statusCode"] for envelope, _, _ in answers] == [201, 500, 201]
    (letter,) = direct.letters.messages
    notes = dict(letter.headers)
    assert (notes["dlq.reason"], notes["dlq.kind"]) == (b"INTERNAL_ERROR", b"create_customer")
    assert notes["dlq.incident"] == answers[1][0]["data"]["details"]["incident"].encode()
    assert (letter.value, b"secret" in b"".join(value or b"" for value in notes.values())) == (
        creation(direct, POISON, POISON).value,
        False,
    )


async def test_it_costs_itself_where_its_id_is_known(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it breaks as it is compared with what was stored under its id."""
    direct = Direct(engine)
    await direct.decide(creation(direct, "Ada", "x"))
    in_canonical_form(monkeypatch, ValueError())
    batch = [creation(direct, "Ada", "x"), creation(direct, POISON, "x"), creation(direct, "Bob", "y")]
    answers = await direct.decide(*batch)
    assert [(envelope["statusCode"], again) for envelope, _, again in answers] == [
        (201, True),
        (500, False),
        (201, False),
    ]
    assert len(direct.letters.messages) == 1


def creation(direct: Direct, name: str, message_id: str) -> Any:  # noqa: ANN401
    """Make a customer of this name."""
    payload = {"name": name, "email": f"{name}@example.com"}
    return direct.record("create_customer", payload, message_id=message_id, key=b"k")
