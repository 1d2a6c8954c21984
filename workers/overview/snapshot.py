"""How the whole system stands, at one moment: frozen, in sections that are read by themselves.

It comes from Postgres and Kafka alone, so that it is there while no worker runs; what workers know, they write into
their heartbeats. Reading it takes no lock and changes nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from contracts.backfills import ChangeResult
from contracts.topics import Topics
from persistence.backfill.definition import load_definitions
from persistence.blocks import Block, show_blocks
from persistence.dead_letter_actions import DeadLetterActions
from persistence.engine import Connection, Engine, connected
from persistence.overview import Acted, WorkerSeen, latest_actions, workers_of_a_day
from persistence.phase_wishes import all_changes
from workers.backfill.control import BackfillControl
from workers.backfill.workplace import RELEASED
from workers.command_line.session import Session
from workers.deployment import group_id, kafka_security, replays_of
from workers.dlq.desk import Desk
from workers.dlq.letters import SIDES, Filter
from workers.kafka.dead_letter_log import DeadLetterLog
from workers.kafka.log_reader import LogReader
from workers.overview.section import Section, read_section

T = TypeVar("T")

SERVER_S: Final = 4.0
"""What a server has in all, so that the picture is there within 5 s."""
LETTERS: Final = 1_000
"""So many open dead letters are counted, the latest; beyond it there are more."""
ROLES: Final = ("commands", "queries", "backfill")


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one partition's workers are behind: records, and the age of the one at the acked offset."""

    topic: str
    partition: int
    messages: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Rate:
    """What live workers ended of a kind, in the last minute and hour; errors are status codes from 400 on."""

    kind: str
    minute: int
    minute_errors: int
    hour: int
    hour_errors: int


@dataclass(frozen=True, slots=True)
class Letters:
    """Open dead letters by reason, of the latest; `complete` where these are all."""

    by_reason: Mapping[str, int]
    complete: bool


@dataclass(frozen=True, slots=True)
class BackfillSeen:
    """A backfill that was ever started: how far it is, and what holds it."""

    name: str
    state: str
    fraction: float | None
    rows_done: int
    rows_quarantined: int
    held_by: str | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of it. `taken_at` is when the last section was read."""

    taken_at: datetime
    workers: Section[Sequence[WorkerSeen]]
    lag: Section[Sequence[Lag]]
    letters: Section[Letters]
    backfills: Section[Sequence[BackfillSeen]]
    changes: Section[Sequence[ChangeResult]]
    actions: Section[Sequence[Acted]]
    blocks: Section[Sequence[Block]]

    @property
    def rates(self) -> Sequence[Rate]:
        """Sum up what live workers told, by kind."""
        sums: Counter[tuple[str, str, bool]] = Counter()
        for one in self.workers.value or ():
            if one.lives:
                for span, ended in one.ended.items():
                    for kind, status, number in ended:
                        sums[kind, span, status >= "400"] += number
        return [
            Rate(
                kind,
                sums[kind, "minute", False] + sums[kind, "minute", True],
                sums[kind, "minute", True],
                sums[kind, "hour", False] + sums[kind, "hour", True],
                sums[kind, "hour", True],
            )
            for kind in sorted({kind for kind, _, _ in sums})
            if any(sums[kind, span, bad] for span in ("minute", "hour") for bad in (False, True))
        ]

    @property
    def first(self) -> Sequence[str]:
        """Say what has to be known before all else: which roles nobody fills."""
        if self.workers.value is None:
            return []
        there = {one.role for one in self.workers.value if one.lives}
        if not there:
            return ["no worker runs"]
        return [f"no worker for {role} runs" for role in ROLES if role not in there]


async def take_snapshot(session: Session) -> Snapshot:
    """Look at both servers at once; each has `SERVER_S` in all."""
    async with session.engine() as engine:
        database, log = await asyncio.gather(_database(engine), _log(session, engine))
    workers, backfills, changes, actions, blocks = database
    lag, letters = log
    return Snapshot(datetime.now(UTC), workers, lag, letters, backfills, changes, actions, blocks)


async def _database(
    engine: Engine,
) -> tuple[
    Section[Sequence[WorkerSeen]],
    Section[Sequence[BackfillSeen]],
    Section[Sequence[ChangeResult]],
    Section[Sequence[Acted]],
    Section[Sequence[Block]],
]:
    until = _Until(SERVER_S)

    async def section(read: Callable[[Connection], Awaitable[T]]) -> Section[T]:
        async def work() -> T:
            async with connected(engine) as connection:
                return await read(connection)

        return await read_section(work, within_s=until.left_s())

    return (
        await section(workers_of_a_day),
        await section(_backfills),
        await section(all_changes),
        await section(latest_actions),
        await section(show_blocks),
    )


async def _backfills(connection: Connection) -> Sequence[BackfillSeen]:
    seen = await BackfillControl(connection, load_definitions(RELEASED)).list_all()
    return [_backfill(view) for view in seen if view["state"] is not None]


def _backfill(view: Mapping[str, Any]) -> BackfillSeen:
    held_by = view["waits_because"] or (view["reason"] if view["state"] != "completed" else None)
    return BackfillSeen(
        view["name"], view["state"], view["fraction"], view["rows_done"], view["rows_quarantined"], held_by
    )


async def _log(session: Session, engine: Engine) -> tuple[Section[Sequence[Lag]], Section[Letters]]:
    return await asyncio.gather(
        read_section(lambda: _lag(session), within_s=SERVER_S),
        read_section(lambda: _letters(session, engine), within_s=SERVER_S),
    )


async def _lag(session: Session) -> Sequence[Lag]:
    settings = session.settings
    topics = Topics(settings.kafka.topic_prefix)
    found = []
    async with LogReader(settings.kafka.bootstrap_servers, kafka_security(settings), session.client_id) as reader:
        for side in SIDES:
            topic = topics.commands if side == "commands" else topics.queries
            acked = await reader.committed(group_id(topics, side), topic)
            behind = {
                partition: (min(end, max(first, acked.get(partition, first))), end)
                for partition, (first, end) in (await reader.spans(topic)).items()
            }
            next_ones = {partition: (at, at + 1) for partition, (at, end) in behind.items() if at < end}
            stamps = {one.partition: one.timestamp / 1000 async for one in reader.read(topic, next_ones)}
            now = datetime.now(UTC).timestamp()
            found += [
                Lag(topic, partition, end - at, max(0.0, now - stamps.get(partition, now)))
                for partition, (at, end) in sorted(behind.items())
            ]
    return found


async def _letters(session: Session, engine: Engine) -> Letters:
    settings = session.settings
    topics = Topics(settings.kafka.topic_prefix)
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(
            DeadLetterLog(settings.kafka.bootstrap_servers, kafka_security(settings), topics)
        )
        desk = Desk(log, DeadLetterActions(engine), topics, replays_of(settings), session.name)
        latest = await desk.latest(SIDES, Filter(), LETTERS)
    reasons = Counter(str(entry.summary["reason"]) for entry, _ in latest.entries)
    return Letters(dict(reasons.most_common()), latest.complete)


class _Until:
    """How much of a time is left, for what is done one after the other; never nothing, so that a try is made."""

    def __init__(self, seconds: float) -> None:
        self._ends_at = asyncio.get_running_loop().time() + seconds

    def left_s(self) -> float:
        """Return the seconds that are left."""
        return max(0.05, self._ends_at - asyncio.get_running_loop().time())
