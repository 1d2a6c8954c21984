"""The backfill worker's metrics. Labels are names of definitions, states and signals: closed sets."""

from collections.abc import Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from persistence.backfill.accounts import Budget, Spell
from workers.backfill.control import RunView

DONE: Final = "done"
"""How a chunk ends that was committed; the other ends are the kinds of failure."""
CHUNK_SECONDS: Final = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 15.0)


class BackfillMetrics:
    """What one worker did, and what it last read of the shared state."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.rows = Counter("catalog_backfill_rows", "Rows treated", ["name", "kind"], registry=registry)
        self.chunks = Counter("catalog_backfill_chunks", "Chunks by how they ended", ["name", "end"], registry=registry)
        self.chunk_rows = Gauge("catalog_backfill_chunk_rows", "Keys in the last chunk", ["name"], registry=registry)
        self.chunk_seconds = Histogram(
            "catalog_backfill_chunk_seconds", "Time of a chunk", ["name"], buckets=CHUNK_SECONDS, registry=registry
        )
        self.spent = Counter(
            "catalog_backfill_spent_seconds", "Where the time went", ["spent", "signal"], registry=registry
        )
        self.quarantined = Counter("catalog_backfill_quarantined_rows", "Rows put aside", ["name"], registry=registry)
        self.verifies = Counter("catalog_backfill_verifies", "Verifies by result", ["name", "ok"], registry=registry)
        self.level = Gauge(
            "catalog_backfill_signal_level", "Signal over limit, last sample", ["signal"], registry=registry
        )
        run = ["name", "kind"]
        self.progress = Gauge("catalog_backfill_run", "Figures of active runs", [*run, "figure"], registry=registry)
        self.seconds_left = Gauge(
            "catalog_backfill_seconds_left", "Ends of the interval", [*run, "bound"], registry=registry
        )
        self.run_chunks = Gauge(
            "catalog_backfill_run_chunks", "Chunks of active runs by state", [*run, "state"], registry=registry
        )
        self.share = Gauge("catalog_backfill_share", "Share of time that backfills may run", registry=registry)

    def shown(self, views: Sequence[RunView]) -> None:
        """Follow the active runs (a verify instead of the run that it verifies); what has ended is shown no more."""
        for gauge in (self.progress, self.seconds_left, self.run_chunks):
            gauge.clear()
        for view in views:
            active = view["verify"] if view["verify"] is not None and view["verify"]["events"] else view
            name, kind = active["name"], active["kind"]
            for figure in ("rows_walked", "rows_estimated", "rows_done", "rows_quarantined", "rows_per_s", "pass"):
                if active[figure] is not None:
                    self.progress.labels(name, kind, figure).set(active[figure])
            for bound, seconds in zip(("low", "high"), active["seconds_left"] or (), strict=False):
                self.seconds_left.labels(name, kind, bound).set(seconds)
            for state, number in active["chunks"].items():
                self.run_chunks.labels(name, kind, state).set(number)

    def sampled(self, budget: Budget) -> None:
        """Show the last sample of the signals; what could not be read shows as infinite."""
        for reading in budget.readings:
            level = reading["level"]
            self.level.labels(reading["signal"]).set(float("inf") if level is None else level)
        self.share.set(budget.share)

    def ended(self, name: str, kind: str, end: str, *, rows: int = 0, walked: int = 0, took_s: float = 0.0) -> None:
        """Count a chunk by how it ended; a done one with its rows, keys and seconds."""
        self.chunks.labels(name, end).inc()
        if end == DONE:
            self.rows.labels(name, kind).inc(rows)
            self.chunk_rows.labels(name).set(walked)
            self.chunk_seconds.labels(name).observe(took_s)

    def verified(self, name: str, *, ok: bool) -> None:
        """Count a verify by its result."""
        self.verifies.labels(name, "yes" if ok else "no").inc()

    def spells(self, seconds: Mapping[Spell, float]) -> None:
        """Add up where the time went."""
        for spell, more in seconds.items():
            self.spent.labels(spell.spent, spell.signal).inc(more)
