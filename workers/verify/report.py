"""The account of a run, for people and for programs."""

from collections import Counter
from typing import Any, Final

from rich.console import Console

from workers.tables import print_table
from workers.verify.run import Account

SHOWN_DEVIATIONS: Final = 50


def as_dict(account: Account) -> dict[str, Any]:
    """Put the account into plain values."""
    return {
        "messages": account.messages,
        "deliveries": account.deliveries,
        "repeated_replies": account.repeats,
        "latency_ms": {name: round(value * 1000, 1) for name, value in _percentiles(account).items()},
        "statuses": {f"{kind} {status}": number for (kind, status), number in sorted(account.statuses.items())},
        "deviations": dict(Counter(one.kind for one in account.deviations)),
        "examples": [
            {"kind": one.kind, "message_id": one.message_id, "detail": one.detail}
            for one in account.deviations[:SHOWN_DEVIATIONS]
        ],
    }


def show(account: Account, console: Console) -> None:
    """Print the account."""
    print_table(
        ["kind", "status", "messages"],
        [[kind, str(status), str(number)] for (kind, status), number in sorted(account.statuses.items())],
        title="What became of every message",
        console=console,
    )
    latency = ", ".join(f"{name} {value * 1000:,.0f} ms" for name, value in _percentiles(account).items())
    console.print(f"{account.messages} messages in {account.deliveries} deliveries; first answers: {latency}")
    console.print(f"{account.repeats} replies came again (the same bytes each time)")
    if not account.deviations:
        console.print("[green]No deviation: nothing lost, nothing done twice, nothing out of order[/green]")
    for one in account.deviations[:SHOWN_DEVIATIONS]:
        console.print(f"[red]{one.kind}[/red] {one.message_id}: {one.detail}", highlight=False)
    if account.deviations:
        console.print(f"[red]{len(account.deviations)} deviation(s)[/red]")


def _percentiles(account: Account) -> dict[str, float]:
    times = account.latencies_s
    if not times:
        return {}
    return {name: times[min(len(times) - 1, int(len(times) * share))] for name, share in _SHARES.items()}


_SHARES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
