# Generated from the contract by clients/python/generate.py: edit neither by hand.
"""The errors of the contract, a class for each error_code."""

from collections.abc import Mapping
from typing import Final

from catalog_client.errors import (
    BadRequest,
    Conflict,
    Gone,
    NotFound,
    Refused,
    TooLarge,
    Unprocessable,
    WithFields,
    WithIncident,
    WithRole,
    WithWait,
)


class BusinessRuleViolation(BadRequest):
    """400: The request is well-formed, but a rule of the domain forbids it now.

    To try again, send it under a new message_id: once what the message names is otherwise.
    """

    status = 400
    repeat = "new"
    repeat_with = "once what the message names is otherwise"


class InvalidProductCode(BadRequest):
    """400: A mnemonic that is not `^[A-Z0-9_]{1,50}$`.

    Sent again it would be refused again: put the mnemonic right.
    """

    status = 400
    repeat = None
    repeat_with = "put the mnemonic right"


class MalformedMessage(BadRequest):
    """400: Not JSON, a wrong envelope, a bad header, a missing message_id, a kind on the wrong topic.

    Sent again it would be refused again: put the message right: headers, body, or the topic it was sent to.
    """

    status = 400
    repeat = None
    repeat_with = "put the message right: headers, body, or the topic it was sent to"


class UnknownKind(BadRequest):
    """400: No such kind; the details list those served.

    Sent again it would be refused again: take one of the kinds that the details list.
    """

    status = 400
    repeat = None
    repeat_with = "take one of the kinds that the details list"


class UnsupportedVersion(BadRequest):
    """400: The kind has no such version; the details list those served.

    Sent again it would be refused again: take one of the versions that the details list.
    """

    status = 400
    repeat = None
    repeat_with = "take one of the versions that the details list"


class Unauthenticated(Refused):
    """401: No token, a bad one, or one that was not valid when the broker stamped the message.

    It may be sent again under the same message_id, with a token that is valid when the broker stamps the
    message.
    """

    status = 401
    repeat = "same"
    repeat_with = "a token that is valid when the broker stamps the message"
    repeatable = True


class Forbidden(WithRole):
    """403: The caller lacks the role that the details name.

    It may be sent again under the same message_id, with a token with the role that the details name.
    """

    status = 403
    repeat = "same"
    repeat_with = "a token with the role that the details name"
    repeatable = True


class BackfillNotFound(NotFound):
    """404: No backfill, or no change, of this name.

    To try again, send it under a new message_id: once it exists.
    """

    status = 404
    repeat = "new"
    repeat_with = "once it exists"


class CustomerNotFound(NotFound):
    """404: No living customer has this id.

    To try again, send it under a new message_id: once it exists.
    """

    status = 404
    repeat = "new"
    repeat_with = "once it exists"


class OrderNotFound(NotFound):
    """404: No order of this customer has this id.

    To try again, send it under a new message_id: once it exists.
    """

    status = 404
    repeat = "new"
    repeat_with = "once it exists"


class OutcomeNotFound(NotFound):
    """404: No outcome of this caller has this message_id.

    To try again, send it under a new message_id: later: a command that waits is not decided yet.
    """

    status = 404
    repeat = "new"
    repeat_with = "later: a command that waits is not decided yet"


class ProductNotFound(NotFound):
    """404: No product has this mnemonic or id.

    To try again, send it under a new message_id: once it exists.
    """

    status = 404
    repeat = "new"
    repeat_with = "once it exists"


class ProductVersionNotFound(NotFound):
    """404: The product has no version of this label.

    To try again, send it under a new message_id: once it exists.
    """

    status = 404
    repeat = "new"
    repeat_with = "once it exists"


class CustomerAlreadyExists(Conflict):
    """409: The e-mail or the given id is taken.

    To try again, send it under a new message_id: another name, address or id, or nothing: it may be your own of
    before.
    """

    status = 409
    repeat = "new"
    repeat_with = "another name, address or id, or nothing: it may be your own of before"


class IllegalTransition(Conflict):
    """409: The state machine has no such edge; the details list the legal ones.

    To try again, send it under a new message_id: once the state allows it; the details list where it leads.
    """

    status = 409
    repeat = "new"
    repeat_with = "once the state allows it; the details list where it leads"


class MessageIdReused(Conflict):
    """409: This caller used the message_id before, for other content.

    To try again, send it under a new message_id: an id of its own for each request.
    """

    status = 409
    repeat = "new"
    repeat_with = "an id of its own for each request"


class OrderAlreadyExists(Conflict):
    """409: The given order id is taken.

    To try again, send it under a new message_id: another name, address or id, or nothing: it may be your own of
    before.
    """

    status = 409
    repeat = "new"
    repeat_with = "another name, address or id, or nothing: it may be your own of before"


class OverlappingDateRange(Conflict):
    """409: The version would overlap another one, which the details name.

    To try again, send it under a new message_id: dates that are free.
    """

    status = 409
    repeat = "new"
    repeat_with = "dates that are free"


class ProductAlreadyExists(Conflict):
    """409: The mnemonic is taken.

    To try again, send it under a new message_id: another name, address or id, or nothing: it may be your own of
    before.
    """

    status = 409
    repeat = "new"
    repeat_with = "another name, address or id, or nothing: it may be your own of before"


class ProductVersionAlreadyExists(Conflict):
    """409: The product has a version of this label.

    To try again, send it under a new message_id: another name, address or id, or nothing: it may be your own of
    before.
    """

    status = 409
    repeat = "new"
    repeat_with = "another name, address or id, or nothing: it may be your own of before"


