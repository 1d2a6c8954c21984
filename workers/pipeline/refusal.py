"""The step `refuse`: everything that can be said against a message once the store was asked.

Its order is the contract's: age, deadline, kind and version, role, rate, payload. Only the rate asks another server,
once a batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from contracts import messages
from contracts.errors import (
    CatalogError,
    DeadlineExceededError,
    ForbiddenError,
    OutcomeExpiredError,
    RateLimitedError,
    UnknownKindError,
    UnsupportedVersionError,
    VersionRemovedError,
)
from contracts.kinds import ROLES_THAT_MAY, Kind, Role
from handlers.context import Context
from persistence.log_positions import DecidedBefore
from workers.admission.rate import Charge, RateLimit
from workers.pipeline.delivery import Delivery
from workers.pipeline.ends import Refused
from workers.pipeline.fair_share import LoopShare
from workers.pipeline.replays import Replay
from workers.ports import Position

Clock = Callable[[], float]
"""Seconds since the epoch, by this worker's clock."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Judges deliveries; whoever is left without an end may go on."""

    kinds: Mapping[str, Kind]
    rate_limit: RateLimit
    clock: Clock
    new_id: Callable[[], str]
    refuse_sunset_versions: bool
    decided_before: Mapping[Position, DecidedBefore] = field(default_factory=dict)
    """What had been decided, and is decided again after a restore."""

    async def refuse(self, deliveries: Sequence[Delivery], mark: datetime | None = None) -> None:
        """Judge all deliveries that have no end yet; `mark` is the purge mark of the outcomes."""
        if mark is not None:
            self.expire(deliveries, mark)
        for delivery in deliveries:
            if delivery.end is None and (error := self.too_late(delivery) or self._not_served(delivery)):
                delivery.come_to(Refused(error))
        await self._charge([one for one in deliveries if one.end is None and not isinstance(one.replay, Replay)])
        loop = LoopShare()
        for delivery in deliveries:
            if delivery.end is None and delivery.request is not None:
                is_large = delivery.request.is_large
                payload_json = delivery.request.payload_json
                if is_large:
                    await loop.give_back()
                self._read_payload(delivery, payload_json)
                if loop.is_due():
                    await loop.give_back()

    def expire(self, deliveries: Sequence[Delivery], mark: datetime) -> None:
        """Refuse, and dead-letter, what was stamped before the purge mark: its outcome may have been purged."""
        mark_ms = mark.timestamp() * 1000
        for delivery in deliveries:
            if delivery.end is None and delivery.stamped_ms < mark_ms:
                error = OutcomeExpiredError(
                    "The message is older than the outcomes that are kept", {"kept_since": mark.isoformat()}
                )
                delivery.come_to(Refused(error, dead_letter=True))

    def too_late(self, delivery: Delivery) -> CatalogError | None:
        """Say whether the caller's deadline has passed, by this worker's clock."""
        deadline_ms = delivery.headers.deadline_ms
        if deadline_ms is None or self.clock() * 1000 <= deadline_ms or self._was_decided(delivery):
            return None
        return DeadlineExceededError("The deadline has passed; nothing was done", {"deadline": deadline_ms})

    def _was_decided(self, delivery: Delivery) -> bool:
        """Tell whether a restore brought the message back: it was in time when its caller was answered."""
        record = delivery.record
        before = self.decided_before.get((record.topic, record.partition))
        return before is not None and record.offset < before.offset and delivery.stamped_at < before.stamped_before

    def _not_served(self, delivery: Delivery) -> CatalogError | None:
        assert delivery.request is not None
        assert delivery.identity is not None
        request, kind, version = delivery.request, delivery.kind, delivery.version
        if kind is None:
            return UnknownKindError(
                f"Kind '{messages.plain(request.kind)}' is not known",
                {"kinds": sorted(self.kinds), "kind": request.kind[:100]},
            )
        if version is None:
            return UnsupportedVersionError(
                f"Kind '{kind.name}' has no version {request.version}",
                {"kind": kind.name, "versions": [one.number for one in kind.versions]},
            )
        if self.refuse_sunset_versions and version.sunset_on and _day(delivery) >= version.sunset_on:
            return VersionRemovedError(
                messages.deprecated(version.alternative or f"version {kind.newest.number}"),
                {"kind": kind.name, "version": version.number, "sunset": version.sunset_on.isoformat()},
            )
        if kind.role is not Role.ANYONE and not ROLES_THAT_MAY[kind.role] & delivery.identity.roles:
            return ForbiddenError(
                messages.unauthorized(kind.action, kind.resource), {"required_role": kind.role.value, "kind": kind.name}
            )
        return None

    async def _charge(self, deliveries: Sequence[Delivery]) -> None:
        charges = [
            Charge(
                delivery.identity.caller if delivery.identity else "",
                delivery.record.timestamp,
                delivery.record.topic,
                delivery.record.partition,
                delivery.record.offset,
            )
            for delivery in deliveries
        ]
        if not charges:
            return
        for delivery, verdict in zip(deliveries, await self.rate_limit.admit(charges), strict=True):
            if not verdict.allowed:
                delivery.come_to(
                    Refused(
                        RateLimitedError(
                            "Too many requests",
                            {
                                "retry_after_ms": verdict.retry_after_ms,
                                "limit": verdict.limit,
                                "window_s": verdict.window_s,
                            },
                        )
                    )
                )

    def _read_payload(self, delivery: Delivery, payload_json: bytes) -> None:
        assert delivery.identity is not None
        assert delivery.kind is not None
        assert delivery.version is not None
        try:
            delivery.payload = payload = delivery.kind.read(delivery.version, payload_json)
        except CatalogError as error:
            delivery.come_to(Refused(error))
        else:
            delivery.keys = delivery.kind.keys(payload)
            delivery.context = Context(
                delivery.stamped_at,
                self.new_id,
                delivery.identity.caller,
                is_operator=Role.OPERATOR in delivery.identity.roles,
            )


def _day(delivery: Delivery) -> date:
    return delivery.stamped_at.astimezone(UTC).date()
