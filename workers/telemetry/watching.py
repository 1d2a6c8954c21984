"""Turns what the pipeline and the edge tell into metrics and log lines; per batch where it can be."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Final

import orjson
import structlog

from contracts import messages
from contracts.errors import RateLimitedError
from contracts.kinds import Kind
from persistence.faults import Fault, fault_of, sqlstate_of
from workers.pipeline.consequences import Consequences
from workers.pipeline.delivery import Delivery, Ended
from workers.pipeline.strangers import StrangersAllowance
from workers.ports import Position, Record
from workers.telemetry.lag import Lag
from workers.telemetry.metrics import Metrics

UNKNOWN: Final = "unknown"
CREATED: Final = 201
SUCCESS_BELOW: Final = 400
DEPRECATION_LOG_EVERY_S: Final = 3600
RECENT: Final = 512
RECENT_S: Final = 15.0
"""How many latencies the p99 of the heartbeat is taken from at most, and from how long ago: it is to say how traffic
fares now, and a backfill waits for it."""
STRANGERS_LINES_A_MINUTE: Final = 600
"""So many lines tell of messages of senders that nobody verified; the rest is counted, and told in a line a minute."""
HELD_TOLD_AFTER_S: Final = 10.0
"""A producer's transaction that is open for so long is worth a line."""
DATABASE_STEPS: Final = frozenset({"look_up", "load", "flush", "store", "commit"})
SLOW_SERVER: Final = frozenset({"transient", "too_slow", "schema_moved"})
"""Causes of a retry that lie with the database."""
OUTAGE_NOTED_S: Final = 45.0
"""How long an outage counts as such after it was last met: one attempt takes up to 25 s, the wait after it 5."""


class BatchNotes:
    """What one batch tells."""

    def __init__(self, watching: "Watching") -> None:
        self._watching = watching

    def decided(self, ended: Sequence[Ended]) -> None:
        """Count and log the ends of a batch that was answered."""
        self._watching.count(ended)


