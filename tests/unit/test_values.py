"""Values of messages: as good as frozen data classes, but for what it costs to make them."""

from dataclasses import dataclass, fields, replace
from typing import Any

import orjson
import pytest

from contracts.values import value


@value(frozen=True, slots=True)
class Light:
    """A value on its way."""

    name: str
    number: int = 1


@value(frozen=True)
class Shown:
    """A value that envelopes show."""

    name: str
    number: int = 1


@dataclass(frozen=True, slots=True)
class Frozen:
    """The same as a data class."""

    name: str
    number: int = 1


@pytest.mark.parametrize("kind", [Light, Shown])
def test_it_is_used_as_a_data_class_is(kind: Any) -> None:  # noqa: ANN401 - the type checker knows them by themselves
    """Compared by its fields, hashed by them, copied with a change, written as JSON."""
    one = kind("a")
    assert one == kind("a", 1) != kind("a", 2)
    assert hash(one) == hash(Frozen("a"))
    assert replace(one, number=3) == kind("a", 3)
    assert [each.name for each in fields(one)] == ["name", "number"]
    assert repr(one) == f"{kind.__name__}(name='a', number=1)"
    assert orjson.dumps(one) == orjson.dumps(Frozen("a"))


def test_nobody_may_change_it() -> None:
    """The type checker refuses it: strict as it is here, it would refuse the comments that keep it still as well."""
    light, shown = Light("a"), Shown("a")
    light.number = 2  # type: ignore[misc]
    shown.number = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        light.other = 1  # type: ignore[attr-defined]
