"""What a batch has loaded, and what its messages have made of it so far."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_ABSENT: Final = object()


class UndeclaredKeyError(Exception):
    """A use case touched a key that its kind did not declare: it was neither locked nor loaded. A defect."""


class Journal:
    """Everything one message changed in memory, so that it can be taken back."""

    def __init__(self) -> None:
        self._undo: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def note(self, undo: Callable[..., object], *args: object) -> None:
        """Remember how to take a change back."""
        self._undo.append((undo, args))

    def keep(self) -> None:
        """The message succeeded."""
        self._undo.clear()

    def take_back(self) -> None:
        """The message failed: undo in reverse order."""
        while self._undo:
            undo, args = self._undo.pop()
            undo(*args)


class IdentityMap(Generic[K, V]):
    """Values by key; None means "looked for, and not there". Each change goes into the journal of its message."""

    def __init__(self, journal: Journal, name: str) -> None:
        self._journal = journal
        self._name = name
        self._loaded: dict[K, V | None] = {}
        self._current: dict[K, V | None] = {}
        self._written: set[K] = set()

    def load(self, values: Mapping[K, V], asked: Iterable[K]) -> None:
        """Take in what the database has for the keys that were asked for."""
        for key in asked:
            value = values.get(key)
            self._loaded[key] = value
            self._current[key] = value

    def get(self, key: K) -> V | None:
        """Read; raises `UndeclaredKeyError` for a key that was neither loaded nor set."""
        value = self._current.get(key, _ABSENT)
        if value is _ABSENT:
            msg = f"{self._name}: a key was touched that the kind did not declare"
            raise UndeclaredKeyError(msg)
        return value  # type: ignore[return-value]  # _ABSENT is gone

    def set(self, key: K, value: V | None) -> None:
        """Write; taken back with its message."""
        current, written = self._current, self._written
        self._journal.note(self._restore, key, current.get(key, _ABSENT), key in written)
        current[key] = value
        written.add(key)

    def _restore(self, key: K, old: Any, written: bool) -> None:  # noqa: ANN401, FBT001 - old: a value or _ABSENT
        if old is _ABSENT:
            del self._current[key]
        else:
            self._current[key] = old
        if not written:
            self._written.discard(key)

    def changes(self) -> Iterator[tuple[K, V | None, V | None]]:
        """Go through what is not as it was loaded: key, before, after. Keys come in the order of their first change."""
        for key, value in self._current.items():
            before = self._loaded.get(key)
            if value is not before:
                yield key, before, value

    def knows(self, key: K) -> bool:
        """Tell whether the key was loaded or set."""
        return key in self._current

    def was_loaded(self, key: K) -> bool:
        """Tell whether the database had a value for the key."""
        return self._loaded.get(key) is not None

    def gone(self) -> list[K]:
        """Name the keys whose values this batch removed, loaded or made by itself."""
        return [key for key, value in self._current.items() if value is None and key in self._written]

    def items(self) -> Iterator[tuple[K, V | None]]:
        """Go through all current values."""
        yield from self._current.items()