class Watching:
    """The observer of one process, of all lanes that it has.

    `successes_per_s`: so many successes are logged a second; the rest is counted. `slow_s`: a database operation that
    took longer is worth a warning.
    """

    def __init__(
        self,
        metrics: Metrics,
        kinds: Mapping[str, Kind],
        successes_per_s: float,
        clock: Callable[[], float] = time.time,
        slow_s: float = 0.5,
    ) -> None:
        self.metrics = metrics
        self.lag = Lag(metrics.lag_messages, metrics.lag_seconds, clock)
        self._kinds = kinds
        self._clock = clock
        self._log = structlog.get_logger("catalog.outcomes")
        self._budget = _Budget(successes_per_s)
        self._strangers = StrangersAllowance(STRANGERS_LINES_A_MINUTE, clock)
        self._untold = 0
        self._slow_s = slow_s
        self._outage: tuple[str, float] | None = None
        self._positions: AbstractSet[Position] = frozenset()
        self._taken_away: set[Position] = set()
        """Of which the last is told until it is known whose they are."""
        self._revoked_at: float | None = None
        self._held_since: dict[Position, float] = {}
        self._deprecation_logged: dict[tuple[str, str], float] = {}
        self._recent_ms: deque[tuple[float, float]] = deque(maxlen=RECENT)

    # The pipeline's observer ---------------------------------------------------------------------------------------
    @contextmanager
    def batch(self, records: Sequence[Record]) -> Iterator[BatchNotes]:
        """Measure a batch from its arrival to its answers."""
        started = time.perf_counter()
        self.metrics.batch_size.observe(len(records))
        self.metrics.redeliveries.inc(self.lag.fetched(records))
        yield BatchNotes(self)
        self.metrics.step_seconds.labels("batch").observe(time.perf_counter() - started)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure one step of a batch."""
        started = time.perf_counter()
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            seconds = time.perf_counter() - started
            self.metrics.step_seconds.labels(name).observe(seconds)
            if name in DATABASE_STEPS:
                self._database_line("db_" + name, seconds, error)

    def retry(self, cause: str, step: str) -> None:
        """Count a step that is tried again."""
        self.metrics.retries.labels(cause, step).inc()
        if cause in SLOW_SERVER:
            self._outage = "postgres", self._clock()

    def waits(self, on: str, seconds: float) -> None:
        """Note a wait for a server that is away: `postgres`, `kafka` or `redis`."""
        self.metrics.waiting_seconds.labels(on).inc(seconds)
        if on != "redis":  # nothing stops for want of it
            self._outage = on, self._clock()

    @property
    def outage(self) -> str | None:
        """The server that is away, as far as the last attempt of anything could tell; None when all is well."""
        if self._outage is None or self._clock() - self._outage[1] > OUTAGE_NOTED_S:
            return None
        return self._outage[0]

    def use_case(self, kind: str, seconds: float) -> None:
        """Add up the time in use cases."""
        self.metrics.use_case_seconds.labels(kind).inc(seconds)

    def database(self, kind: str, seconds: float, error: BaseException | None = None) -> None:
        """Note how long the database took for the queries of a kind in a batch, and why it failed where it did."""
        self.metrics.database_seconds.labels(kind).observe(seconds)
        self._database_line("db_read", seconds, error, kind=kind)

    def count(self, ended: Sequence[Ended]) -> None:
        """Count the ends; a log line for each that is no success, and for as many successes as the budget allows.

        Of senders that nobody verified, who are bound to no rate, there are so many lines a minute.
        """
        now = self._clock()
        latencies: dict[tuple[str, str, int], list[float]] = {}
        """In seconds, by kind, end and status."""
        reached: dict[Position, int] = {}
        seconds_each: list[float] = []
        may_tell_success = True
        for delivery, consequences in ended:
            kind = self._asked(delivery) if delivery.kind is None else delivery.kind.name
            label, status = consequences.label, consequences.status_code
            if consequences.is_replayed or consequences.error_code is not None:
                self._count_rare(kind, consequences)
            stamped_ms = reached[delivery.position] = delivery.record.timestamp
            if delivery.replay is not None:
                self.metrics.dead_letter_replays.labels(kind, label).inc()
            seconds = now - stamped_ms / 1000
            if seconds < 0:
                seconds = 0.0
            alike = latencies.get((kind, label, status))
            if alike is None:
                alike = latencies[kind, label, status] = []
            alike.append(seconds)
            seconds_each.append(seconds)
            version = delivery.version
            if version is not None and version.deprecated_on is not None:
                self._deprecated(delivery, kind, version.number, now)
            if delivery.identity is None and not self._may_tell_of_stranger(delivery.record):
                continue
            if 0 < status < SUCCESS_BELOW:
                may_tell_success = may_tell_success and self._budget.take(now)
                if not may_tell_success:
                    continue
            self._line(delivery, consequences, kind, seconds)
        for (kind, end, status), alike in latencies.items():
            self.metrics.received.labels(kind).inc(len(alike))
            self.metrics.ended.labels(kind, end, str(status)).inc(len(alike))
            self.metrics.latency.labels(kind).observe_all(alike)
        noticed_at = time.monotonic()
        self._recent_ms.extend((noticed_at, seconds * 1000) for seconds in seconds_each[-RECENT:])
        for position, stamped_ms in reached.items():
            self.lag.decided(position, stamped_ms)

    def _may_tell_of_stranger(self, record: Record) -> bool:
        if not self._strangers.grants((record.topic, record.partition, record.offset)):
            self._untold += 1
            return False
        if self._untold:
            self._log.warning("strangers_not_told", messages=self._untold)
            self._untold = 0
        return True

    def _database_line(self, operation: str, seconds: float, error: BaseException | None, **fields: str) -> None:
        """Say how long it took, and whether it failed. A race that was lost is nobody's fault."""
        worth_a_warning = seconds >= self._slow_s
        if error is not None:
            fields["error"] = type(error).__name__
            if (code := sqlstate_of(error)) is not None:
                fields["sqlstate"] = code
            worth_a_warning |= isinstance(error, Exception) and fault_of(error) is not Fault.CONFLICT
        say = self._log.warning if worth_a_warning else self._log.debug
        say(operation, duration_ms=round(seconds * 1000, 1), ok=error is None, **fields)

    def _asked(self, delivery: Delivery) -> str:
        """Name the kind of a message that was ended before anybody looked for it."""
        request = delivery.request
        return request.kind if request is not None and request.kind in self._kinds else UNKNOWN

    def _count_rare(self, kind: str, consequences: Consequences) -> None:
        """Count what is told beside the end itself."""
        if consequences.is_replayed:
            self.metrics.replays.labels(kind).inc()
        elif consequences.error_code == RateLimitedError.error_code:
            self.metrics.throttled.labels(kind).inc()
        elif consequences.defect is not None:
            self.metrics.failures.labels(kind, type(consequences.defect.error).__name__).inc()

    def _line(self, delivery: Delivery, consequences: Consequences, kind: str, seconds: float) -> None:
        status = consequences.status_code
        say = self._log.info if consequences.is_result else self._log.warning
        fields: dict[str, object] = {
            "kind": kind,
            "end": consequences.label,
            "status_code": status,
            "correlation_id": delivery.headers.correlation_id,
            "message_id": delivery.headers.message_id,
            "user_id": delivery.identity.subject if delivery.identity is not None else None,
            "duration_ms": round(seconds * 1000, 1),
            "partition": delivery.record.partition,
            "offset": delivery.record.offset,
        }
        if consequences.error_code is not None:
            fields["error_code"] = consequences.error_code
        if consequences.is_result and consequences.envelope is not None:
            fields |= _told(consequences.envelope, status)
        if delivery.replay is not None:
            origin = delivery.replay.origin
            fields["replay_of"] = f"{origin.topic}/{origin.partition}/{origin.offset}"
            if delivery.replay.operator is not None:
                fields["edited_by"] = delivery.replay.operator
        for name in ("customer_id", "mnemonic", "order_id"):
            value = getattr(delivery.payload, name, None)
            if isinstance(value, str):
                fields[name] = value
        say("message_" + consequences.label, **fields)

    def _deprecated(self, delivery: Delivery, kind: str, version: int, now: float) -> None:
        self.metrics.deprecated.labels(kind, str(version)).inc()
        caller = delivery.identity.caller if delivery.identity is not None else ""
        if now - self._deprecation_logged.get((caller, kind), 0.0) < DEPRECATION_LOG_EVERY_S:
            return
        if len(self._deprecation_logged) > 10_000:  # noqa: PLR2004 - a bound on memory; forgetting costs a line
            self._deprecation_logged.clear()
        self._deprecation_logged[caller, kind] = now
        alternative = delivery.version.alternative if delivery.version is not None else None
        self._log.warning(
            "deprecated_version",
            kind=kind,
            version=version,
            user_id=delivery.identity.subject if delivery.identity is not None else None,
            hint=messages.deprecated(alternative or f"version {self._kinds[kind].newest.number}"),
        )

    def p99_ms(self) -> float | None:
        """The 99th percentile of the last seconds' latencies, in milliseconds; None where there was no message."""
        oldest = time.monotonic() - RECENT_S
        ordered = sorted(ms for at, ms in self._recent_ms if at >= oldest)
        if not ordered:
            return None
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]

    # What the cache and the repositories tell ------------------------------------------------------------------------
    def on_cache_read(self, hits: int, misses: int) -> None:
        """Count hits and misses."""
        self.metrics.cache.labels("hit").inc(hits)
        self.metrics.cache.labels("miss").inc(misses)

    def on_cache_delayed(self, keys: int) -> None:
        """Count cache keys that outlive the reply to their change."""
        self.metrics.stale_risk.inc(keys)
        self._log.warning("cache_not_cleared", keys=keys)

    def on_catalogue_compared(self, compared: int, differing: int) -> None:
        """Count drift between the two columns of the catalogue."""
        self.metrics.catalogue_compared.inc(compared)
        self.metrics.catalogue_drift.inc(differing)
        if differing:
            self._log.warning("catalogue_drift", rows=differing)

    # The edge's observer -------------------------------------------------------------------------------------------
    def on_batch(self, size: int, seconds: float) -> None:
        """A batch came back from the handler; its size and time are counted by `batch`."""

    def on_ack(self, *, ok: bool) -> None:
        """Offsets were acknowledged, or not."""
        self.metrics.acks.labels(str(ok).lower()).inc()

    def on_give_back(self, size: int, wait_s: float) -> None:
        """Records are fetched again later."""
        self.metrics.given_back.inc(size)
        self._log.warning("batch_given_back", messages=size, wait_ms=round(wait_s * 1000))

    def on_defect(self) -> None:
        """The handler raised."""
        self.metrics.failures.labels(UNKNOWN, "pipeline").inc()

    def on_revoked(self, positions: AbstractSet[Position], seconds: float) -> None:
        """Partitions were taken away. A rebalance begins with the first drain of any lane."""
        self.metrics.rebalances.inc()
        self.metrics.revoke_seconds.observe(seconds)
        began_at = self._clock() - seconds
        self._revoked_at = began_at if self._revoked_at is None else min(self._revoked_at, began_at)
        self._taken_away |= positions
        self._have(self._positions - positions)
        self._log.info("partitions_revoked", partitions=len(positions), duration_ms=round(seconds * 1000))

    def on_assigned(self, positions: AbstractSet[Position]) -> None:
        """Partitions are ours now. A rebalance ends with the first assignment of any lane."""
        self._forget(self._taken_away | positions)
        self._taken_away.clear()
        self._have(self._positions | positions)
        if self._revoked_at is not None:
            self.metrics.rebalance_seconds.observe(max(0.0, self._clock() - self._revoked_at))
            self._revoked_at = None
        self._log.info("partitions_assigned", partitions=len(positions))

    def on_left(self, positions: AbstractSet[Position]) -> None:
        """Partitions are not ours any more."""
        self._have(self._positions - positions)
        self._forget(positions)

    def _have(self, positions: AbstractSet[Position]) -> None:
        self._positions = positions
        self.metrics.partitions.set(len(positions))

    def _forget(self, positions: AbstractSet[Position]) -> None:
        self.lag.forget(positions)
        for position in positions:
            self._held_since.pop(position, None)
            self.metrics.held.remove(position[0], str(position[1]))

    def on_lag(self, position: Position, messages: int) -> None:
        """How far behind a partition is."""
        self.lag.behind(position, messages)

    def on_held(self, position: Position, messages: int) -> None:
        """Records wait for a producer's open transaction; told once where that lasts."""
        self.metrics.held.labels(position[0], str(position[1])).set(messages)
        if not messages:
            self._held_since.pop(position, None)
            return
        since = self._held_since.setdefault(position, self._clock())
        if self._clock() - since >= HELD_TOLD_AFTER_S:
            self._held_since[position] = math.inf
            self._log.warning("partition_held_by_transaction", topic=position[0], partition=position[1], held=messages)

    def on_lost(self, position: Position, messages: int) -> None:
        """Records went before anybody read them."""
        self.metrics.lost.labels(position[0], str(position[1])).inc(messages)

    def on_topics(self, *, fit: bool) -> None:
        """A check of the start was made again."""
        self.metrics.topics_unfit.set(0 if fit else 1)

    def on_kafka_error(self, kind: str) -> None:
        """Kafka failed; it is tried again."""
        self.metrics.kafka_errors.labels(kind).inc()

    def on_reply_topic(self, *, closed: bool) -> None:
        """A reply topic was closed, or opened again."""
        self.metrics.closed_reply_topics.inc(1 if closed else -1)
        self._log.warning("reply_topic_closed" if closed else "reply_topic_opened")


def _told(envelope: bytes, status: int) -> dict[str, object]:
    """Read out of an envelope what a line tells of it: the error's code, or the ids of what was made."""
    if status != CREATED and status < SUCCESS_BELOW:
        return {}
    data = orjson.loads(envelope)["data"]
    if status >= SUCCESS_BELOW:
        return {"error_code": data["error_code"]}
    told = {name: data[name] for name in ("mnemonic", "version_label", "customer_id") if name in data}
    return told | {"entity_id": data["id"]} if "id" in data else told


class _Budget:
    """So many a second, saved up for one second at most."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._left = per_s
        self._at = 0.0

    def take(self, now: float) -> bool:
        self._left = min(self._per_s, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
