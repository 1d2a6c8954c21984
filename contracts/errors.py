"""Every way in which a request can be told "no": one class each, its statusCode and error_code named once, here.

Whether an error is *stored* as the outcome of a command does not follow from its class but from the step that answered:
what a use case returns is stored, what is refused before it is not (see `workers.pipeline`).
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, Literal, NamedTuple

from contracts import messages


class Repeat(NamedTuple):
    """Whether a request that was refused may be sent once more, under which message_id, and with what.

    A query has no outcome: whatever id is named here, it may be asked again.
    """

    message_id: Literal["same", "new"] | None
    """`same`: nothing was kept of the refusal, the very same message may be sent again. `new`: the refusal is the
    outcome of its id; another try is another request. None: it would be refused again."""
    needs: str
    """What has to be otherwise; of None: what to do instead."""


class CatalogError(Exception):
    """The root: a message for people, a code for programs, details for both.

    Use cases return errors inside `handlers.result.Failure`; they raise none for a business reason.
    """

    status_code: ClassVar[int] = 500
    error_code: ClassVar[str] = "INTERNAL_ERROR"
    repeat: ClassVar[Repeat] = Repeat("same", "nothing else, after a while")

    def __init__(self, message: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, object] = details or {}

    @property
    def summary(self) -> str:
        """The message as dead letters tell it: without any name that the sender chose, which may be personal."""
        return self.message


class MalformedMessageError(CatalogError):
    """Not JSON, a wrong envelope, a bad header, a missing message_id, a kind on the wrong topic."""

    status_code = 400
    error_code = "MALFORMED_MESSAGE"
    repeat = Repeat(None, "put the message right: headers, body, or the topic it was sent to")


class UnknownKindError(CatalogError):
    """No such kind; the details list those served."""

    status_code = 400
    error_code = "UNKNOWN_KIND"
    repeat = Repeat(None, "take one of the kinds that the details list")

    @property
    def summary(self) -> str:
        return "The kind is not known"


class UnsupportedVersionError(CatalogError):
    """The kind has no such version; the details list those served."""

    status_code = 400
    error_code = "UNSUPPORTED_VERSION"
    repeat = Repeat(None, "take one of the versions that the details list")


class InvalidProductCodeError(CatalogError):
    """A mnemonic that is not `^[A-Z0-9_]{1,50}$`."""

    status_code = 400
    error_code = "INVALID_PRODUCT_CODE"
    repeat = Repeat(None, "put the mnemonic right")


class BusinessRuleViolationError(CatalogError):
    """The request is well-formed, but a rule of the domain forbids it now."""

    status_code = 400
    error_code = "BUSINESS_RULE_VIOLATION"
    repeat = Repeat("new", "once what the message names is otherwise")


class UnauthenticatedError(CatalogError):
    """No token, a bad one, or one that was not valid when the broker stamped the message."""

    status_code = 401
    error_code = "UNAUTHENTICATED"
    repeat = Repeat("same", "a token that is valid when the broker stamps the message")


class ForbiddenError(CatalogError):
    """The caller lacks the role that the details name."""

    status_code = 403
    error_code = "FORBIDDEN"
    repeat = Repeat("same", "a token with the role that the details name")


class NotFoundError(CatalogError):
    """The thing named does not exist (any more)."""

    status_code = 404
    repeat = Repeat("new", "once it exists")


class CustomerNotFoundError(NotFoundError):
    """No living customer has this id."""

    error_code = "CUSTOMER_NOT_FOUND"


class ProductNotFoundError(NotFoundError):
    """No product has this mnemonic or id."""

    error_code = "PRODUCT_NOT_FOUND"


class ProductVersionNotFoundError(NotFoundError):
    """The product has no version of this label."""

    error_code = "PRODUCT_VERSION_NOT_FOUND"


class OrderNotFoundError(NotFoundError):
    """No order of this customer has this id."""

    error_code = "ORDER_NOT_FOUND"


class OutcomeNotFoundError(NotFoundError):
    """No outcome of this caller has this message_id."""

    error_code = "OUTCOME_NOT_FOUND"
    repeat = Repeat("new", "later: a command that waits is not decided yet")


class BackfillNotFoundError(NotFoundError):
    """No backfill, or no change, of this name."""

    error_code = "BACKFILL_NOT_FOUND"


class AlreadyTakenError(CatalogError):
    """The request collides with what exists."""

    status_code = 409
    repeat = Repeat("new", "another name, address or id, or nothing: it may be your own of before")


class CustomerAlreadyExistsError(AlreadyTakenError):
    """The e-mail or the given id is taken."""

    error_code = "CUSTOMER_ALREADY_EXISTS"


class ProductAlreadyExistsError(AlreadyTakenError):
    """The mnemonic is taken."""

    error_code = "PRODUCT_ALREADY_EXISTS"


class ProductVersionAlreadyExistsError(AlreadyTakenError):
    """The product has a version of this label."""

    error_code = "PRODUCT_VERSION_ALREADY_EXISTS"


class OrderAlreadyExistsError(AlreadyTakenError):
    """The given order id is taken."""

    error_code = "ORDER_ALREADY_EXISTS"


class OverlappingDateRangeError(AlreadyTakenError):
    """The version would overlap another one, which the details name."""

    error_code = "OVERLAPPING_DATE_RANGE"
    repeat = Repeat("new", "dates that are free")


class VersionConflictError(AlreadyTakenError):
    """`expected_version` is not the version that is stored."""

    error_code = "VERSION_CONFLICT"
    repeat = Repeat("new", "the version that is stored now, after a look at what it says")


class IllegalTransitionError(AlreadyTakenError):
    """The state machine has no such edge; the details list the legal ones."""

    error_code = "ILLEGAL_TRANSITION"
    repeat = Repeat("new", "once the state allows it; the details list where it leads")


class MessageIdReusedError(AlreadyTakenError):
    """This caller used the message_id before, for other content."""

    error_code = "MESSAGE_ID_REUSED"
    repeat = Repeat("new", "an id of its own for each request")


class GoneError(CatalogError):
    """It was there once; it never comes back."""

    status_code = 410


class VersionRemovedError(GoneError):
    """The version is past its sunset, and refusing is switched on."""

    error_code = "VERSION_REMOVED"
    repeat = Repeat("new", "a newer version of the kind")


class OutcomeErasedError(GoneError):
    """The outcome held data of a customer deleted since; its id stays used."""

    error_code = "OUTCOME_ERASED"
    repeat = Repeat(None, "nothing: it took effect, and what it spoke of is deleted")


class OutcomeExpiredError(GoneError):
    """The message is older than the outcomes that are kept: applying it might do it twice."""

    error_code = "OUTCOME_EXPIRED"
    repeat = Repeat("new", "after a look at whether it took effect: nobody remembers")


class MessageTooLargeError(CatalogError):
    """The body or the headers exceed their limit."""

    status_code = 413
    error_code = "MESSAGE_TOO_LARGE"
    repeat = Repeat(None, "make it smaller, or several of it")


class ResponseTooLargeError(CatalogError):
    """The reply exceeds its limit; a command's effect stands."""

    status_code = 413
    error_code = "RESPONSE_TOO_LARGE"
    repeat = Repeat(None, "ask for less at once; a command took effect")


