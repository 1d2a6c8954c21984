"""A run drawn for a terminal. The figures are those of the query and of `--json`; nothing is computed here."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from workers.backfill.control import RunView
from workers.tables import print_table

STYLES: Final[Mapping[str, str]] = {
    "running": "green",
    "completed": "bold green",
    "completed_with_quarantine": "bold yellow",
    "failed": "bold red",
    "paused": "yellow",
    "pausing": "yellow",
    "cancelling": "yellow",
    "cancelled": "yellow",
}
BAR_WIDTH: Final = 40
_PIPE_WIDTH: Final = 10_000


def picture(view: RunView) -> RenderableType:
    """Draw a run, its verify, and what holds or paces it."""
    if view["state"] is None:
        return Text(f"{view['name']} was never started")
    parts: list[RenderableType] = [_run(view)]
    if view["waits_because"]:
        parts.append(Text(f"waits: {view['waits_because']}", "yellow"))
    if view["verify"] is not None:
        parts.append(_run(view["verify"]))
    parts.append(_throttle(view["throttle"]))
    if view["workers"]:
        parts.append(_workers(view["workers"]))
    return Group(*parts)


def print_listing(views: Sequence[RunView]) -> None:
    """Print every backfill with the state of its last run."""
    rows: list[list[str | Text]] = [
        [
            view["name"],
            view["table"],
            Text(view["state"] or "never", STYLES.get(view["state"] or "", "")),
            f"{view['rows_done']:,}" if view["state"] else "",
            str(view["rows_quarantined"]) if view["state"] else "",
            str(len(view["known_by"])),
            Text(view["summary"]) if not view["waits_because"] else Text(f"waits: {view['waits_because']}", "yellow"),
        ]
        for view in views
    ]
    print_table(["backfill", "table", "last run", "rows done", "aside", "workers", "what it does"], rows)


def print_picture(view: RunView) -> None:
    """Print a run."""
    picture_console().print(picture(view))


def picture_console() -> Console:
    """Return where pictures are drawn: in a pipe or a file no line is broken."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def _run(view: RunView) -> RenderableType:
    title = Text(f"{view['name']} ", "bold").append(f"{view['kind']} {view['run_id']} ", "dim")
    title.append(view["state"], STYLES.get(view["state"], ""))
    if view["reason"]:
        title.append(f"  {view['reason']}", "red" if view["state"] == "failed" else "")
    table = Table.grid(padding=(0, 2))
    walked, estimated = view["rows_walked"], view["rows_estimated"]
    table.add_row(
        ProgressBar(total=max(estimated, 1), completed=min(walked, estimated), width=BAR_WIDTH),
        f"{view['fraction']:.1%} of walk {view['pass']}: {walked:,} of {estimated:,} keys, {view['rows_done']:,} done",
    )
    cap = view["rate_cap_rows_per_s"]
    rate = f"{view['rows_per_s']:,.0f} rows/s" if view["rows_per_s"] is not None else "–"
    table.add_row("rate", rate + (f" (capped at {cap:,.0f})" if cap is not None else ""))
    table.add_row("time left", _interval(view["seconds_left"]))
    chunks = ", ".join(f"{number} {state}" for state, number in sorted(view["chunks"].items()))
    table.add_row("chunks", f"{chunks or '–'}; {view['chunk_rows']:,} keys in the last")
    table.add_row("time", _times(view["time"]))
    if view["trouble"]:
        table.add_row("trouble", Text(view["trouble"], "yellow"))
    for row in view["quarantine"][:5]:
        table.add_row("put aside", Text(f"{', '.join(row['key'])}: {row['reason']}", "yellow"))
    if estimate := _estimate(view):
        table.add_row("estimate", Text(estimate, "bold"))
    for finding in (view["result"] or {}).get("findings", ()):
        table.add_row("found", Text(finding, "red"))
    return Group(title, table)


def _estimate(view: RunView) -> str | None:
    """Say what a dry run found: how long one worker would take for the whole, from the first chunk."""
    result = view["result"] or {}
    if not view["dry_run"] or "seconds_estimated" not in result:
        return None
    first = result["first_chunk"]
    whole = timedelta(seconds=round(result["seconds_estimated"]))
    return (
        f"{result['rows_estimated']:,} rows in about {whole} by one worker without throttle;"
        f" the first chunk treated {first['rows_treated']:,} of {first['keys']:,} rows in"
        f" {first['seconds']:.2f} s, and was rolled back"
    )


def _interval(seconds: Sequence[float] | None) -> str:
    if seconds is None:
        return "–"
    low, high = (timedelta(seconds=round(one)) for one in seconds)
    return f"{low} to {high}"


def _times(times: Sequence[Mapping[str, Any]]) -> str:
    named = [f"{one['spent']}{' by ' + one['signal'] if one['signal'] else ''} {one['seconds']:.1f} s" for one in times]
    return ", ".join(named) or "–"


def _throttle(throttle: Mapping[str, Any]) -> RenderableType:
    text = Text("throttle  ", "dim")
    share = throttle["share"]
    if share >= 1:
        text.append("all clear", "green")
    else:
        text.append("stopped" if share <= 0 else f"{share:.0%} of the time", "red" if share <= 0 else "yellow")
        text.append(f" because of {throttle['signal']}")
    for one in throttle["readings"]:
        level = "cannot be read: " + one["trouble"] if one["level"] is None else f"{one['level']:.2f}"
        text.append(f"\n  {one['signal']:<16} {level}", "" if one["level"] is not None and one["level"] < 1 else "red")
    return text


def _workers(workers: Sequence[Mapping[str, Any]]) -> RenderableType:
    text = Text("workers   ", "dim")
    for number, one in enumerate(workers):
        text.append(f"{', ' if number else ''}{one['worker']} {one['spent']}")
        if one["knows"] is False:
            text.append(" (does not know it)", "yellow")
    return text
