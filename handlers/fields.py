"""The fields of a value, as commands give them and as results show them: both go by name, so that a new one follows."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, fields
from operator import attrgetter
from typing import Any, TypeVar

from contracts.kinds import Payload
from handlers.json_value import same_json

R = TypeVar("R")


def shown_as(result: Callable[..., R], **made: Callable[..., object]) -> Callable[..., R]:
    """Make the function that shows a value as this dataclass, whose fields are the value's of the same names.

    The fields that are `made` come of the value and of whatever else the function is called with.
    """
    names = field_names(result)
    take = values_of([name for name in names if name not in made])
    made_at = [(place, made[name]) for place, name in enumerate(names) if name in made]
    if not made_at:
        return lambda value: result(*take(value))

    def show(value: object, *others: object) -> R:
        values = list(take(value))
        for place, make in made_at:
            values.insert(place, make(value, *others))
        return result(*values)

    return show


def field_names(of: Any) -> list[str]:  # noqa: ANN401 - a dataclass
    """Name the fields of a dataclass, in their order."""
    return [one.name for one in fields(of)]


def values_of(names: Collection[str]) -> Callable[[object], tuple[Any, ...]]:
    """Make the function that takes one or more fields of a value."""
    take = attrgetter(*names)
    return take if len(names) > 1 else lambda value: (take(value),)


class GivenFields:
    """What commands give of the fields of a value that is kept.

    Those that have a default may be given as null, which is the default, or as a list, which is kept as a tuple.
    """

    def __init__(self, kept: Any) -> None:  # noqa: ANN401 - a dataclass
        self._names = frozenset(field_names(kept))
        self._of_command: dict[type[Payload], tuple[str, ...]] = {}
        self._defaults = [(one.name, default) for one in fields(kept) if (default := _default_of(one)) is not None]

    def all(self, command: Payload) -> dict[str, Any]:
        """Return all fields of the value that the command has, whether they were given or not."""
        names = self._of_command.get(type(command))
        if names is None:
            names = tuple(name for name in type(command).model_fields if name in self._names)
            self._of_command[type(command)] = names
        values = vars(command)
        return self._as_kept({name: values[name] for name in names})

    def set(self, command: Payload) -> dict[str, Any]:
        """Return the fields of the value that the command was given."""
        values = vars(command)
        return self._as_kept({name: values[name] for name in command.model_fields_set & self._names})

    def _as_kept(self, given: dict[str, Any]) -> dict[str, Any]:
        for name, default in self._defaults:
            if name in given:
                value = given[name]
                if value is None:
                    given[name] = default()
                elif type(value) is list:
                    given[name] = tuple(value)
        return given


def _default_of(field: "Field[Any]") -> Callable[[], object] | None:
    if field.default_factory is not MISSING:
        return field.default_factory
    return None if field.default is MISSING else lambda: field.default


def are_same(value: object, given: Mapping[str, object]) -> bool:
    """Tell whether a value has these fields already, as JSON compares: `1` is not `true`."""
    return all((old := getattr(value, name)) == new and same_json(old, new) for name, new in given.items())
