"""`uniqueItems`, for the engine: its own compares few items pair by pair, and numbers with a fraction slowly."""

from typing import Any

_SCALARS = frozenset({str, int, float, type(None)})


class UniqueItems:
    """Asserts that no two items of a list are the same JSON, in time that is linear in its size; 1 and 1.0 are."""

    def __init__(self, _: Any, unique: object, __: Any) -> None:  # noqa: ANN401 - the engine's interface
        self._unique = unique is True

    def validate(self, instance: object) -> None:
        """Raise ValueError where two are the same."""
        if self._unique and isinstance(instance, list) and not _all_differ(instance):
            raise ValueError


def _all_differ(items: list[object]) -> bool:
    if _SCALARS.issuperset(map(type, items)):
        return len(set(items)) == len(items)
    return len({_frozen(item) for item in items}) == len(items)


def _frozen(value: object) -> object:
    """Return what equal JSON values, and no others, have in common; hashable."""
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, list):
        return (list, *map(_frozen, value))
    if isinstance(value, dict):
        return (dict, frozenset((name, _frozen(one)) for name, one in value.items()))
    return value
