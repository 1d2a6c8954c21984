"""Outcomes on the wire: a caller may ask for what became of its own command."""

from contracts.fields import MessageId
from contracts.kinds import Kind, Payload, Role, Version

RESOURCE = "Outcome"


class GetOutcome(Payload):
    """Ask for the stored envelope of an earlier command of the same caller."""

    message_id: MessageId


QUERIES = (Kind("get_outcome", "queries", Role.ANYONE, RESOURCE, "read", (Version(1, GetOutcome),)),)
