"""Where a worker's time goes: one spell at a time, added up until it is booked."""

from collections.abc import Callable, Mapping

from persistence.backfill.accounts import Spell, Spent


class Timesheet:
    """The spells of one worker. `now` is a monotonic clock in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._spell = Spell(Spent.IDLE)
        self._since = now()
        self._seconds: dict[Spell, float] = {}

    @property
    def spell(self) -> Spell:
        """What the worker is doing."""
        return self._spell

    def turn_to(self, spell: Spell) -> None:
        """Begin a spell; the one before ends."""
        self._close()
        self._spell = spell

    def take(self) -> Mapping[Spell, float]:
        """Return the seconds of every spell since they were last taken."""
        self._close()
        taken, self._seconds = self._seconds, {}
        return taken

    def put_back(self, seconds: Mapping[Spell, float]) -> None:
        """Keep for the next time what could not be booked."""
        for spell, more in seconds.items():
            self._seconds[spell] = self._seconds.get(spell, 0.0) + more

    def _close(self) -> None:
        now = self._now()
        self._seconds[self._spell] = self._seconds.get(self._spell, 0.0) + now - self._since
        self._since = now