class BusinessRuleError(CatalogError):
    """A rule cannot be used: it is no valid schema, or cannot be evaluated within its bounds."""

    status_code = 422
    error_code = "BUSINESS_RULE_ERROR"
    repeat = Repeat("new", "once the rules are put right")


class QueryTooExpensiveError(CatalogError):
    """The query alone takes more than its share of the database, or of CPU; the details say what to ask instead."""

    status_code = 422
    error_code = "QUERY_TOO_EXPENSIVE"
    repeat = Repeat(None, "ask what the details name instead")


class ValidationFailedError(CatalogError):
    """One or more fields of the payload are wrong; the details name each."""

    status_code = 422
    error_code = "VALIDATION_FAILED"
    repeat = Repeat(None, "put the fields right that the details name")

    def __init__(self, errors: Sequence[Mapping[str, str]]) -> None:
        """`errors`: mappings of field (a dotted path inside the payload), message and type; at least one."""
        only = errors[0] if len(errors) == 1 else None
        super().__init__(
            messages.validation_failed(messages.plain(only["field"]), only["message"])
            if only
            else messages.REQUEST_VALIDATION_FAILED,
            {"validation_errors": list(errors)},
        )
        self._types = sorted({error["type"] for error in errors})

    @property
    def summary(self) -> str:
        return f"{messages.REQUEST_VALIDATION_FAILED}: {', '.join(self._types)}"


class RateLimitedError(CatalogError):
    """The caller's window is full; `retry_after_ms` says when it has room again."""

    status_code = 429
    error_code = "RATE_LIMITED"
    repeat = Repeat("same", "nothing else, `retry_after_ms` later")


class InternalError(CatalogError):
    """A defect of ours. The incident id is in the log, too; the message is dead-lettered and may be sent again."""

    status_code = 500
    error_code = "INTERNAL_ERROR"
    repeat = Repeat("same", "nothing else, after a while; where it is `parked`, the answer comes by itself")


class DeadlineExceededError(CatalogError):
    """The caller's deadline had passed before the work began: nothing was done."""

    status_code = 504
    error_code = "DEADLINE_EXCEEDED"
    repeat = Repeat("same", "a later deadline")


REFUSALS: Final[Sequence[type[CatalogError]]] = (
    MalformedMessageError,
    MessageTooLargeError,
    UnauthenticatedError,
    DeadlineExceededError,
    UnsupportedVersionError,
    RateLimitedError,
    ValidationFailedError,
    ResponseTooLargeError,
    InternalError,
)
"""What any request of a known kind may meet, beside `ForbiddenError` where a role is needed."""
REFUSALS_OF_COMMANDS: Final[Sequence[type[CatalogError]]] = (
    MessageIdReusedError,
    OutcomeErasedError,
    OutcomeExpiredError,
)
REFUSALS_OF_QUERIES: Final[Sequence[type[CatalogError]]] = (QueryTooExpensiveError,)
REFUSALS_OF_NO_KIND: Final[Sequence[type[CatalogError]]] = (
    MalformedMessageError,
    MessageTooLargeError,
    UnauthenticatedError,
    DeadlineExceededError,
    UnknownKindError,
    InternalError,
    *REFUSALS_OF_COMMANDS,
)
"""What is answered where the kind cannot be read, or is none."""
