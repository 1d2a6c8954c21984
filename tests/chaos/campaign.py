"""The memory of a chaos campaign: seeds, counts and recoveries of its runs, in a file that the next run adds to."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Group, RenderableType
from rich.table import Table

from tests.chaos.faults import FAULTS, Recovery


@dataclass(frozen=True)
class Goal:
    """How many of some faults a campaign needs, on so many brokers."""

    what: str
    number: int
    brokers: int
    faults: Sequence[str]


GOALS: Final = (
    Goal("kills and stops of workers", 200, 1, ("worker killed", "worker stopped")),
    Goal("scalings", 50, 1, ("scaled",)),
    Goal("faults of the only broker", 20, 1, ("broker stopped", "broker killed")),
    Goal("faults of one of three brokers", 10, 3, ("broker stopped", "broker killed")),
    Goal("database faults", 20, 1, ("database stopped", "database killed", "database slow")),
    Goal("Redis faults", 10, 1, ("redis killed",)),
    Goal("network faults", 15, 1, ("connections cut", "connections delayed", "connections silent")),
    Goal("times in which replies were refused", 4, 1, ("replies refused",)),
)
COMMANDS: Final = 200_000
"""On one broker."""


@dataclass
class Run:
    """What one run came to."""

    seed: int
    brokers: int
    commands: int
    deliveries: int
    undelivered: int
    """Replies that the deaf topic did not take."""
    recoveries: list[Recovery] = field(default_factory=list)
    deviations: list[str] = field(default_factory=list)
    longest_answer_s: float = 0.0


class Campaign:
    """Runs until its goals are reached, however often it is interrupted."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.runs: list[Run] = []
        if file.exists():
            for kept in orjson.loads(file.read_bytes())["runs"]:
                self.runs.append(Run(**{**kept, "recoveries": [Recovery(**one) for one in kept["recoveries"]]}))

    def add(self, run: Run) -> None:
        """Take in a run that has ended, and keep it."""
        self.runs.append(run)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        incoming = self._file.with_suffix(".new")
        incoming.write_bytes(orjson.dumps(self.as_dict(), option=orjson.OPT_INDENT_2))
        incoming.replace(self._file)

    def as_dict(self) -> dict[str, Any]:
        """Put it into plain values: the totals for people, the runs for the next one."""
        return {
            "totals": {
                "runs": len(self.runs),
                "commands": sum(run.commands for run in self.runs),
                **{goal.what: self.count(goal) for goal in GOALS},
                "faults": dict(sorted(Counter(one.fault for run in self.runs for one in run.recoveries).items())),
                "deviations": sum(len(run.deviations) for run in self.runs),
            },
            "runs": [asdict(run) for run in self.runs],
        }

    def commands(self, brokers: int) -> int:
        """How many messages were accounted for, in runs without a deviation."""
        return sum(run.commands for run in self._clean(brokers))

    def count(self, goal: Goal) -> int:
        """How many faults that count for a goal there were, in runs without a deviation."""
        return sum(one.fault in goal.faults for run in self._clean(goal.brokers) for one in run.recoveries)

    def _clean(self, brokers: int) -> list[Run]:
        return [run for run in self.runs if run.brokers == brokers and not run.deviations]

    def missing(self, brokers: int) -> list[str]:
        """Say what is still needed on so many brokers."""
        missing = [goal.what for goal in GOALS if goal.brokers == brokers and self.count(goal) < goal.number]
        return missing + ["commands"] * (brokers == 1 and self.commands(1) < COMMANDS)

    def close_if_complete(self) -> None:
        """Put a campaign aside that has reached all its goals: the next one starts afresh."""
        if not any(self.missing(goal.brokers) for goal in GOALS):
            number = 1 + len(list(self._file.parent.glob("complete-*.json")))
            self._file.rename(self._file.with_name(f"complete-{number}.json"))

    def picture(self) -> RenderableType:
        """Draw counts and recoveries."""
        table = Table("fault", "times", "first reply", "all partitions: median", "worst", "late", "longest silence")
        by_fault: dict[str, list[Recovery]] = defaultdict(list)
        for run in self.runs:
            for one in run.recoveries:
                by_fault[one.fault].append(one)
        for fault in FAULTS:
            found = by_fault.get(fault)
            if not found:
                continue
            every = sorted(one.all_s for one in found)
            table.add_row(
                fault,
                str(len(found)),
                _worst(one.first_s for one in found),
                f"{every[len(every) // 2]:.2f} s",
                f"{every[-1]:.2f} s",
                str(sum(not one.in_time for one in found)),
                _worst(one.silence_s for one in found),
            )
        sums = {
            name: sum(getattr(run, name) for run in self.runs) for name in ("commands", "deliveries", "undelivered")
        }
        return Group(
            table,
            f"{len(self.runs)} run(s), {sums['commands']} commands in {sums['deliveries']} deliveries,"
            f" {sums['undelivered']} replies undeliverable as they had to be,"
            f" {sum(len(run.deviations) for run in self.runs)} deviation(s)",
        )


def _worst(seconds: Iterable[float]) -> str:
    return f"{max(seconds):.2f} s"
