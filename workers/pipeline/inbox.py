"""What the store knows of a batch's messages: whoever has an outcome gets that, and is not applied again."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from contracts.errors import MessageIdReusedError
from handlers.queries.outcomes import outcome_erased
from persistence.engine import Engine
from persistence.outcomes import Known, LookUp, look_up
from workers.pipeline.batch import Batch
from workers.pipeline.delivery import Identified, Pending
from workers.pipeline.ends import Refused, Repeated
from workers.pipeline.fair_share import LoopShare
from workers.pipeline.intake import Intake
from workers.pipeline.observer import Observer
from workers.pipeline.outages import Outages
from workers.pipeline.refusal import expire


@dataclass(frozen=True, slots=True)
class Inbox:
    """Asks the store; a look-up takes no lock, so that another worker may be first all the same."""

    engine: Engine
    intake: Intake
    observer: Observer
    outages: Outages
    new_incident: Callable[[], str]

    async def look_up(self, batch: Batch) -> None:
        """Ask for all; a message that has an outcome gets it, whatever could be said against it now."""
        batch.known = await self._find([one for one in batch.asking if one.delivery.end is None])

    async def look_again(self, batch: Batch, part: Sequence[Pending]) -> None:
        """Ask once more: another worker may have been first, or the purge mark may have moved."""
        undecided = batch.undecided(part)
        if undecided:
            batch.known = await self._find([one.identified for one in undecided])
            expire((one.delivery for one in part), batch.known.mark)

    async def confirm(self, batch: Batch) -> None:
        """Ask once more before a caller hears that nothing was done, for having come late or to wait.

        A worker that was stopped after its first look may find that another one has applied it meanwhile.
        """
        unsure = [
            (one, one.delivery.end)
            for one in batch.asking
            if one.delivery.consequences is not None and one.delivery.consequences.is_unsure
        ]
        if not unsure:
            return
        for one, _ in unsure:
            one.delivery.reopen()
        await self._find([one for one, _ in unsure])
        for one, end in unsure:
            if one.delivery.end is None and end is not None:
                one.delivery.come_to(end)

    async def _find(self, asking: Iterable[Identified]) -> LookUp:
        found = await self._read(list({one.key for one in asking}))
        loop = LoopShare()
        for one in asking if found.known else ():
            if stored := found.known.get(one.key):
                one.delivery.stored_subjects = stored.subjects
                self._compare(one, stored)
                if loop.is_due():
                    await loop.give_back()
        return found

    async def _read(self, keys: Sequence[tuple[str, str]]) -> LookUp:
        while True:
            try:
                with self.observer.step("look_up"):
                    return await look_up(self.engine, keys)
            except Exception as error:  # noqa: BLE001 - sorted there
                self.outages.unless_it_passes(error, "look_up")

    def _compare(self, one: Identified, stored: Known) -> None:
        try:
            one.delivery.come_to(self.repeat(one, stored))
        except Exception as error:  # noqa: BLE001 - a defect of ours costs this message alone
            one.delivery.break_on(error, self.new_incident())

    def repeat(self, one: Identified, stored: Known) -> Repeated | Refused:
        """Answer from the store: the same envelope for the same content, 409 for other content, 410 if erased."""
        message_id = one.delivery.headers.message_id or ""
        if stored.envelope is None or stored.content_hmac is None:
            return Refused(outcome_erased(message_id))
        if not self.intake.is_of(one, stored.content_hmac):
            text = f"Message id '{message_id}' was used before, for other content"
            return Refused(MessageIdReusedError(text, {"message_id": message_id}))
        return Repeated(stored.envelope, stored.cache_keys)
