"""Ask for what became of an earlier command."""

from collections.abc import Sequence

import orjson

from contracts import messages
from contracts.envelope import failure, retrieved
from contracts.errors import OutcomeErasedError, OutcomeNotFoundError
from contracts.outcomes import RESOURCE, GetOutcome
from handlers.queries.asked import Asked
from handlers.readers import Readers
from handlers.result import Failure, Result, Success


def outcome_erased(message_id: str) -> OutcomeErasedError:
    """Say that the outcome held data of a customer deleted since."""
    return OutcomeErasedError(
        f"{RESOURCE} with message_id '{message_id}' was erased with the customer it spoke of",
        {"message_id": message_id},
    )


async def get_outcomes(asked: Sequence[Asked[GetOutcome]], readers: Readers) -> Sequence[Result]:
    """200 with the stored envelope as data, to its own caller; 404 to everybody else."""
    found = await readers.outcomes.get_many([(one.context.caller, one.query.message_id) for one in asked])
    answers: list[Result] = []
    for one in asked:
        message_id = one.query.message_id
        outcome = found.get((one.context.caller, message_id))
        if outcome is None:
            answers.append(
                Failure(
                    OutcomeNotFoundError(
                        messages.not_found(RESOURCE, "message_id", message_id), {"message_id": message_id}
                    )
                )
            )
        else:
            envelope = outcome.envelope or failure(outcome_erased(message_id)).encode()
            answers.append(Success(retrieved(RESOURCE, orjson.Fragment(envelope))))
    return answers
