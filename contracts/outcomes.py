"""Outcomes on the wire: a caller may ask for what became of its own command."""

from dataclasses import dataclass
from typing import Final

from contracts.customers import ADA_ID
from contracts.envelope import EnvelopeType, retrieved
from contracts.errors import OutcomeNotFoundError
from contracts.fields import MessageId
from contracts.kinds import Kind, Payload, Role, Version, example_message_id

RESOURCE: Final = "Outcome"


class GetOutcome(Payload):
    """Ask for the stored envelope of an earlier command of the same caller."""

    message_id: MessageId


@dataclass(frozen=True, slots=True)
class OutcomeResult:
    """The envelope that answered the command; OUTCOME_ERASED where it spoke of a customer deleted since."""

    statusCode: int  # noqa: N815 - as it stands on the wire
    message: str
    type: EnvelopeType
    data: object


QUERIES = (
    Kind(
        name="get_outcome",
        description="What answered the caller's own command of this message_id: after a time-out it tells",
        topic="queries",
        role=Role.ANYONE,
        resource=RESOURCE,
        action="read",
        versions=(Version(1, GetOutcome, examples=({"message_id": example_message_id("create_customer", 1, 1)},)),),
        key=(),
        result=OutcomeResult,
        reply=retrieved(
            RESOURCE, OutcomeResult(201, f"Customer '{ADA_ID}' created successfully", "success", {"id": ADA_ID})
        ),
        errors=(OutcomeNotFoundError,),
        needs=("create_customer",),
    ),
)
