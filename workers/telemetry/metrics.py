"""Every metric there is, by name. Labels come from closed sets: a caller, an id or a text of anybody's is never one."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
BATCH_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class BatchHistogram(Histogram):
    """A histogram that takes many amounts at once."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Observe each of these: one step for each bucket that any is in."""
        self._sum.inc(sum(amounts))
        ordered, below = sorted(amounts), 0
        for bound, bucket in zip(self._upper_bounds, self._buckets, strict=True):
            upto = bisect_right(ordered, bound)
            if upto > below:
                bucket.inc(upto - below)
                below = upto


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.received = self._counter("messages_received", "Deliveries decoded, by kind", "kind")
        self.ended = self._counter("messages_ended", "Deliveries answered or put aside", "kind", "end", "status_code")
        self.failures = self._counter("failures", "Defects by type of exception", "kind", "exception")
        self.deprecated = self._counter("deprecated_messages", "Uses of a deprecated version", "kind", "version")
        self.use_case_seconds = self._counter("use_case_seconds", "Time in use cases", "kind")
        self.database_seconds = self._histogram("database_seconds", "Time in the database, queries", "kind")
        self.latency = BatchHistogram(
            "catalog_latency_seconds",
            "From the broker's timestamp to the acknowledged reply",
            ("kind",),
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.step_seconds = self._histogram("step_seconds", "Time of a batch in one step of the pipeline", "step")
        self.batch_size = Histogram(
            "catalog_batch_messages", "Records in a batch", buckets=BATCH_BUCKETS, registry=self.registry
        )
        self.retries = self._counter("retries", "Steps that were tried again", "cause", "step")
        self.waiting_seconds = self._counter("waiting_seconds", "Waited for a server that was away", "server")
        self.redeliveries = self._counter("redeliveries", "Records that this process was given again")
        self.replays = self._counter("replayed_replies", "Stored envelopes sent to a later delivery", "kind")
        self.dead_letter_replays = self._counter("dead_letter_replays", "Dead letters brought back", "kind", "end")
        self.dead_letters = self._counter("dead_letters", "Dead letters published", "reason")
        self.throttled = self._counter("throttled", "Requests refused by the rate limit", "kind")
        self.rate_fallback = self._counter("rate_limit_fallbacks", "Batches limited per process, without Redis")
        self.catalogue_compared = self._counter("catalogue_compared", "Rows whose two catalogue columns were compared")
        self.catalogue_drift = self._counter("catalogue_drift", "Rows whose two catalogue columns differed")
        self.cache = self._counter("cache_reads", "Cache reads", "result")
        self.stale_risk = self._counter("cache_invalidations_delayed", "Cache keys that could not be cleared in time")
        self.lag_messages = self._gauge("lag_messages", "Records not decided yet", "topic", "partition")
        self.lag_seconds = self._gauge("lag_seconds", "Age of the oldest record not decided yet", "topic", "partition")
        self.held = self._gauge(
            "records_held", "Records behind the open transaction of a producer", "topic", "partition"
        )
        self.lost = self._counter("records_lost", "Records deleted before anybody read them", "topic", "partition")
        self.topics_unfit = self._gauge("topics_unfit", "1 where a check of the start fails while running")
        self.acks = self._counter("acks", "Offset commits", "ok")
        self.rebalances = self._counter("rebalances", "Rebalances")
        self.rebalance_seconds = self._histogram("rebalance_seconds", "From a revocation to the next assignment")
        self.revoke_seconds = self._histogram("revoke_seconds", "Draining on a revocation")
        self.partitions = self._gauge("assigned_partitions", "Partitions that are ours")
        self.kafka_errors = self._counter("kafka_errors", "Kafka failures that are tried again", "error")
        self.given_back = self._counter("messages_given_back", "Records fetched again later")
        self.closed_reply_topics = self._gauge("closed_reply_topics", "Reply topics that take nothing")
        self.pool_in_use = self._gauge("database_connections_in_use", "Connections in use", "pool")
        self.pool_limit = self._gauge("database_connections_limit", "Connections that may be in use", "pool")
        self.purged_outcomes = self._counter("purged_outcomes", "Outcomes deleted after their retention")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"catalog_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"catalog_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"catalog_{name}", text, labels, buckets=LATENCY_BUCKETS, registry=self.registry)
