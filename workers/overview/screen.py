"""A snapshot as text and as JSON. Both are of the same sections; a table never breaks an id."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import typer

from persistence.overview import WorkerSeen
from workers.dlq.letters import iso
from workers.overview.section import Section
from workers.overview.snapshot import LETTERS, Snapshot
from workers.tables import print_table

MOST_KINDS: Final = 20


def as_dict(snapshot: Snapshot) -> dict[str, Any]:
    """Return it for a program: each section with its age, its value, and why it could not be read (else null)."""

    def section(one: Section[Any], value: Callable[[Any], Any]) -> dict[str, Any]:
        return {
            "age_s": round(one.age_s(snapshot.taken_at), 3),
            "could_not_be_read": one.missing,
            "value": None if one.value is None else value(one.value),
        }

    return {
        "taken_at": iso(snapshot.taken_at),
        "first": list(snapshot.first),
        "workers": section(snapshot.workers, lambda rows: [_worker(one) for one in rows]),
        "rates": section(snapshot.workers, lambda _: [asdict(one) for one in snapshot.rates]),
        "lag": section(snapshot.lag, lambda rows: [asdict(one) | {"seconds": round(one.seconds, 3)} for one in rows]),
        "dead_letters": section(snapshot.letters, asdict),
        "backfills": section(snapshot.backfills, lambda rows: [asdict(one) for one in rows]),
        "changes": section(snapshot.changes, lambda rows: [_plain(asdict(one)) for one in rows]),
        "blocks": section(snapshot.blocks, lambda rows: [_plain(asdict(one)) for one in rows]),
        "actions": section(snapshot.actions, lambda rows: [_plain(asdict(one)) for one in rows]),
    }


def show(snapshot: Snapshot) -> None:
    """Print it: first what has to be known first, then a table for each section that has something."""
    for line in snapshot.first:
        typer.echo(f"! {line}")
    told = as_dict(snapshot)
    _section(told["workers"], "Workers", ["worker", "role", "release", "last beat", "partitions", "phases"], _workers)
    _section(told["lag"], "Lag", ["topic", "waiting", "oldest waits", "partitions behind"], _by_topic)
    _section(
        told["rates"], "Ended", ["kind", "minute", "errors", "hour", "errors"], lambda rows: _rates(rows)[:MOST_KINDS]
    )
    _section(told["dead_letters"], "Dead letters", ["reason", "open"], _letters)
    _section(told["backfills"], "Backfills", ["backfill", "state", "done", "rows", "aside", "held by"], _backfills)
    _section(told["changes"], "Changes", ["change", "phase", "since", "by", "last asked for"], _changes)
    _section(told["blocks"], "Blocks", ["blocked", "name", "since", "by", "reason"], _blocks)
    _section(told["actions"], "Operators", ["when", "who", "did", "to", "became"], _actions)


Rows = Sequence[Sequence[str]]


def _section(told: Mapping[str, Any], title: str, columns: Sequence[str], rows: Callable[[Any], Rows]) -> None:
    typer.echo("")
    age = f"({told['age_s']:.1f} s ago)"
    if told["could_not_be_read"] is not None:
        typer.echo(f"{title} could not be read: {told['could_not_be_read']} {age}")
        return
    found = rows(told["value"])
    typer.echo(f"{title} {age}" + ("" if found else ": none"))
    if found:
        print_table(columns, found)


def _worker(one: WorkerSeen) -> dict[str, Any]:
    return {
        "worker": one.worker,
        "role": one.role,
        "lives": one.lives,
        "version": one.version,
        "seen_s_ago": round(one.age_s, 3),
        "started_at": iso(one.started_at),
        "partitions": list(one.partitions),
        "phases": dict(one.phases),
        "p99_ms": dict(one.p99_ms),
    }


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: iso(value) if isinstance(value, datetime) else value for name, value in fields.items()}


def _workers(rows: Any) -> Rows:  # noqa: ANN401 - JSON
    return [
        [
            one["worker"],
            one["role"],
            one["version"] or "not told",
            f"{_ago(one['seen_s_ago'])} ago" + ("" if one["lives"] else ", dead"),
            str(len(one["partitions"])),
            ", ".join(f"{change}: {phase}" for change, phase in one["phases"].items()),
        ]
        for one in rows
    ]


def _by_topic(rows: Any) -> Rows:  # noqa: ANN401
    topics: dict[str, list[Any]] = {}
    for one in rows:
        topics.setdefault(one["topic"], []).append(one)
    return [
        [
            topic,
            f"{sum(one['messages'] for one in some):,}",
            _ago(max(one["seconds"] for one in some)),
            ", ".join(str(one["partition"]) for one in some if one["messages"]),
        ]
        for topic, some in topics.items()
    ]


def _rates(rows: Any) -> Rows:  # noqa: ANN401
    return [
        [one["kind"], *(f"{one[name]:,}" for name in ("minute", "minute_errors", "hour", "hour_errors"))]
        for one in sorted(rows, key=lambda one: (-one["minute"], -one["hour"], one["kind"]))
    ]


def _letters(value: Any) -> Rows:  # noqa: ANN401
    rows = [[reason, f"{number:,}"] for reason, number in value["by_reason"].items()]
    return rows if value["complete"] else [*rows, ["(older ones)", f"beyond the latest {LETTERS:,}"]]


def _backfills(rows: Any) -> Rows:  # noqa: ANN401
    return [
        [
            one["name"],
            one["state"],
            f"{one['fraction']:.0%}" if one["fraction"] is not None else "",
            f"{one['rows_done']:,}",
            str(one["rows_quarantined"]),
            one["held_by"] or "",
        ]
        for one in rows
    ]


def _changes(rows: Any) -> Rows:  # noqa: ANN401
    return [
        [
            one["change"],
            one["phase"],
            one["changed_at"],
            one["changed_by"],
            f"{one['to']}: {one['wish']}" + (f" ({one['reason']})" if one["reason"] else "") if one["to"] else "",
        ]
        for one in rows
    ]


def _blocks(rows: Any) -> Rows:  # noqa: ANN401
    return [[one["target"], one["name"], one["blocked_at"], one["operator"], one["reason"]] for one in rows]


def _actions(rows: Any) -> Rows:  # noqa: ANN401
    return [[one["at"], one["operator"], one["what"], one["of"], one["outcome"]] for one in rows]


_MINUTE_S: Final = 60
_HOUR_S: Final = 3600


def _ago(seconds: float) -> str:
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE_S:.0f} min" if seconds < _HOUR_S else f"{seconds / _HOUR_S:.0f} h"
