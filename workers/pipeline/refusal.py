"""The step `refuse`: everything that can be said against a message once the store was asked.

Its order is the contract's: age, deadline, kind and version, role, rate, payload. Only the rate asks another server,
once a batch.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final

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
from contracts.kinds import ROLES_THAT_MAY, Kind, Payload, Role, Version
from handlers.context import Context
from persistence.blocks import NONE, Blocks
from persistence.log_positions import DecidedBefore
from workers.admission.rate import Charge, RateLimit
from workers.pipeline.delivery import Admitted, Delivery, Identified
from workers.pipeline.ends import Refused
from workers.pipeline.fair_share import LoopShare
from workers.ports import Position

BLOCKED_RETRY_MS: Final = 60_000
"""When a blocked caller should look again: nobody knows when an operator takes it back."""

Clock = Callable[[], float]
"""Seconds since the epoch, by this worker's clock."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Judges requests of callers who are known; whoever is left without an end is admitted."""

    kinds: Mapping[str, Kind]
    rate_limit: RateLimit
    clock: Clock
    new_id: Callable[[], str]
    refuse_sunset_versions: bool
    decided_before: Mapping[Position, DecidedBefore] = field(default_factory=dict)
    """What had been decided, and is decided again after a restore."""

    async def refuse(
        self, asking: Sequence[Identified], mark: datetime | None = None, blocks: Blocks = NONE
    ) -> list[Admitted]:
        """Judge all that have no end yet; `mark` is the purge mark of the outcomes. Returns those that may go on."""
        if mark is not None:
            expire((one.delivery for one in asking), mark)
        served: list[_Served] = []
        for one in asking:
            if one.delivery.end is None:
                found = self._serve(one)
                if isinstance(found, CatalogError):
                    one.delivery.come_to(Refused(found))
                else:
                    served.append(found)
        if blocks:
            _block(served, blocks)
        charged = [one for one, _, _ in served if one.delivery.replay is None]
        await self._charge([one for one in charged if one.delivery.end is None] if blocks else charged)
        admitted, loop = [], LoopShare()
        for one, kind, version in served:
            if one.delivery.end is not None:
                continue
            try:
                is_large, payload_json = one.request.is_large, one.request.payload_json
                if is_large:
                    await loop.give_back()
                admitted.append(self._admit(one, kind, kind.read(version, payload_json)))
            except CatalogError as error:
                one.delivery.come_to(Refused(error))
            except Exception as error:  # noqa: BLE001 - a defect of ours costs this message alone
                one.delivery.break_on(error, self.new_id())
            if loop.is_due():
                await loop.give_back()
        return admitted

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

    def _serve(self, one: Identified) -> "_Served | CatalogError":
        """Say what is asked for, or why it is not served: late, unknown, gone, or not for this caller."""
        delivery, request = one.delivery, one.request
        if late := self.too_late(delivery):
            return late
        kind, version = delivery.kind, delivery.version
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
        if kind.role is not Role.ANYONE and ROLES_THAT_MAY[kind.role].isdisjoint(one.identity.roles):
            return ForbiddenError(
                messages.unauthorized(kind.action, kind.resource), {"required_role": kind.role.value, "kind": kind.name}
            )
        return one, kind, version

    async def _charge(self, asking: Sequence[Identified]) -> None:
        """Refuse those whose callers have asked too often."""
        charges = [
            Charge(one.identity.caller, record.timestamp, record.topic, record.partition, record.offset)
            for one in asking
            for record in (one.delivery.record,)
        ]
        if not charges:
            return
        for one, answer in zip(asking, await self.rate_limit.admit(charges), strict=True):
            if not answer.allowed:
                one.delivery.come_to(
                    Refused(
                        RateLimitedError(
                            "Too many requests",
                            {
                                "retry_after_ms": answer.retry_after_ms,
                                "limit": answer.limit,
                                "window_s": answer.window_s,
                            },
                        )
                    )
                )

    def _admit(self, one: Identified, kind: Kind, payload: Payload) -> Admitted:
        delivery, identity = one.delivery, one.identity
        delivery.payload = payload
        is_operator = Role.OPERATOR in identity.roles
        context = Context(delivery.stamped_at, self.new_id, identity.caller, is_operator=is_operator)
        return Admitted(delivery, one.key, one, kind, payload, kind.keys(payload), context)


_Served = tuple[Identified, Kind, Version]
"""Somebody who may ask for a version of a kind."""


def _block(served: Iterable[_Served], blocks: Blocks) -> None:
    """Refuse whom operators block, and what; but not what was put aside before, and comes back by their own will."""
    for one, kind, _ in served:
        delivery = one.delivery
        if delivery.replay is None and not delivery.is_recalled and blocks.stops(one.identity.caller, kind.name):
            details = {"retry_after_ms": BLOCKED_RETRY_MS, "blocked": True}
            delivery.come_to(Refused(RateLimitedError("An operator has blocked this for now", details)))


def expire(deliveries: Iterable[Delivery], mark: datetime) -> None:
    """Refuse, and dead-letter, what was stamped before the purge mark: its outcome may have been purged."""
    mark_ms = mark.timestamp() * 1000
    for delivery in deliveries:
        if delivery.end is None and delivery.stamped_ms < mark_ms:
            error = OutcomeExpiredError(
                "The message is older than the outcomes that are kept", {"kept_since": mark.isoformat()}
            )
            delivery.come_to(Refused(error, dead_letter=True))


def _day(delivery: Delivery) -> date:
    return delivery.stamped_at.astimezone(UTC).date()
