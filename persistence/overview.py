"""What the database knows of the whole system, for whoever looks: workers, changes, and what operators did last."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from persistence.engine import Connection
from persistence.phases import LIVE_FOR_S

MOST_ACTIONS: Final = 20

_WORKERS: Final = """
select worker, role, phases::text as phases, p99_ms::text as p99_ms, told::text as told, started_at,
    extract(epoch from now() - seen_at)::float8 as age_s
from worker_heartbeats order by role, worker"""
_ACTIONS: Final = """
select * from (
    (select asked_at as at, operator, action || ' a dead letter' as what,
        letter_topic || '/' || letter_partition || '/' || letter_offset as of,
        case when done_at is null then 'not confirmed' else 'done' end as outcome
    from dead_letter_actions order by id desc limit $1)
    union all
    (select changed_at, changed_by, 'moved a change', change, from_phase || ' -> ' || to_phase
    from schema_change_log order by id desc limit $1)
    union all
    (select asked_at, asked_by, 'asked for a phase', change || ' -> ' || to_phase,
        state || coalesce(': ' || reason, '')
    from phase_wishes order by id desc limit $1)
    union all
    (select acted_at, operator, action || 'ed a ' || target, name, reason
    from block_log order by id desc limit $1)
    union all
    (select rewound_at, operator, 'set a group back', log_topic || '/' || log_partition,
        from_offset || ' -> ' || to_offset
    from offset_rewinds order by id desc limit $1)) as every_kind
order by at desc limit $1"""


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker that lives, or died within the last day: one that stops as it should takes its row with it."""

    worker: str
    role: str
    age_s: float
    """Since its last heartbeat, by the database's clock."""
    phases: Mapping[str, str]
    p99_ms: Mapping[str, float]
    started_at: datetime
    version: str | None = None
    """None of a release that did not tell."""
    partitions: Sequence[str] = ()
    ended: Mapping[str, Sequence[tuple[str, str, int]]] = field(default_factory=dict)
    """By span (minute, hour): kind, status code, number."""

    @property
    def lives(self) -> bool:
        """Whether it is taken for alive."""
        return self.age_s < LIVE_FOR_S


@dataclass(frozen=True, slots=True)
class Acted:
    """Something that an operator did, and what became of it."""

    at: datetime
    operator: str
    what: str
    of: str
    outcome: str


async def workers_of_a_day(connection: Connection) -> Sequence[WorkerSeen]:
    """Return every worker that lives, or died within the last day, by role and name."""
    return [_seen(row) for row in await connection.fetch(_WORKERS)]


async def latest_actions(connection: Connection) -> Sequence[Acted]:
    """Return what operators did last, the latest first."""
    return [
        Acted(row["at"], row["operator"], row["what"], row["of"], row["outcome"])
        for row in await connection.fetch(_ACTIONS, MOST_ACTIONS)
    ]


def _seen(row: Any) -> WorkerSeen:  # noqa: ANN401 (a driver's record)
    told: dict[str, Any] = json.loads(row["told"]) if row["told"] is not None else {}
    return WorkerSeen(
        row["worker"],
        row["role"],
        row["age_s"],
        json.loads(row["phases"]),
        json.loads(row["p99_ms"]),
        row["started_at"],
        told.get("version"),
        tuple(told.get("partitions", ())),
        {
            span: [(kind, status, number) for kind, status, number in sums]
            for span, sums in told.get("ended", {}).items()
        },
    )