class VersionConflict(Conflict):
    """409: `expected_version` is not the version that is stored.

    To try again, send it under a new message_id: the version that is stored now, after a look at what it says.
    """

    status = 409
    repeat = "new"
    repeat_with = "the version that is stored now, after a look at what it says"


class OutcomeErased(Gone):
    """410: The outcome held data of a customer deleted since; its id stays used.

    Sent again it would be refused again: nothing: it took effect, and what it spoke of is deleted.
    """

    status = 410
    repeat = None
    repeat_with = "nothing: it took effect, and what it spoke of is deleted"


class OutcomeExpired(Gone):
    """410: The message is older than the outcomes that are kept: applying it might do it twice.

    To try again, send it under a new message_id: after a look at whether it took effect: nobody remembers.
    """

    status = 410
    repeat = "new"
    repeat_with = "after a look at whether it took effect: nobody remembers"


class VersionRemoved(Gone):
    """410: The version is past its sunset, and refusing is switched on.

    To try again, send it under a new message_id: a newer version of the kind.
    """

    status = 410
    repeat = "new"
    repeat_with = "a newer version of the kind"


class MessageTooLarge(TooLarge):
    """413: The body or the headers exceed their limit.

    Sent again it would be refused again: make it smaller, or several of it.
    """

    status = 413
    repeat = None
    repeat_with = "make it smaller, or several of it"


class ResponseTooLarge(TooLarge):
    """413: The reply exceeds its limit; a command's effect stands.

    Sent again it would be refused again: ask for less at once; a command took effect.
    """

    status = 413
    repeat = None
    repeat_with = "ask for less at once; a command took effect"


class BusinessRuleError(Unprocessable):
    """422: A rule cannot be used: it is no valid schema, or cannot be evaluated within its bounds.

    To try again, send it under a new message_id: once the rules are put right.
    """

    status = 422
    repeat = "new"
    repeat_with = "once the rules are put right"


class QueryTooExpensive(Unprocessable):
    """422: The query alone takes more than its share of the database, or of CPU; the details say what to ask
    instead.

    Sent again it would be refused again: ask what the details name instead.
    """

    status = 422
    repeat = None
    repeat_with = "ask what the details name instead"


class ValidationFailed(WithFields):
    """422: One or more fields of the payload are wrong; the details name each.

    Sent again it would be refused again: put the fields right that the details name.
    """

    status = 422
    repeat = None
    repeat_with = "put the fields right that the details name"


class RateLimited(WithWait):
    """429: The caller's window is full; `retry_after_ms` says when it has room again.

    It may be sent again under the same message_id, with nothing else, `retry_after_ms` later.
    """

    status = 429
    repeat = "same"
    repeat_with = "nothing else, `retry_after_ms` later"
    repeatable = True


class InternalError(WithIncident):
    """500: A defect of ours. The incident id is in the log, too; the message is dead-lettered and may be sent
    again.

    It may be sent again under the same message_id, with nothing else, after a while; where it is `parked`, the
    answer comes by itself.
    """

    status = 500
    repeat = "same"
    repeat_with = "nothing else, after a while; where it is `parked`, the answer comes by itself"
    repeatable = True


class DeadlineExceeded(Refused):
    """504: The caller's deadline had passed before the work began: nothing was done.

    It may be sent again under the same message_id, with a later deadline.
    """

    status = 504
    repeat = "same"
    repeat_with = "a later deadline"
    repeatable = True


BY_CODE: Final[Mapping[str, type[Refused]]] = {
    "BUSINESS_RULE_VIOLATION": BusinessRuleViolation,
    "INVALID_PRODUCT_CODE": InvalidProductCode,
    "MALFORMED_MESSAGE": MalformedMessage,
    "UNKNOWN_KIND": UnknownKind,
    "UNSUPPORTED_VERSION": UnsupportedVersion,
    "UNAUTHENTICATED": Unauthenticated,
    "FORBIDDEN": Forbidden,
    "BACKFILL_NOT_FOUND": BackfillNotFound,
    "CUSTOMER_NOT_FOUND": CustomerNotFound,
    "ORDER_NOT_FOUND": OrderNotFound,
    "OUTCOME_NOT_FOUND": OutcomeNotFound,
    "PRODUCT_NOT_FOUND": ProductNotFound,
    "PRODUCT_VERSION_NOT_FOUND": ProductVersionNotFound,
    "CUSTOMER_ALREADY_EXISTS": CustomerAlreadyExists,
    "ILLEGAL_TRANSITION": IllegalTransition,
    "MESSAGE_ID_REUSED": MessageIdReused,
    "ORDER_ALREADY_EXISTS": OrderAlreadyExists,
    "OVERLAPPING_DATE_RANGE": OverlappingDateRange,
    "PRODUCT_ALREADY_EXISTS": ProductAlreadyExists,
    "PRODUCT_VERSION_ALREADY_EXISTS": ProductVersionAlreadyExists,
    "VERSION_CONFLICT": VersionConflict,
    "OUTCOME_ERASED": OutcomeErased,
    "OUTCOME_EXPIRED": OutcomeExpired,
    "VERSION_REMOVED": VersionRemoved,
    "MESSAGE_TOO_LARGE": MessageTooLarge,
    "RESPONSE_TOO_LARGE": ResponseTooLarge,
    "BUSINESS_RULE_ERROR": BusinessRuleError,
    "QUERY_TOO_EXPENSIVE": QueryTooExpensive,
    "VALIDATION_FAILED": ValidationFailed,
    "RATE_LIMITED": RateLimited,
    "INTERNAL_ERROR": InternalError,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
}
